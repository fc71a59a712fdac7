//! `chancery backup`: make an archive while the box runs, check archives, take the token for this box.

pub(super) mod take_token;

use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};

use super::{Context, Failure, print, print_json};
use crate::app::snapshot;
use crate::backup::age::{Identity, Recipient};
use crate::backup::check::{Check, signed};
use crate::backup::make::{self, Content, Digesting, Source, small};
use crate::backup::manifest::{Key, Manifest};
use crate::backup::{BackupError, open, tar};
use crate::config::Config;
use crate::env::system::{SystemClock, SystemDisk, SystemRng};
use crate::env::{Clock, Disk, Rng, random_16};
use crate::id::{Timestamp, hex};
use crate::issuer::epoch::OwnEpoch;
use crate::log::note::MAX_NOTE;
use crate::pki::authority::Authority;
use crate::store::StoreError;
use crate::store::embedded::Embedded;

/// `chancery backup`.
#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct BackupArguments {
    #[command(subcommand)]
    command: Option<BackupCommand>,
    #[command(flatten)]
    make: Make,
}

#[derive(Clone, Debug, Subcommand)]
enum BackupCommand {
    /// Read archives whole: every digest, the chain, the log's tree and who signed its checkpoint. Needs no box.
    Check(CheckArguments),
    /// Make this box the one that the token signs for, where another took it by mistake. For a box that does not run.
    TakeToken(take_token::TakeToken),
}

#[derive(Clone, Debug, Args)]
struct Make {
    /// The archive, or a directory in which it gets a name; else [backup] dir. An existing file is never overwritten.
    #[arg(long, value_name = "PATH")]
    to: Option<PathBuf>,
    /// Whom it is encrypted to, `age1…`; repeatable. Else [backup] recipients.
    #[arg(long, value_name = "RECIPIENT")]
    recipient: Vec<String>,
    /// Of the log only what the last archive of this box has not; a restore then takes the whole chain.
    #[arg(long)]
    incremental: bool,
}

#[derive(Clone, Debug, Args)]
struct CheckArguments {
    /// The archive; of a chain all of them, oldest first.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// A file with the identity of a recipient, as age-keygen writes it; repeatable.
    #[arg(long, value_name = "FILE", required = true)]
    identity: Vec<PathBuf>,
}

/// What is remembered of the last archive that was written whole: `last-backup.json` in the issuer's directory, and in
/// `public/`, without the manifest, for whoever watches the box.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LastBackup {
    /// When it was begun, milliseconds since 1970.
    pub made: u64,
    pub made_at: String,
    /// Records of the log up to its checkpoint.
    pub records: u64,
    pub incremental: bool,
    /// Of the file.
    pub octets: u64,
    pub sha256: String,
    /// Without what is in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    manifest: Option<Manifest>,
}

/// The file's name, in both places.
pub const LAST: &str = "last-backup.json";

pub fn run(arguments: &BackupArguments, context: &Context) -> Result<(), Failure> {
    match &arguments.command {
        None => make(&arguments.make, context),
        Some(BackupCommand::Check(arguments)) => check(arguments, context),
        Some(BackupCommand::TakeToken(arguments)) => take_token::run(arguments, context),
    }
}

pub(super) fn failure(error: BackupError) -> Failure {
    match error {
        BackupError::Retry(text) => Failure::retry(text),
        BackupError::Refuse(text) => Failure::operator(text),
        BackupError::Damaged(text) => Failure::failed(text),
    }
}

/// Reads identities from files.
pub(super) fn identities(paths: &[PathBuf]) -> Result<Vec<Identity>, Failure> {
    let read = |path: &PathBuf| {
        let bad = |why: &dyn std::fmt::Display| {
            Failure::operator(format!("CHY-BACKUP-IDENTITY: {}: {why}", path.display()))
        };
        let text = std::fs::read_to_string(path).map(zeroize::Zeroizing::new);
        Identity::read(&text.map_err(|error| bad(&error))?).map_err(|why| bad(&why))
    };
    paths.iter().map(read).collect()
}

fn check(arguments: &CheckArguments, context: &Context) -> Result<(), Failure> {
    let identities = identities(&arguments.identity)?;
    let mut check = Check::default();
    let mut last = None;
    for path in &arguments.files {
        let file = File::open(path).map_err(|error| unreadable(path, &error))?;
        let name = path.display().to_string();
        let opened = open::open(&name, BufReader::new(file), &identities, &mut check);
        last = Some(opened.map_err(failure)?);
    }
    let key = check.finish().map_err(failure)?;
    let Some(open::Opened { manifest, .. }) = last else { return Ok(()) };
    if context.json {
        return print_json(&serde_json::json!({
            "made": manifest.made_at, "origin": manifest.origin, "records": manifest.end.leaves,
            "files": manifest.files.len(), "keys": manifest.keys, "epoch": manifest.epoch, "signed_by": key,
            "base": manifest.base, "id": manifest.id,
        }));
    }
    print(&format!(
        "whole: made {}, {} records of {}, {} files, {} keys on the token, epoch {}; its checkpoint is signed by {key}",
        manifest.made_at,
        manifest.end.leaves,
        manifest.origin,
        manifest.files.len(),
        manifest.keys.len(),
        manifest.epoch
    ))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::operator(format!("CHY-BACKUP-IO: {}: {error}", path.display()))
}

fn make(arguments: &Make, context: &Context) -> Result<(), Failure> {
    let config = context.load()?;
    crate::app::refuse_half_restored(&config)?;
    let authority = crate::app::require_authority(&config)?;
    let recipients = recipients(arguments, &config)?;
    let made = SystemClock::new().now();
    let to = destination(arguments, &config, authority, made)?;
    // First the store: what it says is in the log is in the log by the time that the checkpoint is read.
    let store = store(&config)?;
    let written = archive(&config, authority, &recipients, arguments.incremental, &to, &store);
    let _ = std::fs::remove_file(&store);
    let last = written?;
    remember(&config, &last)?;
    if context.json {
        return print_json(&serde_json::json!({
            "file": to, "made": last.made_at, "records": last.records, "incremental": last.incremental,
            "octets": last.octets, "sha256": last.sha256,
        }));
    }
    print(&format!(
        "{}: {} records, {}, {} octets, SHA-256 {}",
        to.display(),
        last.records,
        if last.incremental { "incremental" } else { "full" },
        last.octets,
        last.sha256
    ))
}

fn recipients(arguments: &Make, config: &Config) -> Result<Vec<Recipient>, Failure> {
    let texts = match arguments.recipient.as_slice() {
        [] => &config.backup.recipients,
        given => given,
    };
    if texts.is_empty() {
        return Err(Failure::operator(
            "CHY-BACKUP-RECIPIENT: an archive is encrypted to somebody: name an age recipient in [backup] recipients or by --recipient; `age-keygen` makes one, and its identity is kept away from this box".into(),
        ));
    }
    let parse = |text: &String| {
        text.parse()
            .map_err(|why| Failure::operator(format!("CHY-BACKUP-RECIPIENT: {text:?}: {why}")))
    };
    texts.iter().map(parse).collect()
}

/// Where the archive goes, which must not exist.
fn destination(
    arguments: &Make,
    config: &Config,
    authority: &Authority,
    made: Timestamp,
) -> Result<PathBuf, Failure> {
    let Some(to) = arguments.to.as_ref().or(config.backup.dir.as_ref()) else {
        return Err(Failure::operator(
            "CHY-BACKUP-PLACE: where to? --to FILE or DIRECTORY, or [backup] dir".into(),
        ));
    };
    let path = if to.is_dir() {
        let origin = plain(&authority.origin);
        let time: String =
            made.to_string().chars().filter(|c| c.is_ascii_digit() || *c == 'T').collect();
        // Two within a second are two archives, and sort as they were made.
        to.join(format!("chancery-{origin}-{time}.{:03}Z.age", made.0 % 1000))
    } else {
        to.clone()
    };
    if path.symlink_metadata().is_ok() {
        return Err(exists(&path));
    }
    Ok(path)
}

/// What may be part of a file's name anywhere.
fn plain(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect()
}

fn exists(path: &Path) -> Failure {
    Failure::operator(format!(
        "CHY-BACKUP-EXISTS: {} is there already, and an archive is never overwritten; choose another name, or a directory",
        path.display()
    ))
}

/// A copy of the store in the web process's own directory: made by that process, or here where none runs.
fn store(config: &Config) -> Result<PathBuf, Failure> {
    let (dir, rng) = (config.paths.web(), SystemRng);
    let number = hex(&random_16(&rng));
    let path = snapshot::answer_path(&dir, &number);
    let database = dir.join("store.redb");
    // A box that never served has an empty store. Made in its place it would be whose this command is.
    let empty = (!database.exists()).then(|| path.with_extension("empty"));
    if empty.is_some() {
        std::fs::create_dir_all(&dir).map_err(|error| unreadable(&dir, &error))?;
    }
    match Embedded::open(empty.as_ref().unwrap_or(&database), Arc::new(SystemDisk)) {
        Ok(store) => {
            let written = snapshot::write(&store, &path);
            drop(store);
            if let Some(empty) = empty {
                let _ = std::fs::remove_file(empty);
            }
            written.map_err(|why| Failure::failed(format!("CHY-STORE-COPY: {why}")))?;
            return Ok(path);
        }
        Err(StoreError::Halt(text)) => return Err(Failure::operator(text)),
        Err(StoreError::Busy | StoreError::Conflict) => {}
    }
    let wanted = dir.join(snapshot::WANTED);
    std::fs::write(&wanted, format!("{number}\n")).map_err(|error| unreadable(&wanted, &error))?;
    let clock = SystemClock::new();
    let began = clock.monotonic();
    let answered = loop {
        if path.exists() {
            break true;
        }
        if clock.monotonic().saturating_sub(began) > PATIENCE {
            break false;
        }
        wait(snapshot::STEP);
    };
    let _ = std::fs::remove_file(&wanted);
    if answered {
        return Ok(path);
    }
    Err(Failure::retry(format!(
        "CHY-BACKUP-STORE: {} is in use, and no web process copied it within {} s; see its log",
        database.display(),
        PATIENCE.as_secs()
    )))
}

/// A pause of a tool that has nothing else to do.
fn wait(time: std::time::Duration) {
    let (sender, receiver) = std::sync::mpsc::channel::<()>();
    let _ = receiver.recv_timeout(time);
    drop(sender);
}

fn archive(
    config: &Config,
    authority: &Authority,
    recipients: &[Recipient],
    incremental: bool,
    to: &Path,
    store: &Path,
) -> Result<LastBackup, Failure> {
    let disk = SystemDisk;
    let note_path = config.paths.public().join("checkpoint");
    let note = disk.read(&note_path, MAX_NOTE as u64).map_err(|e| unreadable(&note_path, &e))?;
    let (_, checkpoint) = signed(&note, authority).ok_or_else(|| {
        Failure::failed(format!(
            "CHY-BACKUP-LOG: {} is not signed by a key of this log; nothing was written. chancery log verify says more",
            note_path.display()
        ))
    })?;
    let note = String::from_utf8_lossy(&note).into_owned();
    // All else after the checkpoint: what the log says of a file, the file has by then.
    let files = files(config, store)?;
    let base = if incremental { Some(last(config)?) } else { None };
    let keys = authority.keys().map(Key::of).collect::<Result<Vec<_>, _>>();
    let keys = keys.map_err(|why| super::log_key::broken(config, &why))?;
    let epoch = OwnEpoch::read(&disk, &config.paths.issuer()).map_err(Failure::operator)?;
    let log = config.paths.log();
    let source = Source {
        disk: &disk,
        rng: &SystemRng as &dyn Rng,
        log: &log,
        note: &note,
        checkpoint: &checkpoint,
        made: SystemClock::new().now(),
        ca: authority.transcript_sha256.to_ascii_lowercase(),
        keys,
        epoch: epoch.map_or(0, |own| own.number),
        base,
        files,
    };
    let manifest = make::plan(&source).map_err(failure)?;
    let (sha256, octets) = write(&source, &manifest, recipients, to)?;
    Ok(LastBackup {
        made: manifest.made.0,
        made_at: manifest.made_at.clone(),
        records: manifest.end.leaves,
        incremental: manifest.base.is_some(),
        octets,
        sha256,
        manifest: Some(Manifest { log: Vec::new(), files: Vec::new(), ..manifest }),
    })
}

/// The file gets its name when it is whole, durable, and was read back as it was written.
fn write(
    source: &Source<'_>,
    manifest: &Manifest,
    recipients: &[Recipient],
    to: &Path,
) -> Result<(String, u64), Failure> {
    let dir = match to.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let name = to.file_name().unwrap_or_default().to_string_lossy();
    let half = dir.join(format!(".{name}.{}.tmp", std::process::id()));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&half)
        .map_err(|error| crate::backup::failed(&half, &error))
        .and_then(|file| {
            let out = Digesting::new(BufWriter::with_capacity(1 << 18, file));
            let (mut file, sha256, octets) =
                make::write(source, manifest, recipients, out)?.finish();
            file.flush().map_err(|error| crate::backup::failed(&half, &error))?;
            let back = source.disk.open(&half).and_then(|file| {
                file.sync_data()?;
                make::digest(File::open(&half)?)
            });
            match back.map_err(|error| crate::backup::failed(&half, &error))? {
                back if back == sha256 => Ok((sha256, octets)),
                _ => Err(BackupError::Damaged(format!(
                    "CHY-BACKUP-CHANGED: {} does not read back as it was written; the archive was removed. Check the storage",
                    half.display()
                ))),
            }
        })
        .map_err(failure)
        .and_then(|written| {
            let renamed = rustix::fs::renameat_with(
                rustix::fs::CWD,
                &half,
                rustix::fs::CWD,
                to,
                rustix::fs::RenameFlags::NOREPLACE,
            );
            match renamed {
                Ok(()) => {}
                Err(rustix::io::Errno::EXIST) => return Err(exists(to)),
                // File systems of memory sticks do not know that flag.
                Err(_) if to.symlink_metadata().is_err() => {
                    std::fs::rename(&half, to).map_err(|error| unreadable(to, &error))?;
                }
                Err(error) => return Err(unreadable(to, &error.into())),
            }
            source.disk.sync_dir(dir).map_err(|error| unreadable(dir, &error))?;
            Ok(written)
        });
    if written.is_err() {
        let _ = std::fs::remove_file(&half);
    }
    written
}

/// The last archive that was written whole, as anyone on the box may know it.
pub(super) fn last_made(config: &Config) -> Option<LastBackup> {
    let octets = SystemDisk.read(&config.paths.public().join(LAST), 1 << 16).ok()?;
    serde_json::from_slice(&octets).ok()
}

/// The archive that an incremental one continues.
fn last(config: &Config) -> Result<Manifest, Failure> {
    let path = config.paths.issuer().join(LAST);
    let read = std::fs::read(&path).ok();
    let read = read.and_then(|octets| serde_json::from_slice::<LastBackup>(&octets).ok());
    read.and_then(|last| last.manifest).ok_or_else(|| {
        Failure::operator(format!(
            "CHY-BACKUP-BASE: {} names no archive that could be continued; make a full one first",
            path.display()
        ))
    })
}

fn remember(config: &Config, last: &LastBackup) -> Result<(), Failure> {
    let told = LastBackup { manifest: None, ..last.clone() };
    for (path, what) in
        [(config.paths.issuer().join(LAST), last), (config.paths.public().join(LAST), &told)]
    {
        let octets = serde_json::to_vec(what)
            .map_err(|why| Failure::failed(format!("CHY-INTERNAL: {why}")))?;
        SystemDisk.replace(&path, &octets, true).map_err(|error| {
            Failure::failed(format!(
                "CHY-BACKUP-IO: the archive is whole, but {}: {error}",
                path.display()
            ))
        })?;
    }
    Ok(())
}

/// Everything but the log. What is made anew at a start, the PIN's memory and the admin key are left out.
fn files(config: &Config, store: &Path) -> Result<Vec<(String, Content)>, Failure> {
    let paths = &config.paths;
    let mut found = vec![("web/store.facts".to_owned(), Content::File(store.to_owned()))];
    let every = |_: &str| true;
    below(&paths.ca(), "ca", &every, &mut found)?;
    let crl = |name: &str| name.ends_with(".crl");
    below(&paths.public(), "public", &crl, &mut found)?;
    for part in ["tickets", "witness"] {
        below(&paths.issuer().join(part), &format!("issuer/{part}"), &every, &mut found)?;
    }
    for name in ["starts.json", "wrong-signatures", "fork"] {
        let octets = small(&SystemDisk, &paths.issuer().join(name)).map_err(failure)?;
        found.extend(octets.map(|o| (format!("issuer/{name}"), Content::Octets(o))));
    }
    let effective = config.to_toml().map_err(|error| Failure::failed(error.to_string()))?;
    found.push(("config/effective.toml".into(), Content::Octets(effective.into_bytes())));
    for (n, path) in config.files.iter().enumerate() {
        let name = plain(&path.file_name().unwrap_or_default().to_string_lossy());
        let octets = small(&SystemDisk, path).map_err(failure)?;
        found.extend(octets.map(|o| (format!("config/{n}-{name}"), Content::Octets(o))));
    }
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(found)
}

/// The plain files of a directory and those below it. They are small, and may be replaced while this runs.
fn below(
    dir: &Path,
    name: &str,
    wanted: &dyn Fn(&str) -> bool,
    found: &mut Vec<(String, Content)>,
) -> Result<(), Failure> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(unreadable(dir, &error)),
    };
    for entry in entries {
        let entry = entry.map_err(|error| unreadable(dir, &error))?;
        let kind = entry.file_type().map_err(|error| unreadable(dir, &error))?;
        let own = entry.file_name().to_string_lossy().into_owned();
        let path = entry.path();
        let full = format!("{name}/{own}");
        if own.starts_with('.') {
            continue;
        }
        if kind.is_dir() && own != "tiles" {
            below(&path, &full, wanted, found)?;
        } else if kind.is_file() && wanted(&own) {
            if !tar::is_name(&full) {
                return Err(Failure::operator(format!(
                    "CHY-BACKUP-NAME: {} cannot be archived under its name; take it out of {}",
                    path.display(),
                    dir.display()
                )));
            }
            let octets = small(&SystemDisk, &path).map_err(failure)?;
            found.extend(octets.map(|octets| (full, Content::Octets(octets))));
        }
    }
    Ok(())
}

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);
