//! What a log directory means at start: the valid prefix, the torn tail, or a reason to halt.
//!
//! The valid prefix ends at the first bad frame. Whether what follows may be cut is decided by what
//! is known to have been durable at that place:
//!
//! - A later segment exists: it was created only after everything before it was durable. Damage.
//! - A good frame further on states a durable offset beyond the bad frame. Damage.
//! - A checkpoint that this log's key signed covers more leaves than the prefix has. Damage.
//! - Otherwise nobody was ever told of what follows. The system may write unsynced pages in any order,
//!   so good frames behind the bad one are as likely as none: all of it is the torn tail, and is
//!   cut. What is cut is overwritten with zeros, durably, before anything is appended: a frame of the
//!   old tail can never come to stand behind a new one.

use std::fmt;
use std::io;
use std::path::Path;

use super::record::{MAX_LEAF, NotARecord};
use super::segment::{self, BadFrame, FRAME_HEADER, Frames, HEADER, Header, NotAHeader};
use super::tree::{Hash, RightEdge, leaf_hash};
use crate::env::{Disk, DiskFile};
use crate::id::LeafIndex;

use super::index::Point;

/// Why a log does not open. Each text begins with its code and is for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// Another process has it, or the disk is full: worth trying again.
    Retry(String),
    /// It is not there, or is not this CA's, or there is one already: an operator must act.
    Refuse(String),
    /// It is damaged, or the disk does not answer: nothing may be signed.
    Halt(String),
}

/// One segment file, its header read and in order with its neighbours.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Segment {
    pub name: String,
    pub header: Header,
    /// Length of the file.
    pub octets: u64,
}

/// Where the valid prefix ends, and what lies behind it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tail {
    /// Log offset of the prefix's end.
    pub end: u64,
    /// The tree over the prefix.
    pub edge: RightEdge,
    /// The greatest offset that a frame walked over states to have been durable.
    pub stated: u64,
    /// What stands where the next frame would: `None` if there are only zeros.
    pub torn: Option<BadFrame>,
}

/// What a walk says of each frame: its leaf, its log offset, the payload, and the edge after it.
pub type Visit<'a> = dyn FnMut(LeafIndex, u64, &[u8], &RightEdge) -> Result<(), OpenError> + 'a;

/// Reads and checks the headers of all segments, in order. `origin` refuses another log's.
pub fn segments(
    disk: &dyn Disk,
    dir: &Path,
    origin: Option<&Hash>,
) -> Result<Vec<Segment>, OpenError> {
    let names = disk.list(dir).map_err(|e| unreadable(dir, &e))?;
    let mut found: Vec<Segment> = Vec::new();
    for name in names {
        let Some(first_leaf) = segment::parse_file_name(&name) else { continue };
        let path = dir.join(&name);
        let file = disk.open_read(&path).map_err(|e| match e.kind() {
            // It has a name, and nothing behind it.
            io::ErrorKind::NotFound => OpenError::Retry(format!(
                "CHY-LOG-COLD: {} is a link to storage that is not there; mount it",
                path.display()
            )),
            _ => unreadable(&path, &e),
        })?;
        let mut octets = [0; HEADER as usize];
        let read = file.read_at(0, &mut octets).map_err(|e| unreadable(&path, &e))?;
        let header = match Header::parse(&octets[..read]) {
            Ok(header) => header,
            Err(NotAHeader::Version(version)) => {
                return Err(OpenError::Refuse(format!(
                    "CHY-LOG-FORMAT: {} is in format {version}, which this version cannot read; \
                     run the version that wrote it",
                    path.display()
                )));
            }
            Err(NotAHeader::Damaged) => {
                return Err(damaged(&path, 0, "its header does not read back"));
            }
        };
        if origin.is_some_and(|origin| *origin != header.origin)
            || found.first().is_some_and(|first| first.header.origin != header.origin)
        {
            return Err(OpenError::Refuse(format!(
                "CHY-LOG-FOREIGN: {} belongs to the log of another CA; \
                 point the state directory at this CA's log, or restore it",
                path.display()
            )));
        }
        let in_order = match found.last() {
            None => header.first_leaf == 0 && header.base == 0,
            Some(last) => {
                header.first_leaf > last.header.first_leaf && header.base > last.header.base
            }
        };
        if header.first_leaf != first_leaf || !in_order {
            return Err(damaged(
                &path,
                0,
                "it is not the segment its name says, or one before it is missing",
            ));
        }
        let octets = file.len().map_err(|e| unreadable(&path, &e))?;
        found.push(Segment { name, header, octets });
    }
    Ok(found)
}

/// Walks all frames from a point to the end of the valid prefix.
pub fn walk(
    disk: &dyn Disk,
    dir: &Path,
    segments: &[Segment],
    from: Point,
    visit: &mut Visit<'_>,
) -> Result<Tail, OpenError> {
    let Point { offset: mut end, mut edge } = from;
    let first = segments.partition_point(|s| s.header.base <= end).saturating_sub(1);
    let mut stated = 0;
    let mut torn = None;
    for (n, segment) in segments.iter().enumerate().skip(first) {
        let path = dir.join(&segment.name);
        let base = segment.header.base;
        let file = disk.open_read(&path).map_err(|e| unreadable(&path, &e))?;
        let mut frames = Frames::new(&*file, HEADER + (end - base));
        let next = segments.get(n + 1).map(|next| &next.header);
        loop {
            if next.is_some_and(|next| next.base == end) {
                break;
            }
            let at = frames.offset();
            match frames.advance().map_err(|e| unreadable(&path, &e))? {
                Ok(frame) => {
                    let leaf = LeafIndex(edge.size());
                    let offset = end;
                    end += frame.octets() as u64;
                    if frame.durable > offset || next.is_some_and(|next| next.base < end) {
                        return Err(damaged(&path, at, "a frame contradicts its place"));
                    }
                    stated = stated.max(frame.durable);
                    edge.push(leaf_hash(frame.payload));
                    visit(leaf, offset, frame.payload, &edge)?;
                }
                Err(bad) => {
                    if next.is_some() {
                        return Err(damaged(&path, at, &bad.to_string()));
                    }
                    let behind = look_behind(&*file, at, segment.octets, base)
                        .map_err(|e| unreadable(&path, &e))?;
                    if behind.stated > end {
                        return Err(damaged(&path, at, &bad.to_string()));
                    }
                    torn = behind.anything.then_some(bad);
                    break;
                }
            }
        }
        if next.is_some_and(|next| next.first_leaf != edge.size()) {
            return Err(damaged(
                &path,
                HEADER,
                "it does not hold as many records as the next says",
            ));
        }
    }
    Ok(Tail { end, edge, stated, torn })
}

/// Overwrites everything from file offset `from` with zeros and makes it durable. Pieces that are
/// zeros already are left alone.
pub(super) fn cut(file: &dyn DiskFile, from: u64) -> io::Result<()> {
    let length = file.len()?;
    let mut buffer = vec![0; 1 << 16];
    let mut at = from;
    while at < length {
        let read = file.read_at(at, &mut buffer)?;
        if read == 0 {
            break;
        }
        if buffer[..read].iter().any(|octet| *octet != 0) {
            file.write_at(at, &vec![0; read])?;
        }
        at += read as u64;
    }
    file.sync_data()
}

/// Writes `from..to` (file offsets) back as it is read. A process that died of a failed sync leaves
/// pages that read well, count as clean, and are not on the disk: only writing them again makes the
/// next sync mean something.
pub(super) fn write_again(file: &dyn DiskFile, from: u64, to: u64) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    let mut at = from;
    while at < to {
        let wanted = buffer.len().min((to - at) as usize);
        let read = file.read_at(at, &mut buffer[..wanted])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        file.write_at(at, &buffer[..read])?;
        at += read as u64;
    }
    Ok(())
}

struct Behind {
    /// Whether any octet is not zero.
    anything: bool,
    /// The greatest durable offset a good frame states.
    stated: u64,
}

/// Looks for good frames at every octet from `from` on: where a frame was lost, so was where the
/// next begins.
fn look_behind(file: &dyn DiskFile, from: u64, length: u64, base: u64) -> io::Result<Behind> {
    let mut behind = Behind { anything: false, stated: 0 };
    let mut window = vec![0; 4 * segment::MAX_FRAME];
    let mut at = from;
    while at < length {
        let read = file.read_at(at, &mut window)?;
        if read == 0 {
            break;
        }
        let octets = &window[..read];
        let last = at + read as u64 >= length;
        // A frame that begins in the last stretch of the window is looked at in the next one.
        let end = if last { read } else { read - segment::MAX_FRAME };
        let content = octets[..end].iter().rposition(|octet| *octet != 0).map_or(0, |n| n + 1);
        behind.anything |= content > 0;
        let mut i = 0;
        while i < content {
            match frame_at(&octets[i..], base + (at - HEADER) + i as u64) {
                Some((durable, octets)) => {
                    behind.stated = behind.stated.max(durable);
                    i += octets;
                }
                None => i += 1,
            }
        }
        at += i.max(end) as u64;
    }
    Ok(behind)
}

/// A good frame whose claim is possible at log offset `offset`: its durable offset and its length. The
/// checksum, which is dear at every octet, comes last.
fn frame_at(octets: &[u8], offset: u64) -> Option<(u64, usize)> {
    let (header, _) = octets.split_first_chunk::<FRAME_HEADER>()?;
    let [a, b, c, d, ..] = *header;
    let length = u32::from_le_bytes([a, b, c, d]) as usize;
    let [.., h0, h1, h2, h3, h4, h5, h6, h7] = *header;
    let durable = u64::from_le_bytes([h0, h1, h2, h3, h4, h5, h6, h7]);
    if length == 0 || length > MAX_LEAF || durable > offset {
        return None;
    }
    segment::parse_frame(octets).ok().map(|frame| (frame.durable, frame.octets()))
}

pub(super) fn damaged(path: &Path, offset: u64, why: &str) -> OpenError {
    OpenError::Halt(format!(
        "CHY-LOG-DAMAGED: {} at octet {offset}: {why}, and it was durable once; nothing is signed. \
         Keep the directory as it is, check the disk, and restore the log from a copy",
        path.display()
    ))
}

pub(super) fn unreadable(path: &Path, error: &io::Error) -> OpenError {
    OpenError::Halt(format!(
        "CHY-LOG-IO: {}: {error}; check the disk and the rights of the directory",
        path.display()
    ))
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Retry(text) | Self::Refuse(text) | Self::Halt(text)) = self;
        f.write_str(text)
    }
}

impl std::error::Error for OpenError {}

/// There is no log.
pub(super) fn absent(dir: &Path) -> OpenError {
    OpenError::Refuse(format!(
        "CHY-LOG-ABSENT: {} holds no log; hold the ceremony, or restore the log",
        dir.display()
    ))
}

/// Someone else has the lock.
pub(super) fn busy(dir: &Path) -> OpenError {
    OpenError::Retry(format!(
        "CHY-LOG-BUSY: another process writes the log in {}; stop it first",
        dir.display()
    ))
}

/// A record of a version to come.
pub(super) fn later(dir: &Path, leaf: LeafIndex, why: &NotARecord) -> OpenError {
    OpenError::Refuse(format!(
        "CHY-LOG-FORMAT: leaf {leaf} in {}: {why}; run the version that wrote it",
        dir.display()
    ))
}
