//! From a box to an archive.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};

use super::age::{Recipient, Sealer};
use super::manifest::{self, Base, File, Key, LogEnd, Manifest, Range};
use super::tar::{Entry, Writer};
use super::{BackupError, failed};
use crate::env::{Disk, Rng, random_16};
use crate::id::{Timestamp, hex};
use crate::log::index::Point;
use crate::log::recover::{self, OpenError, Segment};
use crate::log::segment::{HEADER, origin_hash};
use crate::pki::authority::KeyRecord;
use crate::tlog::checkpoint::Checkpoint;
use crate::tlog::tree::RightEdge;

/// What is archived besides the log.
pub enum Content {
    /// In memory: small, or made for the archive.
    Octets(Vec<u8>),
    /// A file that does not change any more.
    File(PathBuf),
}

/// Everything an archive is made of.
pub struct Source<'a> {
    pub disk: &'a dyn Disk,
    pub rng: &'a dyn Rng,
    /// The log's directory.
    pub log: &'a Path,
    /// The published checkpoint: its note, and what of it was verified.
    pub note: &'a str,
    pub checkpoint: &'a Checkpoint,
    pub made: Timestamp,
    /// SHA-256 over the first ceremony's transcript.
    pub ca: String,
    pub keys: Vec<Key>,
    pub epoch: u64,
    /// The last archive, where this one shall continue it.
    pub base: Option<Manifest>,
    /// By name, sorted.
    pub files: Vec<(String, Content)>,
}

impl Key {
    /// The identity of a key, of its record.
    pub fn of(record: &KeyRecord) -> Result<Self, &'static str> {
        let key = record.public_key()?;
        Ok(Self { uri: record.uri.clone(), spki_sha256: hex(&key.spki_sha256()) })
    }
}

/// What the archive will hold: every octet is read once, and the log's tree is computed and held against the checkpoint.
pub fn plan(source: &Source<'_>) -> Result<Manifest, BackupError> {
    let Source { checkpoint, base, .. } = source;
    let segments =
        recover::segments(source.disk, source.log, Some(&origin_hash(&checkpoint.origin)))
            .map_err(log_error)?;
    let from = match base {
        Some(base) if base.origin != checkpoint.origin => {
            return Err(BackupError::Refuse(format!(
                "CHY-BACKUP-BASE: the last archive is of the log {}, this log is {}; make a full backup",
                base.origin, checkpoint.origin
            )));
        }
        Some(base) => Point { offset: base.end.offset, edge: base.end.edge().unwrap_or_default() },
        None => Point::default(),
    };
    let begin = from.offset;
    let (end, edge) = walk(source, &segments, from)?;
    let ranges = ranges(&segments, begin, end).map(|(segment, from, octets)| {
        let path = source.log.join(&segment.name);
        let sha256 = digest_of(source.disk, &path, from, octets)?;
        let (segment, length) = (segment.name.clone(), segment.octets);
        Ok(Range { segment, from, octets, length, sha256 })
    });
    let log = ranges.collect::<Result<Vec<_>, BackupError>>()?;
    let files = source.files.iter().map(|(name, content)| {
        let (octets, sha256) = match content {
            Content::Octets(octets) => (octets.len() as u64, sha256(octets)),
            Content::File(path) => {
                let file = source.disk.open_read(path).map_err(|e| failed(path, &e))?;
                let octets = file.len().map_err(|e| failed(path, &e))?;
                (octets, digest_of(source.disk, path, 0, octets)?)
            }
        };
        Ok(File { name: name.clone(), octets, sha256 })
    });
    let manifest = Manifest {
        format: Manifest::format(),
        id: hex(&random_16(source.rng)),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        made: source.made,
        made_at: source.made.to_string(),
        ca: source.ca.clone(),
        origin: checkpoint.origin.clone(),
        checkpoint: source.note.to_owned(),
        end: LogEnd::new(end, &edge),
        base: base.as_ref().map(|base| Base {
            id: base.id.clone(),
            made_at: base.made_at.clone(),
            leaves: base.end.leaves,
            offset: base.end.offset,
        }),
        log,
        files: files.collect::<Result<_, BackupError>>()?,
        keys: source.keys.clone(),
        epoch: source.epoch,
    };
    // What a restore would refuse is not written.
    let text = text_of(&manifest)?;
    Manifest::parse(&text).map(|_| manifest)
}

/// The manifest's octets, as they are in the archive.
pub fn text_of(manifest: &Manifest) -> Result<Vec<u8>, BackupError> {
    let mut text = serde_json::to_vec_pretty(manifest)
        .map_err(|why| BackupError::Refuse(format!("CHY-INTERNAL: the manifest: {why}")))?;
    text.push(b'\n');
    Ok(text)
}

/// Writes the archive; every content is read a second time and must be what the manifest says.
pub fn write<W: Write>(
    source: &Source<'_>,
    manifest: &Manifest,
    recipients: &[Recipient],
    to: W,
) -> Result<W, BackupError> {
    let broken = |error: std::io::Error| failed(Path::new("the archive"), &error);
    let sealer = Sealer::new(to, recipients, source.rng).map_err(broken)?;
    let mut tar = Writer::new(sealer);
    let text = text_of(manifest)?;
    tar.begin(&Entry { name: manifest::NAME.to_owned(), octets: text.len() as u64 })
        .and_then(|()| tar.write_all(&text))
        .map_err(broken)?;
    for range in &manifest.log {
        tar.begin(&Entry { name: range.entry(), octets: range.octets }).map_err(broken)?;
        let path = source.log.join(&range.segment);
        copy(source.disk, &path, range.from, range.octets, &range.sha256, &mut tar)?;
    }
    for (file, (_, content)) in manifest.files.iter().zip(&source.files) {
        tar.begin(&Entry { name: file.name.clone(), octets: file.octets }).map_err(broken)?;
        match content {
            Content::Octets(octets) => tar.write_all(octets).map_err(broken)?,
            Content::File(path) => {
                copy(source.disk, path, 0, file.octets, &file.sha256, &mut tar)?;
            }
        }
    }
    tar.finish().and_then(Sealer::finish).map_err(broken)
}

/// Log offset and tree at the checkpoint.
fn walk(
    source: &Source<'_>,
    segments: &[Segment],
    from: Point,
) -> Result<(u64, RightEdge), BackupError> {
    let wanted = source.checkpoint.head;
    let mut found = (from.edge.size() == wanted.size).then(|| (from.offset, from.edge.clone()));
    recover::walk(source.disk, source.log, segments, from, &mut |_, offset, payload, edge| {
        if edge.size() == wanted.size {
            let octets = crate::log::segment::FRAME_HEADER + payload.len();
            found = Some((offset + octets as u64, edge.clone()));
        }
        Ok(())
    })
    .map_err(log_error)?;
    match found {
        Some((offset, edge)) if edge.head() == wanted => Ok((offset, edge)),
        Some(_) => Err(BackupError::Damaged(format!(
            "CHY-BACKUP-LOG: the log's first {} records are not those of its published checkpoint, or not those of the last archive; nothing was written. chancery log verify says more",
            wanted.size
        ))),
        None => Err(BackupError::Retry(format!(
            "CHY-BACKUP-LOG: the log has no {} records, which its published checkpoint states; nothing was written. chancery log verify says more",
            wanted.size
        ))),
    }
}

/// What of each segment lies between two log offsets: file offset and octets, the header with the first frame.
fn ranges(
    segments: &[Segment],
    begin: u64,
    end: u64,
) -> impl Iterator<Item = (&Segment, u64, u64)> {
    segments.iter().enumerate().filter_map(move |(n, segment)| {
        let base = segment.header.base;
        let next = segments.get(n + 1).map_or(u64::MAX, |next| next.header.base);
        let (first, last) = (begin.max(base), end.min(next));
        if first >= last {
            return None;
        }
        let to = HEADER + (last - base);
        let from = if first == base { 0 } else { HEADER + (first - base) };
        Some((segment, from, to - from))
    })
}

fn sha256(octets: &[u8]) -> String {
    hex(&crate::tlog::tree::sha256(octets))
}

fn digest_of(disk: &dyn Disk, path: &Path, from: u64, octets: u64) -> Result<String, BackupError> {
    pass(disk, path, from, octets, &mut |_| Ok(()))
}

fn copy(
    disk: &dyn Disk,
    path: &Path,
    from: u64,
    octets: u64,
    sha256: &str,
    to: &mut dyn Write,
) -> Result<(), BackupError> {
    let read = pass(disk, path, from, octets, &mut |piece| to.write_all(piece))?;
    if read == sha256 {
        return Ok(());
    }
    Err(BackupError::Damaged(format!(
        "CHY-BACKUP-CHANGED: {} read otherwise the second time; the archive was not written. Run it again; if it stays so, check the disk",
        path.display()
    )))
}

fn pass(
    disk: &dyn Disk,
    path: &Path,
    from: u64,
    octets: u64,
    each: &mut dyn FnMut(&[u8]) -> std::io::Result<()>,
) -> Result<String, BackupError> {
    let broken = |error: std::io::Error| failed(path, &error);
    let file = disk.open_read(path).map_err(broken)?;
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; 1 << 18];
    let (mut at, end) = (from, from + octets);
    while at < end {
        let wanted = buffer.len().min(usize::try_from(end - at).unwrap_or(usize::MAX));
        let read = file.read_at(at, &mut buffer[..wanted]).map_err(broken)?;
        if read == 0 {
            return Err(broken(std::io::ErrorKind::UnexpectedEof.into()));
        }
        context.update(&buffer[..read]);
        each(&buffer[..read]).map_err(broken)?;
        at += read as u64;
    }
    Ok(hex(context.finish().as_ref()))
}

/// The whole of a small file; `None` if it is not there.
pub fn small(disk: &dyn Disk, path: &Path) -> Result<Option<Vec<u8>>, BackupError> {
    match disk.read(path, MOST_SMALL) {
        Ok(octets) => Ok(Some(octets)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(path, &error)),
    }
}

pub(crate) fn log_error(error: OpenError) -> BackupError {
    match error {
        OpenError::Retry(text) => BackupError::Retry(text),
        OpenError::Refuse(text) => BackupError::Refuse(text),
        OpenError::Halt(text) => BackupError::Damaged(text),
    }
}

/// What is read at once: transcripts, tickets, CRLs.
const MOST_SMALL: u64 = 64 << 20;

/// Counts what is written, and digests it.
pub struct Digesting<W> {
    to: W,
    context: Context,
    octets: u64,
}

impl<W: Write> Digesting<W> {
    pub fn new(to: W) -> Self {
        Self { to, context: Context::new(&SHA256), octets: 0 }
    }

    /// What was written to, the SHA-256 in hex, and the octets.
    pub fn finish(self) -> (W, String, u64) {
        (self.to, hex(self.context.finish().as_ref()), self.octets)
    }
}

impl<W: Write> Write for Digesting<W> {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        let written = self.to.write(octets)?;
        self.context.update(&octets[..written]);
        self.octets += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.to.flush()
    }
}

/// SHA-256 over all that can be read, in hex.
pub fn digest(mut from: impl Read) -> std::io::Result<String> {
    let mut digesting = Digesting::new(std::io::sink());
    std::io::copy(&mut from, &mut digesting)?;
    let (_, sha256, _) = digesting.finish();
    Ok(sha256)
}
