//! What stands in a segment or beside it, after a crash or a hand that had no business there.

#![no_main]

use chancery::log::checkpoint::Checkpoint;
use chancery::log::note::Note;
use chancery::log::record::Record;
use chancery::log::segment::{Header, parse_frame};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = Header::parse(data);
    if let Ok(frame) = parse_frame(data) {
        assert!(frame.octets() <= data.len());
        let _ = Record::decode(frame.payload);
    }
    // Without a frame, whose checksum the fuzzer would rarely guess.
    let _ = Record::decode(data);
    let _ = Note::parse(data);
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = Checkpoint::parse_text(text);
    }
});
