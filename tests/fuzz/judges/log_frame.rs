//! What stands in a segment or beside it, after a crash or a hand that had no business there.

use chancery::log::checkpoint::Checkpoint;
use chancery::log::note::Note;
use chancery::log::record::Record;
use chancery::log::segment::{Header, parse_frame};

/// True if anything the log or its neighbours hold was in it.
pub(crate) fn judge(data: &[u8]) -> bool {
    let mut any = Header::parse(data).is_ok();
    if let Ok(frame) = parse_frame(data) {
        assert!(frame.octets() <= data.len());
        any |= Record::decode(frame.payload).is_ok();
    }
    // Without a frame, whose checksum the fuzzer would rarely guess.
    any |= Record::decode(data).is_ok();
    any |= Note::parse(data).is_ok();
    if let Ok(text) = std::str::from_utf8(data) {
        any |= Checkpoint::parse_text(text).is_ok();
    }
    any
}
