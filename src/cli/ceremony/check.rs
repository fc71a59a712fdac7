//! `chancery ceremony check-transcript` and `check-token`: what a ceremony left, years later.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde::Serialize;

use super::{Context, Failure, print, print_json, read};
use crate::acme::rfc3339;
use crate::app::pin;
use crate::audit::describe::Described;
use crate::ceremony::transcript::Transcript;
use crate::config::{Config, PinSource};
use crate::env::system::SystemDisk;
use crate::hsm::direct::Direct;
use crate::hsm::pool::{Pin, Settings};
use crate::hsm::token::TokenName;
use crate::id::{LeafIndex, hex};
use crate::log::reader::{Entry, Reader};
use crate::log::record::Record;
use crate::pki::authority::{Authority, KeyRecord};
use crate::pki::uri::Pkcs11Uri;
use crate::tlog::checkpoint::Checkpoint;
use crate::tlog::note::VerifierKey;
use crate::tlog::transcript;
use crate::tlog::tree::sha256;

#[derive(Clone, Debug, Args)]
pub struct CheckTranscript {
    /// The transcript, JSON, as its ceremony left it; its signature lies beside it with the extension `note`.
    file: PathBuf,
    /// The log's public key (a vkey) that you kept elsewhere; else those of ca/authority.json.
    #[arg(long, value_name = "VKEY")]
    log_key: Option<VerifierKey>,
}

#[derive(Clone, Debug, Args)]
pub struct CheckToken {
    /// The token to look at, an RFC 7512 URI without PIN; else the one that each key's own URI names.
    #[arg(long, value_name = "URI", value_parser = uri)]
    token: Option<Pkcs11Uri>,
    /// A file like hsm/token/*.toml with its module; else the box's own [token].
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Where its PIN is; else where [state] pin says. `-`: ask for it.
    #[arg(long, value_name = "FILE")]
    pin_file: Option<PathBuf>,
}

fn uri(text: &str) -> Result<Pkcs11Uri, String> {
    Pkcs11Uri::parse_token(text).map_err(|why| why.to_string())
}

/// What was found out about a transcript.
#[derive(Serialize)]
struct Found {
    act: String,
    ceremony: String,
    at: String,
    held_by: Option<String>,
    attended_by: Vec<String>,
    sha256: String,
    leaf: u64,
    recorded: String,
    signed_by: String,
    covered: bool,
}

pub(super) fn transcript(arguments: &CheckTranscript, context: &Context) -> Result<(), Failure> {
    let octets = read(&arguments.file)?;
    let name = arguments.file.display();
    let told: Transcript = serde_json::from_slice(&octets).map_err(|why| {
        Failure::operator(format!("CHY-TRANSCRIPT: {name} is no transcript: {why}"))
    })?;
    if told.rehearsal {
        return Err(Failure::failed(format!(
            "CHY-TRANSCRIPT-REHEARSAL: {name} is the transcript of a rehearsal, and in no log"
        )));
    }
    let config = context.load()?;
    let authority = crate::app::require_authority(&config)?;
    let keys = match &arguments.log_key {
        Some(key) => vec![key.clone()],
        None => authority
            .logs()
            .flat_map(|(origin, keys)| keys.into_iter().map(move |key| verifier(origin, key)))
            .collect::<Result<_, _>>()?,
    };
    let digest = sha256(&octets);
    let entry = recorded(&config, &digest, &told.at)?.ok_or_else(|| {
        Failure::failed(format!(
            "CHY-TRANSCRIPT-UNKNOWN: no record of the log has the digest of {name}, SHA-256 {}",
            hex(&digest)
        ))
    })?;
    let note_path = arguments.file.with_extension("note");
    let unsigned = |why: &str| {
        Failure::failed(format!(
            "CHY-TRANSCRIPT-UNSIGNED: {}: {why}; but leaf {} of the log has the transcript's digest",
            note_path.display(),
            entry.leaf
        ))
    };
    let note = std::fs::read(&note_path).map_err(|error| unsigned(&error.to_string()))?;
    // Signed for the log as it was called then; a key's name is its log's origin.
    let signer = transcript::signer(&note, &keys, |origin| {
        transcript::statement(origin, &told.act, &told.at, &digest)
    });
    let signer = signer
        .map_err(|why| unsigned(&why.to_string()))?
        .ok_or_else(|| unsigned("no log key signed it for this transcript"))?;
    let published = std::fs::read(config.paths.public().join("checkpoint")).unwrap_or_default();
    let covered = keys.iter().any(|key| {
        Checkpoint::open(&published, key).is_ok_and(|stated| stated.head.size > entry.leaf.0)
    });
    let found = Found {
        act: told.act.clone(),
        ceremony: told.ceremony.clone(),
        at: told.at.clone(),
        held_by: told.held_by.as_ref().map(|by| format!("{} (uid {})", by.user, by.uid)),
        attended_by: told.attended_by.clone(),
        sha256: hex(&digest),
        leaf: entry.leaf.0,
        recorded: entry.record.as_ref().map_or_else(|_| String::new(), |r| r.at().to_string()),
        signed_by: signer.to_string(),
        covered,
    };
    if context.json {
        return print_json(&found);
    }
    let by = found.held_by.as_deref().unwrap_or("nobody is named");
    print(&format!(
        "{} ({}), held {} by {by}\nSHA-256    {}\nleaf {}    {}\ncovered    {}\nsigned by  {}",
        found.act,
        found.ceremony,
        found.at,
        found.sha256,
        found.leaf,
        Described::of(&entry).gist(),
        if covered { "by the published checkpoint" } else { "by no checkpoint of this key yet" },
        found.signed_by,
    ))?;
    for name in &found.attended_by {
        print(&format!("attended   {name}, as was said at the keyboard"))?;
    }
    Ok(())
}

/// The first record with this digest: from the day of the ceremony on, then anywhere.
fn recorded(config: &Config, digest: &[u8; 32], at: &str) -> Result<Option<Entry>, Failure> {
    let failed = |error: crate::log::OpenError| Failure::operator(error.to_string());
    let reader = Reader::open(Arc::new(SystemDisk), &config.paths.log()).map_err(failed)?;
    let after = rfc3339::parse(at).map(|at| reader.since(at)).transpose().map_err(failed)?;
    let has = |entry: &Entry| match &entry.record {
        Ok(Record::CeremonyV1(r)) => r.transcript_sha256 == *digest,
        Ok(Record::LogSucceededV1(r)) => r.ceremony.transcript_sha256 == *digest,
        Ok(Record::LogKeyRotatedV1(r)) => r.transcript_sha256 == *digest,
        Ok(Record::IssuerAddedV1(r)) => r.transcript_sha256 == *digest,
        Ok(Record::RootAddedV1(r)) => r.transcript_sha256 == *digest,
        Ok(Record::CeremonyHeldV1(r)) => r.transcript_sha256 == *digest,
        _ => false,
    };
    for from in after.into_iter().chain([LeafIndex(0)]) {
        for entry in reader.entries(from) {
            let entry = entry.map_err(failed)?;
            if has(&entry) {
                return Ok(Some(entry));
            }
        }
    }
    Ok(None)
}

fn verifier(origin: &str, record: &KeyRecord) -> Result<VerifierKey, Failure> {
    let broken = |why: &str| {
        Failure::operator(format!("CHY-CA-BROKEN: ca/authority.json: a log key: {why}"))
    };
    let key = record.public_key().map_err(broken)?;
    VerifierKey::from_spki(origin, key.spki()).map_err(|why| broken(why.0))
}

/// What was found out about a key.
#[derive(Serialize)]
pub(in crate::cli) struct Checked {
    pub(in crate::cli) label: String,
    uri: String,
    /// `ok`, `elsewhere` or `wrong`.
    pub(in crate::cli) is: &'static str,
    pub(in crate::cli) said: String,
}

pub(super) fn token(arguments: &CheckToken, context: &Context) -> Result<(), Failure> {
    let config = context.load()?;
    let records = records(&config)?;
    let settings: Settings = match &arguments.settings {
        Some(path) => {
            crate::config::read(path).map_err(|error| Failure::operator(error.to_string()))?
        }
        None => config.token.clone(),
    };
    let source = match arguments.pin_file.as_deref() {
        Some(path) if path == Path::new("-") => PinSource::Prompt,
        Some(path) => PinSource::File(path.to_owned()),
        None => config.pin.clone(),
    };
    let pin = pin::read(&source)?;
    let checked = examine(&records, &settings, &pin, arguments.token.as_ref());
    let wrong = checked.iter().filter(|key| key.is == "wrong").count();
    if context.json {
        print_json(&checked)?;
    } else {
        for Checked { label, is, said, .. } in &checked {
            print(&format!("{is:<10} {label:<24} {said}"))?;
        }
    }
    if wrong == 0 {
        return Ok(());
    }
    Err(Failure::failed(format!(
        "CHY-TOKEN-KEYS: {wrong} of {} keys are not on the token as the ceremony left them",
        checked.len()
    )))
}

/// Looks for each key on the token that its URI names, or on the one that is named instead.
pub(in crate::cli) fn examine(
    records: &[(KeyRecord, Pkcs11Uri)],
    settings: &Settings,
    pin: &Pin,
    token: Option<&Pkcs11Uri>,
) -> Vec<Checked> {
    // Keys of the box's own token must be there; a root's token may be in a safe.
    let home = records.first().map(|(_, uri)| TokenName::of(uri));
    let mut open: BTreeMap<String, Result<Arc<Direct>, String>> = BTreeMap::new();
    let mut checked = Vec::new();
    for (record, uri) in records {
        let own = TokenName::of(uri);
        let name = token.map_or_else(|| own.clone(), TokenName::of);
        let opened = open.entry(name.to_string()).or_insert_with(|| {
            Direct::open(settings, &name, pin, false).map_err(|error| error.to_string())
        });
        let label = uri.object.clone().unwrap_or_default();
        let (is, said) = match opened.as_ref().map_err(Clone::clone).and_then(|direct| {
            let id = uri.id.as_deref().ok_or("CHY-CA-BROKEN: its URI has no id")?;
            let public = record.public_key().map_err(|why| format!("CHY-CA-BROKEN: {why}"))?;
            direct.key(&label, id, public).map_err(|error| error.to_string())?;
            Ok(direct.token.serial.clone())
        }) {
            Ok(serial) => ("ok", format!("found, unaltered, and signs; token serial {serial:?}")),
            Err(why) if Some(&own) != home.as_ref() => ("elsewhere", why),
            Err(why) => ("wrong", why),
        };
        checked.push(Checked { label, uri: record.uri.clone(), is, said });
    }
    checked
}

/// The keys that must be somewhere, the box's own first.
fn records(config: &Config) -> Result<Vec<(KeyRecord, Pkcs11Uri)>, Failure> {
    records_of(config.authority.as_ref(), &config.paths.ca())
}

/// The same of an authority, and of the root's own record in `ca`.
pub(in crate::cli) fn records_of(
    authority: Option<&Authority>,
    ca: &Path,
) -> Result<Vec<(KeyRecord, Pkcs11Uri)>, Failure> {
    let broken = |why: &dyn std::fmt::Display| {
        Failure::operator(format!("CHY-CA-BROKEN: {}: {why}", ca.display()))
    };
    let mut records: Vec<KeyRecord> = Vec::new();
    if let Some(authority) = authority {
        records.extend(authority.keys_in_use().cloned());
    }
    let root = std::fs::read(ca.join("root.json")).ok();
    if let Some(octets) = root {
        let root: crate::ceremony::state::RootRecord =
            serde_json::from_slice(&octets).map_err(|why| broken(&why))?;
        records.push(root.root_key);
    }
    if records.is_empty() {
        return Err(Failure::operator(format!(
            "CHY-CA-ABSENT: {} holds neither a CA nor a root",
            ca.display()
        )));
    }
    let parsed = records.into_iter().map(|record| {
        let uri = record.parsed_uri().map_err(|why| broken(&why))?;
        Ok((record, uri))
    });
    parsed.collect()
}
