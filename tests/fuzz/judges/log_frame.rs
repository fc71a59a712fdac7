//! What stands in a segment or beside it, after a crash or a hand that had no business there.

use chancery::log::checkpoint::Checkpoint;
use chancery::log::note::Note;
use chancery::log::record::Record;
use chancery::log::segment::{
    FRAME_HEADER, Frame, HEADER, Header, MAX_FRAME, parse_frame, push_frame,
};

/// True if anything the log or its neighbours hold was in it.
pub(crate) fn judge(data: &[u8]) -> bool {
    let mut any = false;
    if let Ok(header) = Header::parse(data) {
        // There is one way to write each.
        assert_eq!(header.encode(), data[..HEADER as usize]);
        any = true;
    }
    if let Ok(frame) = parse_frame(data) {
        assert!(frame.octets() <= data.len());
        let mut again = Vec::new();
        push_frame(&mut again, frame.durable, frame.payload);
        assert_eq!(again, data[..frame.octets()]);
        any |= record(frame.payload);
    }
    // Framed here, since the checksum of a frame would rarely be guessed.
    if (1..=MAX_FRAME - FRAME_HEADER).contains(&data.len()) {
        let mut framed = Vec::new();
        push_frame(&mut framed, 7, data);
        assert_eq!(parse_frame(&framed), Ok(Frame { durable: 7, payload: data }));
        framed.pop();
        assert!(parse_frame(&framed).is_err());
    }
    any |= record(data);
    any |= Note::parse(data).is_ok();
    if let Ok(text) = std::str::from_utf8(data) {
        any |= Checkpoint::parse_text(text).is_ok();
    }
    any
}

fn record(payload: &[u8]) -> bool {
    let Ok(record) = Record::decode(payload) else { return false };
    assert_eq!(Record::decode(&record.encode().unwrap()).as_ref(), Ok(&record));
    true
}
