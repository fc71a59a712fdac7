//! Whether archives are whole: every digest, the chain, the log's tree up to the checkpoint, and who signed that.

use super::BackupError;
use super::manifest::{LogEnd, Manifest, Range};
use super::open::{Opened, Take, damaged};
use crate::log::segment::{self, BadFrame, HEADER};
use crate::pki::authority::Authority;
use crate::tlog::checkpoint::Checkpoint;
use crate::tlog::note::VerifierKey;
use crate::tlog::tree::{RightEdge, leaf_hash};

/// Takes a chain of archives, oldest first; keeps nothing of it but the tree.
#[derive(Default)]
pub struct Check {
    edge: RightEdge,
    offset: u64,
    /// Whether the chain began with a full archive: else there is no tree to compute.
    whole: bool,
    before: Option<Manifest>,
    ranges: Vec<Range>,
    /// Octets of a frame that is not complete yet; `None` outside of the log.
    frames: Option<Vec<u8>>,
    /// Of a segment's header still to come.
    header: usize,
    authority: Option<Vec<u8>>,
    /// Whether that is what is read.
    in_authority: bool,
}

impl Check {
    /// The last archive was read. Says by which key its checkpoint is signed.
    pub fn finish(self) -> Result<String, BackupError> {
        let Some(manifest) = &self.before else {
            return Err(damaged("the archive", "there is none"));
        };
        let wrong = |why: &str| damaged("the archive", why);
        let note = manifest.checkpoint.as_bytes();
        let authority: Authority = self
            .authority
            .as_deref()
            .and_then(|octets| serde_json::from_slice(octets).ok())
            .ok_or_else(|| wrong("it has no ca/authority.json that can be read"))?;
        if authority.origin != manifest.origin {
            return Err(wrong("ca/authority.json is of another log"));
        }
        let (key, stated) = signed(note, &authority)
            .ok_or_else(|| wrong("its checkpoint is not signed by the CA's log key"))?;
        if stated.head != manifest.end.head() {
            return Err(wrong("its checkpoint states another tree than its manifest"));
        }
        Ok(key.to_string())
    }

    fn ended(&self) -> Result<(), BackupError> {
        let Some(Manifest { end, made_at, .. }) = &self.before else { return Ok(()) };
        if self.whole && (LogEnd::new(self.offset, &self.edge)) != *end {
            return Err(damaged(
                &format!("the archive of {made_at}"),
                "the log in it is not the one that its manifest states",
            ));
        }
        Ok(())
    }
}

/// Which of the keys that may sign now signed the note, and what it states.
pub fn signed(note: &[u8], authority: &Authority) -> Option<(VerifierKey, Checkpoint)> {
    let records = [Some(authority.newest_log_key()), authority.former_log_key()];
    records.into_iter().flatten().find_map(|record| {
        let key = VerifierKey::from_spki(&authority.origin, &record.spki_der().ok()?).ok()?;
        let stated = Checkpoint::open(note, &key).ok()?;
        Some((key, stated))
    })
}

impl Take for Check {
    fn manifest(&mut self, opened: &Opened) -> Result<(), BackupError> {
        self.ended()?;
        if self.before.is_none() {
            self.whole = opened.manifest.base.is_none();
        } else {
            super::place::follows(self.before.as_ref(), &opened.manifest)?;
        }
        self.ranges.clone_from(&opened.manifest.log);
        self.before = Some(opened.manifest.clone());
        Ok(())
    }

    fn begin(&mut self, name: &str) -> Result<(), BackupError> {
        self.frames = None;
        if let Some(range) = self.ranges.iter().find(|range| range.entry() == name) {
            self.frames = Some(Vec::new());
            self.header = if range.from == 0 { HEADER as usize } else { 0 };
        }
        self.in_authority = name == AUTHORITY;
        if self.in_authority {
            self.authority = Some(Vec::new());
        }
        Ok(())
    }

    fn octets(&mut self, octets: &[u8]) -> Result<(), BackupError> {
        let Some(frames) = &mut self.frames else {
            match &mut self.authority {
                Some(text) if self.in_authority && text.len() < MOST_AUTHORITY => {
                    text.extend_from_slice(octets)
                }
                _ => {}
            }
            return Ok(());
        };
        let header = self.header.min(octets.len());
        self.header -= header;
        frames.extend_from_slice(&octets[header..]);
        let mut at = 0;
        loop {
            match segment::parse_frame(&frames[at..]) {
                Ok(frame) => {
                    self.edge.push(leaf_hash(frame.payload));
                    at += frame.octets();
                }
                Err(BadFrame::Short) => break,
                Err(why) => {
                    return Err(damaged("the archive", &format!("a frame of the log: {why}")));
                }
            }
        }
        self.offset += at as u64;
        frames.drain(..at);
        Ok(())
    }

    fn end(&mut self) -> Result<(), BackupError> {
        match self.frames.take() {
            Some(frames) if !frames.is_empty() => {
                Err(damaged("the archive", "a range of the log ends inside a frame"))
            }
            // What comes next is another file's.
            _ => Ok(()),
        }
    }
}

const AUTHORITY: &str = "ca/authority.json";
const MOST_AUTHORITY: usize = 1 << 20;
