//! Reading an archive: every entry held against the manifest while it passes.

use std::io::Read;

use aws_lc_rs::digest::{Context, SHA256};

use super::BackupError;
use super::age::{AgeError, Identity, Opener};
use super::manifest::{self, Manifest};
use super::tar::{Entry, Reader};
use crate::id::hex;
use crate::tlog::tree::{Hash, sha256};

/// A manifest, and the digest of its octets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Opened {
    pub manifest: Manifest,
    pub sha256: Hash,
}

/// Takes the content of entries. `begin` is called with each name in the manifest's order; what it refuses ends the
/// reading. Nothing counts before the whole archive was read.
pub trait Take {
    fn manifest(&mut self, opened: &Opened) -> Result<(), BackupError>;
    fn begin(&mut self, name: &str) -> Result<(), BackupError>;
    fn octets(&mut self, octets: &[u8]) -> Result<(), BackupError>;
    fn end(&mut self) -> Result<(), BackupError>;
}

/// For whoever wants to know that it is whole, and no more.
pub struct Nothing;

impl Take for Nothing {
    fn manifest(&mut self, _: &Opened) -> Result<(), BackupError> {
        Ok(())
    }
    fn begin(&mut self, _: &str) -> Result<(), BackupError> {
        Ok(())
    }
    fn octets(&mut self, _: &[u8]) -> Result<(), BackupError> {
        Ok(())
    }
    fn end(&mut self) -> Result<(), BackupError> {
        Ok(())
    }
}

/// Reads an archive to its end. `what` names it in messages.
pub fn open(
    what: &str,
    from: impl Read,
    identities: &[Identity],
    take: &mut dyn Take,
) -> Result<Opened, BackupError> {
    let opener = Opener::new(from, identities).map_err(|why| match why {
        AgeError::NotForUs => BackupError::Refuse(format!(
            "CHY-BACKUP-IDENTITY: {what}: {why}; name the identity file of one of its recipients"
        )),
        AgeError::Broken(_) | AgeError::Io(_) => damaged(what, &why.to_string()),
    })?;
    unpack(what, opener, take)
}

/// The same for what is decrypted already.
pub fn unpack(what: &str, from: impl Read, take: &mut dyn Take) -> Result<Opened, BackupError> {
    let broken = |why: std::io::Error| damaged(what, &why.to_string());
    let mut tar = Reader::new(from);
    let first = tar.advance().map_err(broken)?;
    let first =
        first.filter(|entry| entry.name == manifest::NAME && entry.octets <= manifest::MOST);
    let Some(Entry { octets, .. }) = first else {
        return Err(damaged(what, "its first entry is no manifest"));
    };
    let mut text = Vec::new();
    (&mut tar).take(octets).read_to_end(&mut text).map_err(broken)?;
    let manifest = Manifest::parse(&text).map_err(|why| match why {
        BackupError::Damaged(text) => BackupError::Damaged(format!("{text} ({what})")),
        other => other,
    })?;
    let opened = Opened { manifest, sha256: sha256(&text) };
    take.manifest(&opened)?;
    let mut buffer = vec![0; 1 << 16];
    for (name, octets, digest) in opened.manifest.entries() {
        match tar.advance().map_err(broken)? {
            Some(entry) if entry.name == name && entry.octets == octets => {}
            _ => return Err(damaged(what, &format!("{name} is not where the manifest has it"))),
        }
        take.begin(&name)?;
        let mut context = Context::new(&SHA256);
        let mut left = octets;
        while left > 0 {
            let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let read = tar.read(&mut buffer[..wanted]).map_err(broken)?;
            context.update(&buffer[..read]);
            take.octets(&buffer[..read])?;
            left -= read as u64;
        }
        if hex(context.finish().as_ref()) != digest {
            return Err(damaged(what, &format!("{name} is not what was archived")));
        }
        take.end()?;
    }
    match tar.advance().map_err(broken)? {
        None => Ok(opened),
        Some(entry) => Err(damaged(what, &format!("the manifest does not name {}", entry.name))),
    }
}

pub(crate) fn damaged(what: &str, why: &str) -> BackupError {
    BackupError::Damaged(format!(
        "CHY-BACKUP-DAMAGED: {what}: {why}; take another copy of it, or another archive"
    ))
}
