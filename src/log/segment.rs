//! Frames in a preallocated segment file.
//!
//! ```text
//! segment   = header frame* zero*
//! header    = "CHANCLOG" version:u16 zero:u16 first-leaf:u64 base:u64 origin:32 crc:u32     64 octets
//! frame     = length:u32 crc:u32 durable:u64 payload:length                           16 + length
//! ```
//!
//! Integers are little-endian. `base` is the log offset of the first frame: offsets count the octets
//! of frames from the log's first, headers and zero tails left out, so they run on over segments.
//! `origin` is SHA-256 over the log's origin. A header's `crc` is CRC-32C over the 60 octets before
//! it; a frame's is CRC-32C over length, durable and payload. `durable` is the log offset below which
//! everything was durable when the frame was written. A length of zero is no frame.
//!
//! A segment gets its name only after its header is durable, and is created only after everything
//! in the segments before it is: so its `base`, too, states what was durable.

use std::fmt;

use super::record::MAX_LEAF;
use super::tree::{Hash, sha256};
use crate::env::DiskFile;

/// Octets of a segment's header.
pub const HEADER: u64 = 64;
/// Octets of a frame before its payload.
pub const FRAME_HEADER: usize = 16;
/// Octets of the largest frame.
pub const MAX_FRAME: usize = FRAME_HEADER + MAX_LEAF;

const MAGIC: &[u8; 8] = b"CHANCLOG";
const VERSION: u16 = 1;
const SUFFIX: &str = ".seg";

/// What a segment says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Index of the first record in it.
    pub first_leaf: u64,
    /// Log offset of its first frame.
    pub base: u64,
    /// `origin_hash` of the log's origin.
    pub origin: Hash,
}

/// Why the first octets of a file are no header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotAHeader {
    /// Too short, other magic, or a wrong checksum.
    Damaged,
    /// A format this version cannot read.
    Version(u16),
}

/// One frame as it lies in the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame<'a> {
    /// Log offset below which everything was durable when it was written.
    pub durable: u64,
    /// The record's stored bytes; not decoded.
    pub payload: &'a [u8],
}

/// Why there is no frame here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadFrame {
    /// The length is zero: nothing was written here, or its first octets were lost.
    Empty,
    /// The length exceeds a leaf.
    Length(u32),
    /// The octets end before the frame does.
    Short,
    /// The checksum does not match.
    Checksum,
}

/// SHA-256 over a log's origin line (without line feed).
pub fn origin_hash(origin: &str) -> Hash {
    sha256(origin.as_bytes())
}

/// The file name of the segment whose first record is `first_leaf`.
pub fn file_name(first_leaf: u64) -> String {
    format!("{first_leaf:020}{SUFFIX}")
}

/// The inverse of `file_name`; `None` for any other spelling.
pub fn parse_file_name(name: &str) -> Option<u64> {
    let first_leaf = name.strip_suffix(SUFFIX)?.parse().ok()?;
    (file_name(first_leaf) == name).then_some(first_leaf)
}

impl Header {
    /// The octets at the start of the file.
    pub fn encode(&self) -> [u8; HEADER as usize] {
        let mut out = [0; HEADER as usize];
        out[..8].copy_from_slice(MAGIC);
        out[8..10].copy_from_slice(&VERSION.to_le_bytes());
        out[12..20].copy_from_slice(&self.first_leaf.to_le_bytes());
        out[20..28].copy_from_slice(&self.base.to_le_bytes());
        out[28..60].copy_from_slice(&self.origin);
        let crc = crc32c::crc32c(&out[..60]);
        out[60..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Parses the first octets of a file; what follows the header is ignored.
    pub fn parse(bytes: &[u8]) -> Result<Self, NotAHeader> {
        let header = bytes.get(..HEADER as usize).ok_or(NotAHeader::Damaged)?;
        if &header[..8] != MAGIC || crc32c::crc32c(&header[..60]) != u32_at(header, 60) {
            return Err(NotAHeader::Damaged);
        }
        let version = u16::from_le_bytes([header[8], header[9]]);
        if version != VERSION || header[10..12] != [0, 0] {
            return Err(NotAHeader::Version(version));
        }
        let mut origin = [0; 32];
        origin.copy_from_slice(&header[28..60]);
        Ok(Self { first_leaf: u64_at(header, 12), base: u64_at(header, 20), origin })
    }
}

impl Frame<'_> {
    /// Octets it occupies.
    pub fn octets(&self) -> usize {
        FRAME_HEADER + self.payload.len()
    }
}

/// Parses the frame at the start of `bytes`; what follows it is ignored.
pub fn parse_frame(bytes: &[u8]) -> Result<Frame<'_>, BadFrame> {
    let length = match bytes.get(..4) {
        Some(length) => u32_at(length, 0),
        None => return Err(BadFrame::Short),
    };
    if length == 0 {
        return Err(BadFrame::Empty);
    }
    if length as usize > MAX_LEAF {
        return Err(BadFrame::Length(length));
    }
    let frame = bytes.get(..FRAME_HEADER + length as usize).ok_or(BadFrame::Short)?;
    let (header, payload) = frame.split_at(FRAME_HEADER);
    let durable = u64_at(header, 8);
    if checksum(length, durable, payload) != u32_at(header, 4) {
        return Err(BadFrame::Checksum);
    }
    Ok(Frame { durable, payload })
}

/// Reads the one frame at this file offset, and little more; the payload.
pub fn read_frame(file: &dyn DiskFile, at: u64) -> std::io::Result<Result<Vec<u8>, BadFrame>> {
    // Most frames are shorter.
    let mut octets = vec![0; 4096];
    let mut read = file.read_at(at, &mut octets)?;
    if parse_frame(&octets[..read]) == Err(BadFrame::Short) {
        octets.resize(MAX_FRAME, 0);
        read = file.read_at(at, &mut octets)?;
    }
    Ok(parse_frame(&octets[..read]).map(|frame| frame.payload.to_vec()))
}

/// Appends a frame around `payload`, which must have 1 to 65,535 octets.
pub fn push_frame(out: &mut Vec<u8>, durable: u64, payload: &[u8]) {
    debug_assert!((1..=MAX_LEAF).contains(&payload.len()));
    let length = payload.len() as u32;
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&checksum(length, durable, payload).to_le_bytes());
    out.extend_from_slice(&durable.to_le_bytes());
    out.extend_from_slice(payload);
}

impl fmt::Display for BadFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("no frame (length zero)"),
            Self::Length(n) => write!(f, "impossible length {n}"),
            Self::Short => f.write_str("the segment ends inside the frame"),
            Self::Checksum => f.write_str("wrong checksum"),
        }
    }
}

/// Walks the frames of one segment file forward, reading in large pieces. `F` is the file, owned or
/// borrowed.
pub struct Frames<F> {
    file: F,
    /// File offset of the next frame.
    next: u64,
    buffer: Vec<u8>,
    /// File offset of the buffer's first octet.
    start: u64,
    /// Whether the buffer reaches the end of the file.
    whole: bool,
}

impl<F: std::ops::Deref<Target = dyn DiskFile>> Frames<F> {
    /// From the frame at `offset` octets from the start of the file.
    pub fn new(file: F, offset: u64) -> Self {
        Self { file, next: offset, buffer: Vec::new(), start: offset, whole: false }
    }

    /// File offset of the frame that `advance` looks at.
    pub fn offset(&self) -> u64 {
        self.next
    }

    /// The next frame, or why there is none; after that it stays where it is.
    pub fn advance(&mut self) -> std::io::Result<Result<Frame<'_>, BadFrame>> {
        if !self.whole && self.ahead().len() < MAX_FRAME {
            let mut buffer = vec![0; 4 * MAX_FRAME];
            let read = self.file.read_at(self.next, &mut buffer)?;
            self.whole = read < buffer.len();
            buffer.truncate(read);
            self.buffer = buffer;
            self.start = self.next;
        }
        let at = (self.next - self.start) as usize;
        let parsed = parse_frame(self.buffer.get(at..).unwrap_or_default());
        if let Ok(frame) = &parsed {
            self.next += frame.octets() as u64;
        }
        Ok(parsed)
    }

    fn ahead(&self) -> &[u8] {
        self.buffer.get((self.next - self.start) as usize..).unwrap_or_default()
    }
}

fn checksum(length: u32, durable: u64, payload: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&length.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(crc, &durable.to_le_bytes()), payload)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut octets = [0; 4];
    octets.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(octets)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut octets = [0; 8];
    octets.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(octets)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_header_reads_back_and_any_flipped_bit_is_seen() {
        let header = Header { first_leaf: 258, base: 77, origin: origin_hash("ca.lan/log") };
        let bytes = header.encode();
        assert_eq!(Header::parse(&bytes), Ok(header));
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::parse(&bytes), Err(NotAHeader::Damaged), "bit {bit}");
        }
        assert_eq!(Header::parse(&bytes[..63]), Err(NotAHeader::Damaged));
    }

    /// A header and a frame, for ever; docs/records.md takes them apart. `BLESS=1` writes the file if it is missing.
    #[test]
    fn golden_octets_of_header_and_frame() {
        let header = Header { first_leaf: 300, base: 70_000, origin: origin_hash("ca.lan/log") };
        let mut octets = header.encode().to_vec();
        push_frame(&mut octets, 70_000, &[6, 0xf0, 0x96, 0xb6, 0x84, 0xa0, 0x34]);
        let hex = crate::id::hex(&octets);
        let path =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/segment.hex");
        if std::env::var_os("BLESS").is_some() && !path.exists() {
            std::fs::write(&path, format!("{hex}\n")).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap().trim_end(), hex);
    }

    #[test]
    fn a_later_format_is_named() {
        let mut bytes = Header { first_leaf: 0, base: 0, origin: [0; 32] }.encode();
        bytes[8] = 2;
        let crc = crc32c::crc32c(&bytes[..60]).to_le_bytes();
        bytes[60..].copy_from_slice(&crc);
        assert_eq!(Header::parse(&bytes), Err(NotAHeader::Version(2)));
    }

    #[test]
    fn names_have_one_spelling() {
        assert_eq!(file_name(12), "00000000000000000012.seg");
        assert_eq!(parse_file_name("00000000000000000012.seg"), Some(12));
        for name in ["12.seg", "+0000000000000000012.seg", "00000000000000000012", ".seg"] {
            assert_eq!(parse_file_name(name), None, "{name}");
        }
    }

    #[test]
    fn zeros_are_no_frame() {
        assert_eq!(parse_frame(&[0; 64]), Err(BadFrame::Empty));
        assert_eq!(parse_frame(&[]), Err(BadFrame::Short));
        assert_eq!(parse_frame(&[0xff; 64]), Err(BadFrame::Length(u32::MAX)));
    }

    proptest! {
        #[test]
        fn frames_read_back_and_any_flipped_bit_is_seen(
            payload in proptest::collection::vec(any::<u8>(), 1..300),
            durable: u64,
            flip: prop::sample::Index,
        ) {
            let mut bytes = Vec::new();
            push_frame(&mut bytes, durable, &payload);
            let octets = bytes.len();
            bytes.extend_from_slice(&[9; 5]);
            let frame = parse_frame(&bytes).unwrap();
            prop_assert_eq!(frame, Frame { durable, payload: &payload });
            prop_assert_eq!(frame.octets(), octets);
            let bit = flip.index(octets * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(parse_frame(&bytes).is_err());
        }

        #[test]
        fn any_octets_parse_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            if let Ok(frame) = parse_frame(&bytes) {
                prop_assert!(frame.octets() <= bytes.len());
            }
            let _ = Header::parse(&bytes);
        }
    }
}
