//! `chancery log verify`: gathers what is known from elsewhere, and says what was found.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64ct::{Base64, Encoding};
use clap::Args;

use super::{Stop, trusted};
use crate::app::Failure;
use crate::audit::verify::{self, Evidence, Finding, Means, Verdict};
use crate::cli::log_key;
use crate::cli::progress::Progress;
use crate::config::Config;
use crate::env::system::{SystemClock, SystemDisk};
use crate::env::{Clock, Disk, DiskFile};
use crate::log::archive::{self, Checked};
use crate::pki::certificate::Certificate;
use crate::pki::crl;
use crate::tlog::checkpoint::WITNESSED;
use crate::tlog::tile;

/// What to verify, and against what.
#[derive(Debug, Args)]
pub struct Verify {
    #[command(flatten)]
    pub(super) against: Against,
    /// Threads that verify signatures; as many as the machine has, if not given.
    #[arg(long, value_name = "COUNT")]
    threads: Option<usize>,
}

/// What the log is held against.
#[derive(Debug, Args)]
pub(super) struct Against {
    /// A checkpoint kept elsewhere; may be given several times.
    #[arg(long, value_name = "FILE")]
    checkpoint: Vec<PathBuf>,
    /// A log directory other than this box's: a copy, an archive, or another box's.
    #[arg(long, value_name = "DIR")]
    pub(super) dir: Option<PathBuf>,
    /// What is published of it: checkpoint, tiles and CRLs. This box's, unless --dir is given.
    #[arg(long, value_name = "DIR")]
    public: Option<PathBuf>,
    /// The log's public key (a vkey), which came by another way: then nothing of a box is needed, and no configuration is
    /// read. Where the key was rotated, any of those that the log has had; given several times, oldest first.
    #[arg(long, value_name = "VKEY", requires = "dir")]
    key: Vec<String>,
    /// The CA's certificates, roots and issuing, in PEM, for --key: signatures are verified under them. Without any,
    /// they are not. May be given several times.
    #[arg(long, value_name = "FILE", requires = "key")]
    ca: Vec<PathBuf>,
    /// A witness's public key, for --key: its cosignatures on the checkpoints must verify. May be given several times.
    #[arg(long, value_name = "VKEY", requires = "key")]
    witness: Vec<String>,
    /// Where a large log's rows are sorted: 30 octets for each certificate. TMPDIR or /var/tmp, if not given.
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
}

impl Verify {
    /// Whether nothing of this box is asked for.
    pub(super) fn is_outside(&self) -> bool {
        self.against.is_outside()
    }
}

impl Against {
    /// Whether nothing of this box is asked for.
    pub(super) fn is_outside(&self) -> bool {
        !self.key.is_empty()
    }

    /// The log's directory.
    pub(super) fn directory(&self, config: Option<&Config>) -> Result<PathBuf, Stop> {
        let own = || config.map(|config| config.paths.log());
        self.dir.clone().or_else(own).ok_or_else(|| {
            Stop::Failed(Failure::operator(
                "CHY-LOG-ABSENT: name the log's directory by --dir".into(),
            ))
        })
    }
}

/// Answers on `out`; what is found wrong is a failure. Without a configuration all that is known of the log is what the
/// arguments say.
pub(super) fn run(
    arguments: &Verify,
    config: Option<&Config>,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Stop> {
    let (dir, verdict) = verdict(&arguments.against, arguments.threads, config)?;
    if json {
        writeln!(out, "{:#}", self::json(&verdict))?;
    } else {
        writeln!(out, "{verdict}")?;
    }
    sound(&dir, &verdict)
}

/// What is found wrong, as a failure.
pub(super) fn sound(dir: &Path, verdict: &Verdict) -> Result<(), Stop> {
    if verdict.is_sound() {
        return Ok(());
    }
    Err(Stop::Failed(Failure::failed(format!(
        "CHY-LOG-UNSOUND: the log in {} is not sound: {} findings; keep it as it is and find out why",
        dir.display(),
        verdict.findings.len()
    ))))
}

/// Verifies, with progress on standard error; says which directory.
pub(super) fn verdict(
    against: &Against,
    threads: Option<usize>,
    config: Option<&Config>,
) -> Result<(PathBuf, Verdict), Stop> {
    let dir = against.directory(config)?;
    let mut evidence = evidence(against, &dir, config)?;
    let archived = archive::check(&SystemDisk, &dir)?;
    let mut findings = Vec::new();
    if let Some(Checked { checkpoint, later_keys, findings: found, .. }) = archived {
        findings = found;
        evidence.later_keys = later_keys;
        if let Some((path, proof)) = checkpoint {
            evidence.checkpoints.push(path);
            evidence.continuation = Some(proof);
        }
    }
    let progress = Progress::new("verified");
    let step = |p| progress.step(p);
    let threads = threads
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get));
    let means = Means {
        threads: threads.clamp(1, MAX_THREADS),
        scratch: Some(scratch(against.scratch.as_deref())?),
        progress: &step,
        ..Means::default()
    };
    let verdict = verify::verify(Arc::new(SystemDisk), &dir, &evidence, means);
    progress.end();
    let mut verdict = verdict?;
    let found = findings.into_iter().map(|text| Finding { leaf: None, place: None, text });
    verdict.findings.extend(found);
    Ok((dir, verdict))
}

const MAX_THREADS: usize = 256;

fn evidence(against: &Against, dir: &Path, config: Option<&Config>) -> Result<Evidence, Stop> {
    for path in &against.checkpoint {
        if !path.exists() {
            return Err(Stop::Failed(Failure::failed(format!(
                "CHY-OS: there is no checkpoint file {}",
                path.display()
            ))));
        }
    }
    // What is published of this box says nothing of a copy: that may be older.
    let own = config.filter(|_| against.dir.is_none()).map(|config| config.paths.public());
    let public = against.public.clone().or(own);
    let mut evidence = Evidence { now: Some(SystemClock::new().now()), ..Evidence::default() };
    evidence.checkpoints.push(dir.join("checkpoint"));
    evidence.tiles = public.as_ref().map(|public| public.join(tile::DIRECTORY));
    evidence.checkpoints.extend(against.checkpoint.iter().cloned());
    // Not newer than what is published: the round that it is of was about a checkpoint that was.
    evidence.checkpoints.extend(public.as_ref().map(|public| public.join(WITNESSED)));
    evidence.published = public.as_ref().map(|public| public.join("checkpoint"));
    evidence.checkpoints.extend(evidence.published.clone());
    match config {
        Some(config) => of_box(&mut evidence, public.as_deref(), config)?,
        None => of_arguments(&mut evidence, public.as_deref(), against)?,
    }
    Ok(evidence)
}

/// What the arguments say.
fn of_arguments(
    evidence: &mut Evidence,
    public: Option<&Path>,
    against: &Against,
) -> Result<(), Stop> {
    let keys = trusted::log_keys(&against.key)?;
    evidence.origin = keys.first().map(|key| key.name().to_owned());
    if let Some(other) = keys.iter().find(|key| Some(key.name()) != evidence.origin.as_deref()) {
        return Err(Stop::Failed(Failure::operator(format!(
            "CHY-VKEY: `{other}` is the key of another log than the first; verify one log at a time"
        ))));
    }
    evidence.log_keys = keys.iter().map(|key| key.spki().to_vec()).collect();
    evidence.witnesses = trusted::witnesses(&against.witness)?;
    for path in &against.ca {
        for certificate in trusted::certificates(path)? {
            if !certificate.is_ca() {
                return Err(Stop::Failed(Failure::operator(format!(
                    "CHY-CERT-FILE: {}: a certificate in it is no CA's; --ca takes roots and issuing certificates",
                    path.display()
                ))));
            }
            let is_root = certificate.verify_issued_by(&certificate);
            let known = if is_root { &mut evidence.roots } else { &mut evidence.issuers };
            known.push(certificate);
        }
    }
    if let Some(public) = public.filter(|_| !evidence.issuers.is_empty()) {
        let roots = &evidence.roots;
        let is_roots = |path: &Path| {
            let der = SystemDisk.read(path, crl::MAX_DER as u64).unwrap_or_default();
            roots.iter().any(|root| crl::parse_verified(&der, root).is_ok())
        };
        evidence.crls = Some(published_crls(public, &is_roots)?);
    }
    Ok(())
}

/// The CRLs that are published but for those of roots, which are no part of the log.
fn published_crls(public: &Path, is_roots: &dyn Fn(&Path) -> bool) -> Result<Vec<PathBuf>, Stop> {
    let mut found = Vec::new();
    crls(public, DEEPEST, &mut found).map_err(|error| {
        Stop::Failed(Failure::failed(format!("CHY-OS: {}: {error}", public.display())))
    })?;
    found.retain(|path| !is_roots(path));
    found.sort();
    Ok(found)
}

/// What this box's configuration and ceremonies say.
fn of_box(evidence: &mut Evidence, public: Option<&Path>, config: &Config) -> Result<(), Stop> {
    // What does not parse was refused with the configuration.
    evidence.witnesses = config.web.witnesses.iter().filter_map(|w| w.key().ok()).collect();
    if let Some(authority) = &config.authority {
        evidence.origin = Some(authority.origin.clone());
        let known = super::archive::known(config)?;
        evidence.log_keys = known.all().iter().map(|key| key.spki().to_vec()).collect();
        let read = |name: &str, pem: &str| {
            Certificate::parse_pem(pem).map_err(|why| {
                let why = format!("the certificate of {name}: {}", why.0);
                Stop::Failed(log_key::broken(config, &why))
            })
        };
        for issuing in authority.issuers() {
            let Some(pem) = issuing.certificate else { continue };
            evidence.issuers.push(read(issuing.name, pem)?);
        }
        for root in authority.roots() {
            evidence.roots.push(read(root.name, root.certificate)?);
        }
        if let Some(public) = public {
            let roots = authority.roots().filter_map(|root| crl::file_of(root.crl_url).ok());
            let roots: Vec<PathBuf> = roots.map(|file| public.join(file)).collect();
            let is_roots = |path: &Path| roots.iter().any(|root| root == path);
            evidence.crls = Some(published_crls(public, &is_roots)?);
        }
    }
    Ok(())
}

/// How deep below the public directory a CRL may lie.
const DEEPEST: u32 = 3;

fn crls(dir: &Path, deeper: u32, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let path = entry.path();
        let kind = entry.file_type()?;
        if kind.is_dir() && deeper > 0 {
            crls(&path, deeper - 1, found)?;
        } else if kind.is_file() && path.extension().is_some_and(|end| end == "crl") {
            found.push(path);
        }
    }
    Ok(())
}

/// A file without a name: whatever becomes of this process, nothing of it stays.
pub(super) fn scratch(dir: Option<&Path>) -> Result<Box<dyn DiskFile>, Stop> {
    let dir = dir.map_or_else(
        || std::env::var_os("TMPDIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from),
        Path::to_owned,
    );
    let path = dir.join(format!(".chancery-{}.tmp", std::process::id()));
    let made = SystemDisk.create(&path, 0);
    let made = made.and_then(|file| SystemDisk.remove(&path).map(|()| file));
    made.map_err(|error| {
        Stop::Failed(Failure::failed(format!(
            "CHY-LOG-SCRATCH: no file can be made in {}: {error}; name a directory with room by --scratch",
            dir.display()
        )))
    })
}

/// The verdict for programs.
pub(super) fn json(verdict: &Verdict) -> serde_json::Value {
    let findings: Vec<_> = verdict
        .findings
        .iter()
        .map(|finding| {
            serde_json::json!({
                "leaf": finding.leaf.map(|leaf| leaf.0),
                "segment": finding.place.as_ref().map(|place| place.segment.as_str()),
                "octet": finding.place.as_ref().map(|place| place.octet),
                "text": finding.text,
            })
        })
        .collect();
    let cosigned: Vec<_> = verdict
        .cosigned
        .iter()
        .map(|c| serde_json::json!({"witness": c.witness, "size": c.size, "at": c.at.to_string()}))
        .collect();
    serde_json::json!({
        "sound": verdict.is_sound(),
        "origin": verdict.origin,
        "size": verdict.head.map(|head| head.size),
        "root": verdict.head.map(|head| Base64::encode_string(&head.root)),
        "covered": verdict.covered,
        "checkpoints": verdict.checkpoints,
        "cosignatures": verdict.cosignatures,
        "cosigned": cosigned,
        "unknown_lines": verdict.unknown_lines,
        "accounts": verdict.accounts,
        "intents": verdict.intents,
        "issued": verdict.issued,
        "abandoned": verdict.abandoned,
        "open": verdict.open,
        "crls": verdict.crls,
        "crl_files": verdict.crl_files,
        "revoked": verdict.revoked,
        "refused": verdict.refused,
        "newest": verdict.newest.to_string(),
        "notes": verdict.notes,
        "findings": findings,
    })
}
