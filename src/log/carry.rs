//! A log's records under another origin: what a log begins with that goes on for another one.
//!
//! Leaf 0 is the new one, every other leaf is the former log's, octet for octet under the same number.

use std::path::Path;

use super::index::Point;
use super::record::Record;
use super::recover::{self, OpenError, unreadable};
use super::segment::{HEADER, Header, file_name, origin_hash, push_frame};
use crate::env::{Disk, DiskFile};
use crate::tlog::tree::{RightEdge, leaf_hash};

/// Writes the log of `first` into `to`, an empty directory, from the one in `from`; durable when it returns, but for
/// the name of `to`. Segments have `octets`, as `[log] segment-mib` says.
pub fn carry(
    disk: &dyn Disk,
    from: &Path,
    first: &Record,
    to: &Path,
    octets: u64,
) -> Result<RightEdge, OpenError> {
    let Some(ceremony) = first.first() else {
        return Err(OpenError::Refuse("CHY-INTERNAL: a log does not begin with that".into()));
    };
    let payload = first
        .encode()
        .map_err(|why| OpenError::Refuse(format!("CHY-INTERNAL: the first record: {why}")))?;
    let segments = recover::segments(disk, from, None)?;
    let mut next = Next {
        disk,
        dir: to,
        origin: origin_hash(&ceremony.origin),
        octets,
        file: None,
        buffer: Vec::new(),
        at: 0,
        offset: 0,
        edge: RightEdge::new(),
    };
    recover::walk(disk, from, &segments, Point::default(), &mut |leaf, _, former, _| {
        next.push(if leaf.0 == 0 { &payload } else { former })
    })?;
    next.close()?;
    disk.sync_dir(to).map_err(|error| unreadable(to, &error))?;
    Ok(next.edge)
}

/// The log that is written.
struct Next<'a> {
    disk: &'a dyn Disk,
    dir: &'a Path,
    origin: [u8; 32],
    octets: u64,
    file: Option<Box<dyn DiskFile>>,
    /// Written together.
    buffer: Vec<u8>,
    /// File offset of the buffer.
    at: u64,
    /// Log offset of the next frame.
    offset: u64,
    edge: RightEdge,
}

impl Next<'_> {
    fn push(&mut self, payload: &[u8]) -> Result<(), OpenError> {
        let before = self.buffer.len();
        // Nothing of it is durable yet, and no frame says so.
        push_frame(&mut self.buffer, 0, payload);
        let frame = (self.buffer.len() - before) as u64;
        if self.file.is_none() || self.at + self.buffer.len() as u64 > self.octets {
            let own = self.buffer.split_off(before);
            self.close()?;
            self.begin(frame)?;
            self.buffer = own;
        }
        self.offset += frame;
        self.edge.push(leaf_hash(payload));
        if self.buffer.len() >= PIECE { self.flush() } else { Ok(()) }
    }

    fn begin(&mut self, frame: u64) -> Result<(), OpenError> {
        let header =
            Header { first_leaf: self.edge.size(), base: self.offset, origin: self.origin };
        let path = self.dir.join(file_name(header.first_leaf));
        let length = self.octets.max(HEADER + frame);
        let made = self.disk.create(&path, length).and_then(|file| {
            file.write_at(0, &header.encode())?;
            Ok(file)
        });
        self.file = Some(made.map_err(|error| unreadable(&path, &error))?);
        self.at = HEADER;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), OpenError> {
        let Some(file) = &self.file else { return Ok(()) };
        file.write_at(self.at, &self.buffer).map_err(|error| unreadable(self.dir, &error))?;
        self.at += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn close(&mut self) -> Result<(), OpenError> {
        self.flush()?;
        match self.file.take() {
            Some(file) => file.sync_data().map_err(|error| unreadable(self.dir, &error)),
            None => Ok(()),
        }
    }
}

/// Octets written at once.
const PIECE: usize = 1 << 18;
