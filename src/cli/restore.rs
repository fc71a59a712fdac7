//! `chancery restore`: an empty box becomes the one that archives are of.
//!
//! Everything is read and judged before anything counts; then one file says what was decided, and from there on a run that
//! was stopped only goes on. Nothing serves before the last step.

mod newest;

use std::fs::{File, Permissions};
use std::io::BufReader;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use rustix::process::geteuid;

use super::backup::{failure, identities};
use super::ceremony::check::{examine, records_of};
use super::ceremony::{hand_over, heir};
use super::{Context, Failure, print};
use crate::app::{directories, pin};
use crate::backup::check::signed;
use crate::backup::open::{self, Opened};
use crate::backup::place::{Decided, Stage, Staged, Way};
use crate::config::Config;
use crate::env::system::{SystemClock, SystemDisk, SystemRng};
use crate::env::{Clock, Disk, random_16};
use crate::hsm::direct::Direct;
use crate::hsm::epoch::{Epoch, Held};
use crate::hsm::token::TokenName;
use crate::id::{LeafIndex, hex};
use crate::issuer::epoch::{OwnEpoch, Restored, Taken, Unrecorded};
use crate::log::reader::Reader;
use crate::log::record::{Actor, CeremonyV1, LogSucceededV1};
use crate::pki::authority::Authority;
use crate::state::{Format, Written};
use crate::tlog::checkpoint::Checkpoint;
use crate::tlog::note::{Note, VerifierKey};
use crate::tlog::tree::leaf_hash;

/// `chancery restore`.
#[derive(Clone, Debug, Args)]
pub struct RestoreArguments {
    /// The archive; of a chain all of them, oldest first.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// A file with the identity of a recipient, as age-keygen writes it; repeatable.
    #[arg(long, value_name = "FILE", required = true)]
    identity: Vec<PathBuf>,
    /// Your word that the archive's checkpoint is the newest there ever was: its size and its root in base64, as the
    /// checkpoint states them. It is recorded.
    #[arg(long, value_name = "SIZE:ROOT")]
    newest: Option<newest::Said>,
    /// A checkpoint that a configured witness cosigned within the last hour, in place of asking the witnesses.
    #[arg(long, value_name = "FILE", conflicts_with = "newest")]
    cosigned: Option<PathBuf>,
    /// The origin of the log that goes on where nobody shows that the archive is the newest; else one is made up.
    #[arg(long, value_name = "ORIGIN")]
    new_origin: Option<String>,
    /// Do it; without, read and judge everything and say what would be done.
    #[arg(long)]
    yes: bool,
}

pub fn run(arguments: &RestoreArguments, context: &Context) -> Result<(), Failure> {
    let config = context.load()?;
    let state = config.paths.state.clone();
    let restoring = config.paths.restoring();
    let staged = Staged { disk: &SystemDisk, state: &state, dir: &restoring };
    if let Some(decided) = staged.decided().map_err(failure)? {
        say("a restore was stopped after it was decided; it goes on")?;
        return finish(&config, &staged, &decided);
    }
    refuse_unless_empty(&config)?;
    // A run that was stopped before it decided anything left only copies.
    discard(&restoring)?;
    directories::prepare(&config.paths, None, None)?;
    let outcome = judge(arguments, &config, &staged);
    let decided = match outcome {
        Ok(Some(decided)) => decided,
        other => {
            discard(&restoring)?;
            return other.map(drop);
        }
    };
    staged.decide(&decided).map_err(failure)?;
    finish(&config, &staged, &decided)
}

fn say(text: &str) -> Result<(), Failure> {
    print(text)
}

fn refuse_unless_empty(config: &Config) -> Result<(), Failure> {
    let paths = &config.paths;
    let (log, store, epoch) =
        (paths.log(), paths.web().join("store.redb"), paths.issuer().join("epoch.json"));
    for path in [paths.authority(), log, store, epoch] {
        if path.exists() {
            return Err(Failure::operator(format!(
                "CHY-RESTORE-NOT-EMPTY: {} is there: a box that has anything is not restored over. Move {} away, or restore on another machine",
                path.display(),
                paths.state.display()
            )));
        }
    }
    Ok(())
}

fn discard(dir: &Path) -> Result<(), Failure> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(broken(dir, &error)),
        _ => Ok(()),
    }
}

fn broken(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::failed(format!("CHY-BACKUP-IO: {}: {error}", path.display()))
}

/// Reads and judges everything; `None` if it shall not be done.
fn judge(
    arguments: &RestoreArguments,
    config: &Config,
    staged: &Staged<'_>,
) -> Result<Option<Decided>, Failure> {
    let identities = identities(&arguments.identity)?;
    let files = staged.files();
    SystemDisk.create_dir(&files).map_err(|error| broken(&files, &error))?;
    let mut stage = Stage::new(&SystemDisk, &files, arguments.files.len());
    for path in &arguments.files {
        let file = File::open(path).map_err(|error| broken(path, &error))?;
        let name = path.display().to_string();
        open::open(&name, BufReader::new(file), &identities, &mut stage).map_err(failure)?;
    }
    let Opened { manifest, sha256 } = stage.finish().map_err(failure)?;
    Written::read(&SystemDisk, &files.join("ca")).map_err(Failure::operator)?;
    let authority = authority_of(&files)?;
    let note = manifest.checkpoint.as_bytes();
    let (key, checkpoint) = signed(note, &authority).ok_or_else(|| {
        Failure::failed(
            "CHY-BACKUP-DAMAGED: the archive's checkpoint is not signed by the CA's log key; take another archive".into(),
        )
    })?;
    let first = log_is_whole(&files, &checkpoint)?;
    say(&format!(
        "archive of {}: {} records of {}, whole, its checkpoint signed by {key}",
        manifest.made_at, checkpoint.head.size, checkpoint.origin
    ))?;
    let direct = keys_are_there(config, &files, &authority)?;
    let ca = crate::issuer::ca_of(&authority).map_err(Failure::operator)?;
    let found = direct.epochs(&ca).map_err(|error| Failure::operator(error.to_string()))?;
    let on_token = found.iter().max();
    if let Some(newest) = on_token {
        say(&format!(
            "the token is at {newest}, the archive's box was at epoch {}",
            manifest.epoch
        ))?;
    }
    let now = SystemClock::new().now();
    let by = Actor::Operator {
        uid: geteuid().as_raw(),
        user: directories::user_name(geteuid().as_raw()),
    };
    let shown = newest::shown(
        config,
        arguments.newest.as_ref(),
        arguments.cosigned.as_deref(),
        note,
        &checkpoint,
        now,
    )?;
    let way = match shown {
        Ok(shown) => Way::Continues(shown),
        Err(why) => {
            say(&format!("nobody shows that this checkpoint is the newest: {why}"))?;
            let origin = match &arguments.new_origin {
                Some(origin) => origin.clone(),
                None => next_origin(&checkpoint.origin),
            };
            let key = authority.newest_log_key().spki_der().map_err(|why| bad_authority(&why))?;
            VerifierKey::from_spki(&origin, &key).map_err(|why| {
                Failure::operator(format!("CHY-RESTORE-ORIGIN: {origin:?}: {}", why.0))
            })?;
            if origin == checkpoint.origin {
                return Err(Failure::operator(format!(
                    "CHY-RESTORE-ORIGIN: {origin} is the origin of the log that ends; name another"
                )));
            }
            let (ceremony, first) = first;
            let mut own = Note::parse(note).map_err(|why| bad_authority(&why.0))?;
            own.signatures.retain(|line| line.name == checkpoint.origin);
            let root = checkpoint.head.root;
            Way::Succeeded {
                first: Box::new(LogSucceededV1 {
                    ceremony: CeremonyV1 { origin, log_key: key, ..ceremony },
                    at: now,
                    origin: checkpoint.origin.clone(),
                    size: checkpoint.head.size,
                    root,
                    first,
                    checkpoint: own.to_string(),
                    unknown_from: manifest.made,
                    unknown_until: now,
                    backup_sha256: sha256,
                    by: by.clone(),
                }),
                sealed: format!("sealed/{}-{}", checkpoint.head.size, hex(&root[..4])),
            }
        }
    };
    say(&match &way {
        Way::Continues(_) => format!("the log {} goes on behind these records", checkpoint.origin),
        Way::Succeeded { first, .. } => format!(
            "the log {} ends with these records and is kept; {} goes on for it. What was issued or revoked since {} is unknown to it",
            first.origin, first.ceremony.origin, manifest.made_at
        ),
    })?;
    let decided = Decided {
        version: 1,
        at: now,
        by,
        backup_sha256: sha256,
        made: manifest.made,
        size: checkpoint.head.size,
        root: checkpoint.head.root,
        checkpoint: manifest.checkpoint,
        way,
        epoch: on_token.map_or(0, |epoch| epoch.number).max(manifest.epoch).saturating_add(1),
        holder: random_16(&SystemRng),
    };
    if !arguments.yes {
        say("nothing was changed; --yes does it")?;
        return Ok(None);
    }
    Ok(Some(decided))
}

fn authority_of(files: &Path) -> Result<Authority, Failure> {
    let path = files.join("ca/authority.json");
    let octets = std::fs::read(&path).map_err(|error| broken(&path, &error))?;
    serde_json::from_slice(&octets).map_err(|why| bad_authority(&why))
}

fn bad_authority(why: &dyn std::fmt::Display) -> Failure {
    Failure::failed(format!(
        "CHY-BACKUP-DAMAGED: the archive's ca/authority.json: {why}; take another archive"
    ))
}

/// The log that was staged is what the checkpoint states. Gives what its first leaf says, and that leaf's hash.
fn log_is_whole(files: &Path, checkpoint: &Checkpoint) -> Result<(CeremonyV1, [u8; 32]), Failure> {
    let failed = |error: crate::log::OpenError| Failure::failed(error.to_string());
    let reader = Reader::open(Arc::new(SystemDisk), &files.join("issuer/log")).map_err(failed)?;
    let tail = reader.walk(&mut |_, _, _, _| Ok(())).map_err(failed)?;
    if tail.edge.head() != checkpoint.head || tail.torn.is_some() {
        return Err(Failure::failed(
            "CHY-BACKUP-DAMAGED: the log in the archive is not what its checkpoint states; take another archive".into(),
        ));
    }
    let entry = reader.entries(LeafIndex(0)).next().transpose().map_err(failed)?;
    let first = entry.and_then(|entry| {
        let ceremony = entry.record.as_ref().ok()?.first()?.clone();
        Some((ceremony, leaf_hash(&entry.payload)))
    });
    first.ok_or_else(|| bad_authority(&"the log's first record is no ceremony"))
}

/// The box's own token, with every key as it must be.
fn keys_are_there(
    config: &Config,
    files: &Path,
    authority: &Authority,
) -> Result<Arc<Direct>, Failure> {
    let records = records_of(Some(authority), &files.join("ca"))?;
    let pin = pin::read(&config.pin)?;
    let checked = examine(&records, &config.token, &pin, None);
    let wrong: Vec<String> = checked
        .iter()
        .filter(|key| key.is == "wrong")
        .map(|key| format!("\n  {}: {}", key.label, key.said))
        .collect();
    if !wrong.is_empty() {
        return Err(Failure::operator(format!(
            "CHY-RESTORE-TOKEN: {} of the CA's {} keys are not on the token; nothing was changed. A backup has no keys: bring the box's own token, or a copy of it made by the maker's means{}",
            wrong.len(),
            checked.len(),
            wrong.concat()
        )));
    }
    say(&format!("the token has the CA's {} keys", checked.len()))?;
    let uri = authority.issuing_key.parsed_uri().map_err(|why| bad_authority(&why))?;
    Direct::open(&config.token, &TokenName::of(&uri), &pin, true)
        .map_err(|error| Failure::operator(error.to_string()))
}

/// `NAME/r2` for `NAME`, `NAME/r3` for that.
fn next_origin(origin: &str) -> String {
    let numbered =
        origin.rsplit_once("/r").and_then(|(name, n)| Some((name, n.parse::<u32>().ok()?)));
    match numbered {
        Some((name, n)) => format!("{name}/r{}", n.saturating_add(1)),
        None => format!("{origin}/r2"),
    }
}

/// From the decision to a box. Every step can be done again.
fn finish(config: &Config, staged: &Staged<'_>, decided: &Decided) -> Result<(), Failure> {
    let files = staged.files();
    let prepared = staged.dir.join("prepared");
    if !prepared.exists() {
        prepare(config, staged, decided)?;
        SystemDisk.replace(&prepared, b"", true).map_err(|error| broken(&prepared, &error))?;
    }
    let issuer = heir(config)?;
    let web = config.process.web_user.as_deref().filter(|_| geteuid().is_root());
    let web = web.map(directories::owner).transpose()?;
    directories::prepare(&config.paths, issuer, web)?;
    staged.install("ca/authority.json").map_err(failure)?;
    // What was staged was nobody else's business; these two are both processes'.
    for path in [config.paths.ca(), config.paths.public()] {
        open_to_all(&path)?;
    }
    hand_over(config, issuer)?;
    if let Some(web) = web {
        directories::hand_over(&config.paths.web(), web)?;
    }
    discard(staged.dir)?;
    SystemDisk.sync_dir(staged.state).map_err(|error| broken(&files, &error))?;
    say(match &decided.way {
        Way::Continues(_) => {
            "restored: start the box. Compare restored-config/ with its configuration"
        }
        Way::Succeeded { .. } => {
            "restored: start the box. Compare restored-config/ with its configuration; tell witnesses and auditors the new origin, and enter again what was revoked since the backup: `Backup and restore` in the manual"
        }
    })
}

/// Directories 0755, files 0644, as ceremonies and the issuer leave them.
fn open_to_all(path: &Path) -> Result<(), Failure> {
    let failed = |error: std::io::Error| broken(path, &error);
    let found = std::fs::symlink_metadata(path).map_err(failed)?;
    if found.is_symlink() {
        return Ok(());
    }
    let mode = if found.is_dir() { 0o755 } else { 0o644 };
    std::fs::set_permissions(path, Permissions::from_mode(mode)).map_err(failed)?;
    if found.is_dir() {
        for entry in std::fs::read_dir(path).map_err(failed)? {
            open_to_all(&entry.map_err(failed)?.path())?;
        }
    }
    Ok(())
}

fn prepare(config: &Config, staged: &Staged<'_>, decided: &Decided) -> Result<(), Failure> {
    let files = staged.files();
    let mut authority = authority_of(&files)?;
    if let Way::Succeeded { first, sealed } = &decided.way {
        let octets = config.log.segment_mib.clamp(1, 1024) << 20;
        staged.succeed(first, sealed, octets).map_err(failure)?;
        if authority.origin != first.ceremony.origin {
            // Who verifies the log that ended needs these, and nothing else of it is left.
            let keys = authority.log_keys().map(|record| {
                let spki = record.spki_der().map_err(|why| bad_authority(&why))?;
                VerifierKey::from_spki(&first.origin, &spki).map_err(|why| bad_authority(&why.0))
            });
            let keys = keys.collect::<Result<Vec<_>, Failure>>()?;
            let keys: String = keys.iter().map(|key| format!("{key}\n")).collect();
            let at = |name: &str| format!("issuer/{sealed}/{name}");
            staged.put(&at("vkeys"), keys.as_bytes()).map_err(failure)?;
            staged.put(&at("checkpoint"), first.checkpoint.as_bytes()).map_err(failure)?;
            let written =
                Written::read(&SystemDisk, &files.join("ca")).map_err(Failure::operator)?;
            authority.begin_log(&first.ceremony.origin, written.format >= Format(2));
            let text = serde_json::to_vec_pretty(&authority).map_err(|why| bad_authority(&why))?;
            staged.put("ca/authority.json", &text).map_err(failure)?;
        }
    }
    let held = take_token(config, &authority, decided)?;
    let epoch = Epoch { number: decided.epoch, holder: decided.holder };
    let issuer = files.join("issuer");
    let failed = |error: std::io::Error| broken(&issuer, &error);
    OwnEpoch::new(epoch, held).write(&SystemDisk, &issuer).map_err(failed)?;
    if matches!(decided.way, Way::Continues(_)) {
        // The log's next opening holds it against its records.
        let note = decided.checkpoint.as_bytes();
        staged.put("issuer/log/checkpoint", note).map_err(failure)?;
    }
    let restored = match &decided.way {
        Way::Continues(shown) => Some(Restored {
            size: decided.size,
            root: decided.root,
            made: decided.made,
            backup_sha256: decided.backup_sha256,
            shown: shown.clone(),
            by: decided.by.clone(),
        }),
        // The first leaf says it.
        Way::Succeeded { .. } => None,
    };
    let Epoch { number, holder } = epoch;
    let taken = Taken { number, holder, held, by: decided.by.clone() };
    Unrecorded { version: 1, restored, epoch: Some(taken) }
        .write(&SystemDisk, &issuer)
        .map_err(failed)?;
    fill_store(&files.join("web"))
}

/// Raises the token's epoch; from here on the box that was there before does not sign.
fn take_token(config: &Config, authority: &Authority, decided: &Decided) -> Result<bool, Failure> {
    let direct = super::backup::take_token::open(config, authority)?;
    let ca = crate::issuer::ca_of(authority).map_err(Failure::operator)?;
    let refused = |error: crate::hsm::token::TokenError| Failure::operator(error.to_string());
    let epoch = Epoch { number: decided.epoch, holder: decided.holder };
    let found = direct.epochs(&ca).map_err(refused)?;
    if let Some(newer) = found.iter().find(|found| found.number >= epoch.number && **found != epoch)
    {
        return Err(Failure::operator(format!(
            "CHY-RESTORE-OVERTAKEN: the token is at {newer} meanwhile: another restore took it. Decide which of the two boxes goes on; to give this one up, remove {}",
            config.paths.restoring().display()
        )));
    }
    let held = direct.take_epoch(&ca, epoch).map_err(refused)? == Held::Yes;
    say(&if held {
        format!("the token is this box's now: {epoch}")
    } else {
        "CHY-EPOCH-UNSUPPORTED: the token takes no data objects: nothing but you keeps the former box from signing with it".into()
    })?;
    Ok(held)
}

/// The store's file from its copy.
fn fill_store(web: &Path) -> Result<(), Failure> {
    let (copy, store) = (web.join("store.facts"), web.join("store.redb"));
    if !copy.exists() {
        return Ok(());
    }
    let _ = std::fs::remove_file(&store);
    let file = File::open(&copy).map_err(|error| broken(&copy, &error))?;
    crate::store::embedded::copy::fill(&store, &mut BufReader::new(file))
        .map_err(Failure::failed)?;
    SystemDisk
        .remove(&copy)
        .and_then(|()| SystemDisk.sync_dir(web))
        .map_err(|error| broken(web, &error))
}

#[cfg(test)]
mod tests {
    #[test]
    fn origins_are_counted_on() {
        for (origin, next) in [
            ("ca.lan/log", "ca.lan/log/r2"),
            ("ca.lan/log/r2", "ca.lan/log/r3"),
            ("ca/rx", "ca/rx/r2"),
        ] {
            assert_eq!(super::next_origin(origin), next);
        }
    }
}
