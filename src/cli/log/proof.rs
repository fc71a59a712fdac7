//! `chancery log prove`, `check-proof` and `key`: what shows an outsider that a certificate is in the log.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use base64ct::{Base64, Encoding};
use clap::Args;

use super::{Failure, Filter, Selection, Stop, archive, reader, trusted, unknown};
use crate::audit::proof::{self, NoProof, Proven, Trust};
use crate::config::Config;
use crate::env::Disk;
use crate::env::system::SystemDisk;
use crate::id::Serial;
use crate::tlog::proof::{MAX_PROOF, Proof};

/// What to prove.
#[derive(Debug, Args)]
pub struct Prove {
    /// The certificate's serial: 32 hexadecimal digits, colons allowed.
    serial: String,
    /// Where to write it instead of standard output; by custom the name ends in .tlog-proof.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// What to check, and against what.
#[derive(Debug, Args)]
pub struct CheckProof {
    /// The proof; `-` is standard input.
    file: PathBuf,
    /// The log's public key, as `chancery log key` prints it; while the log key is being rotated both.
    #[arg(long, value_name = "VKEY", required = true)]
    key: Vec<String>,
    /// The certificate that it shall prove, in PEM or DER. Without it, only that the log has a signature under this
    /// serial.
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// The issuing certificate, in PEM or DER: the certificate's own signature is then verified too.
    #[arg(long, value_name = "FILE", requires = "certificate")]
    issuer: Option<PathBuf>,
    /// A witness's public key; it must have cosigned. May be given several times.
    #[arg(long, value_name = "VKEY")]
    witness: Vec<String>,
}

pub(super) fn prove(arguments: &Prove, config: &Config, out: &mut dyn Write) -> Result<(), Stop> {
    let serial: Serial = arguments.serial.trim().parse().map_err(|_| unknown(&arguments.serial))?;
    let disk: Arc<dyn Disk> = Arc::new(SystemDisk);
    let reader = reader(config)?;
    let mut issued = None;
    let of = Filter { serial: Some(serial), kind: vec!["issued".to_owned()], ..Filter::default() };
    let selection = Selection { limit: Some(1), of, ..Selection::default() };
    selection.each(&reader, config, &mut |entry| {
        issued = Some(entry.clone());
        Ok(())
    })?;
    let issued = issued.ok_or_else(|| unknown(&arguments.serial))?;
    let (log, public) = (config.paths.log(), config.paths.public());
    let proof = proof::prove(&disk, &log, &public, &reader, issued).map_err(|why| match why {
        NoProof::Uncovered(text) => Stop::Failed(Failure::retry(text)),
        NoProof::Unsound(text) => Stop::Failed(Failure::failed(text)),
        NoProof::Log(error) => error.into(),
    })?;
    match &arguments.out {
        None => write!(out, "{proof}")?,
        Some(path) => std::fs::write(path, proof.to_string()).map_err(|error| {
            Stop::Failed(Failure::failed(format!("CHY-OS: {}: {error}", path.display())))
        })?,
    }
    Ok(())
}

pub(super) fn check(arguments: &CheckProof, json: bool, out: &mut dyn Write) -> Result<(), Stop> {
    let verdict = judge(arguments)?;
    let holds = verdict.as_ref().map_err(String::as_str);
    match (json, holds) {
        (true, Ok(proven)) => writeln!(out, "{:#}", describe(proven))?,
        (true, Err(flaw)) => {
            writeln!(out, "{:#}", serde_json::json!({"holds": false, "flaw": flaw}))?;
        }
        (false, Ok(proven)) => write_verdict(proven, out)?,
        (false, Err(_)) => {}
    }
    holds.map(drop).map_err(|flaw| {
        Stop::Failed(Failure::failed(format!(
            "CHY-PROOF-FLAW: {} does not hold: {flaw}",
            arguments.file.display()
        )))
    })
}

/// The vkeys that checkpoints and proofs of now are checked with: of those who signed the newest checkpoint, or, before
/// there is one, of who will.
pub(super) fn key(config: &Config, json: bool, out: &mut dyn Write) -> Result<(), Stop> {
    let known = archive::known(config)?;
    let mut keys = known.signed(config);
    if keys.is_empty() {
        keys.push(known.newest());
    }
    let [.., key] = keys.as_slice() else { return Ok(()) };
    match json {
        true => {
            let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
            writeln!(out, "{:#}", serde_json::json!({"key": key.to_string(), "keys": keys}))?;
        }
        false => keys.iter().try_for_each(|key| writeln!(out, "{key}"))?,
    }
    Ok(())
}

/// What is wrong with the arguments is a failure; what is wrong with the proof a verdict.
fn judge(arguments: &CheckProof) -> Result<Result<Proven, String>, Stop> {
    let certificate =
        |path: &Option<PathBuf>| path.as_deref().map(trusted::certificate).transpose();
    let trust = Trust {
        keys: trusted::log_keys(&arguments.key)?,
        witnesses: trusted::witnesses(&arguments.witness)?,
        certificate: certificate(&arguments.certificate)?,
        issuer: certificate(&arguments.issuer)?,
    };
    let octets = trusted::read(&arguments.file, MAX_PROOF)?;
    Ok(match Proof::parse(&octets) {
        Err(why) => Err(why.to_string()),
        Ok(proof) => proof::check(&proof, &trust).map_err(|flaw| flaw.to_string()),
    })
}

fn write_verdict(proven: &Proven, out: &mut dyn Write) -> io::Result<()> {
    let Proven { origin, head, index, issued, cosigned, certificate, issuer } = proven;
    writeln!(
        out,
        "the proof holds: leaf {index} of {origin} is among the {} that its key signed",
        head.size
    )?;
    writeln!(
        out,
        "leaf {index}: the signature of serial {}, logged {}; its to-be-signed octets are leaf {}",
        issued.serial, issued.at, issued.intent
    )?;
    match (certificate, issuer) {
        (true, true) => {
            writeln!(
                out,
                "certificate: this signature is its signature, and verifies under its issuer"
            )?;
        }
        (true, false) => writeln!(
            out,
            "certificate: this signature is its signature (--issuer verifies that it is one over it)"
        )?,
        (false, _) => writeln!(out, "certificate: not compared (--certificate does)")?,
    }
    for (witness, at) in cosigned {
        match at {
            Some(at) => writeln!(out, "cosigned by {witness} at {at}")?,
            None => writeln!(out, "cosigned by {witness}")?,
        }
    }
    Ok(())
}

fn describe(proven: &Proven) -> serde_json::Value {
    let Proven { origin, head, index, issued, cosigned, certificate, issuer } = proven;
    let cosigned: Vec<_> = cosigned
        .iter()
        .map(|(name, at)| serde_json::json!({"name": name, "at": at.map(|at| at.to_string())}))
        .collect();
    serde_json::json!({
        "holds": true,
        "origin": origin,
        "size": head.size,
        "root": Base64::encode_string(&head.root),
        "index": index,
        "serial": issued.serial.to_string(),
        "logged": issued.at.to_string(),
        "intent": issued.intent.0,
        "certificate": certificate,
        "issuer": issuer,
        "cosigned": cosigned,
    })
}
