//! Who shows that a checkpoint is the newest of its log: witnesses, when they are asked now; a fresh cosignature that
//! somebody fetched; or the operator.
//!
//! A witness is asked to cosign the checkpoint once more, with its own size as the old one. It does so only if that is
//! the newest it knows, and else says of how many records that is (C2SP tlog-witness): nothing is moved by asking.

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use base64ct::{Base64, Encoding};

use super::{Failure, broken, say};
use crate::app::web::resolver;
use crate::config::Config;
use crate::env::Disk;
use crate::env::system::{SystemDialer, SystemDisk};
use crate::id::Timestamp;
use crate::ipc::witness::{Errand, ErrandKind, Outcome};
use crate::log::record::ShownBy;
use crate::tlog::checkpoint::Checkpoint;
use crate::tlog::note::{MAX_NOTE, Note, NoteSignature, VerifierKey};
use crate::tlog::tree::TreeHead;
use crate::tlog::witness::{AddCheckpoint, parse_lines};
use crate::web::witness::{Courier, Target};

/// What the operator says is the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Said(TreeHead);

impl FromStr for Said {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "SIZE:ROOT as in a checkpoint: a number, a colon, and 32 octets in base64";
        let (size, root) = text.split_once(':').ok_or(wrong)?;
        let mut hash = [0; 32];
        match Base64::decode(root, &mut hash) {
            Ok(decoded) if decoded.len() == 32 => {}
            _ => return Err(wrong),
        }
        let size = size.parse().map_err(|_| wrong)?;
        Ok(Self(TreeHead { size, root: hash }))
    }
}

/// Who shows it; or why nobody does. A `Failure` is where what was given contradicts the archive.
pub(super) fn shown(
    config: &Config,
    said: Option<&Said>,
    cosigned: Option<&Path>,
    note: &[u8],
    checkpoint: &Checkpoint,
    now: Timestamp,
) -> Result<Result<ShownBy, String>, Failure> {
    let head = checkpoint.head;
    if let Some(Said(newest)) = said {
        if *newest == head {
            return Ok(Ok(ShownBy::Operator));
        }
        return Err(Failure::operator(format!(
            "CHY-RESTORE-NOT-NEWEST: --newest names {} records with another root than the archive's {}:{}; give the archive that has them, or leave it out to go on with another log",
            newest.size,
            head.size,
            Base64::encode_string(&head.root)
        )));
    }
    let keys = config.web.witness_keys().map_err(Failure::operator)?;
    if let Some(path) = cosigned {
        let octets = SystemDisk.read(path, MAX_NOTE as u64).map_err(|e| broken(path, &e))?;
        return Ok(from_file(&octets, &keys, checkpoint, now)
            .map_err(|why| format!("{}: {why}", path.display())));
    }
    if keys.is_empty() {
        return Ok(Err(
            "no witness is configured in [[web.witnesses]], and --newest was not given".into(),
        ));
    }
    ask(config, &keys, note, checkpoint)
}

fn from_file(
    octets: &[u8],
    keys: &[VerifierKey],
    checkpoint: &Checkpoint,
    now: Timestamp,
) -> Result<ShownBy, String> {
    let note = Note::parse(octets).map_err(|why| why.0.to_owned())?;
    let stated = Checkpoint::parse_text(&note.text).map_err(|why| why.to_string())?;
    if (&stated.origin, stated.head) != (&checkpoint.origin, checkpoint.head) {
        return Err(format!(
            "it is of {} with {} records, and not the archive's checkpoint",
            stated.origin, stated.head.size
        ));
    }
    let by = cosigner(&note.text, &note.signatures, keys, &stated)
        .ok_or("no configured witness cosigned it")?;
    match &by {
        ShownBy::Witness { cosigned, name } if now.since(*cosigned) > FRESH => {
            Err(format!("{name} cosigned it at {cosigned}, which is more than an hour ago"))
        }
        _ => Ok(by),
    }
}

/// The newest cosignature by one of these keys.
fn cosigner(
    text: &str,
    lines: &[NoteSignature],
    keys: &[VerifierKey],
    stated: &Checkpoint,
) -> Option<ShownBy> {
    let of = |key: &VerifierKey| {
        let own = lines.iter().filter(|line| line.name == key.name() && line.id == key.id());
        let verified = own.filter(|line| key.verify(text.as_bytes(), &stated.head, &line.octets));
        let at = verified.filter_map(|line| key.cosigned_at(&line.octets)).max()?;
        Some((at, key.name().to_owned()))
    };
    let (cosigned, name) = keys.iter().filter_map(of).max()?;
    Some(ShownBy::Witness { name, cosigned })
}

fn ask(
    config: &Config,
    keys: &[VerifierKey],
    note: &[u8],
    checkpoint: &Checkpoint,
) -> Result<Result<ShownBy, String>, Failure> {
    let parsed = Note::parse(note).map_err(|why| Failure::failed(why.0.to_owned()))?;
    let size = checkpoint.head.size;
    let request = AddCheckpoint {
        old: size,
        proof: Vec::new(),
        note: Note {
            signatures: parsed
                .signatures
                .iter()
                .filter(|line| line.name == checkpoint.origin)
                .cloned()
                .collect(),
            text: parsed.text.clone(),
        },
        checkpoint: checkpoint.clone(),
    };
    let body = request.to_string().into_bytes();
    let mut shown = Err("no witness answered".to_owned());
    for (witness, outcome) in carry(config, keys.len(), &body)? {
        let Some(key) = keys.get(usize::from(witness)) else { continue };
        match outcome {
            Outcome::Body(body) => {
                let own = std::slice::from_ref(key);
                match cosigner(&parsed.text, &parse_lines(&body), own, checkpoint) {
                    Some(by) => {
                        say(&format!("{}: this is the newest checkpoint it knows", key.name()))?;
                        shown = shown.or(Ok(by));
                    }
                    None => say(&format!("{}: its answer is not signed by its key", key.name()))?,
                }
            }
            // One that knows more is enough: the archive is not the newest, whatever others know.
            Outcome::Conflict(known) if known > size => {
                return Ok(Err(format!(
                    "the witness {} knows of {known} records, the archive has {size}: {} are missing",
                    key.name(),
                    known - size
                )));
            }
            Outcome::Conflict(known) => {
                say(&format!("{}: knows of {known} records only", key.name()))?;
            }
            Outcome::Status(422) => {
                return Err(Failure::failed(format!(
                    "CHY-RESTORE-FORKED: the witness {} knows another tree of {size} records than the archive's: two logs were written under one origin. Restore with --new-origin after finding out which is right",
                    key.name()
                )));
            }
            Outcome::Status(status) => say(&format!("{}: status {status}", key.name()))?,
            Outcome::Unreachable(why) => say(&format!("{}: {why}", key.name()))?,
        }
    }
    Ok(shown)
}

/// Brings the body to every witness, from this machine.
fn carry(config: &Config, witnesses: usize, body: &[u8]) -> Result<Vec<(u16, Outcome)>, Failure> {
    let targets = config.web.witnesses.iter().map(Target::new);
    let targets = targets.collect::<Result<Vec<_>, _>>().map_err(Failure::operator)?;
    let os = |error: std::io::Error| Failure::failed(format!("CHY-OS: no threads: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(os)?;
    runtime.block_on(async {
        let errands = (0..witnesses).filter_map(|n| {
            let what = ErrandKind::AddCheckpoint(body.to_vec());
            Some(Errand { witness: u16::try_from(n).ok()?, what })
        });
        let courier = Courier::new(targets, resolver(config)?, Arc::new(SystemDialer));
        let carried = courier.carry(errands.collect()).await;
        Ok(carried.into_iter().map(|one| (one.witness, one.outcome)).collect())
    })
}

/// How old a cosignature may be that is brought in a file.
const FRESH: Duration = Duration::from_secs(3600);
