//! `chancery ceremony`: keys and certificates of a CA, made once as one reviewed file says.

use std::collections::BTreeMap;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde::de::DeserializeOwned;

use super::{Context, Failure, confirm, print, print_json};
use crate::app::directories::{self, Owner};
use crate::app::{ownership, pin};
use crate::ceremony::execute::{self, Outcome};
use crate::ceremony::plan::{Document, KeyFile, PinEntry, Plan, Scope, TokenEntry};
use crate::ceremony::transcript::{HeldBy, hex};
use crate::ceremony::{Attendance, CeremonyError, Place, Tokens};
use crate::config::{Config, Paths, PinSource};
use crate::env::random_16;
use crate::env::system::{SystemClock, SystemDisk, SystemRng};
use crate::hsm::direct::Direct;
use crate::hsm::pool::Settings;
use crate::hsm::token::TokenName;
use crate::pki::certificate::Certificate;

pub mod check;
pub mod cross;
pub mod issuer;
pub mod new_root;
pub mod retire;
pub mod root_crl;
pub mod rotate;
pub mod tls;

#[derive(Clone, Debug, Subcommand)]
pub enum CeremonyCommand {
    /// Hold the ceremony of a file that has the root key: all keys at once, or the root's alone.
    Run(Run),
    /// Where the root lives elsewhere: make this box's keys and a request for the issuing one.
    ExportRequest(ExportRequest),
    /// Where the root lives: sign the request of another box.
    SignRequest(SignRequest),
    /// Take in the certificate that the root signed for this box.
    Import(Import),
    /// Where the root lives: sign its next CRL, and publish it if this box serves.
    RootCrl(root_crl::RootCrl),
    /// Where the root lives elsewhere: take in the CRL that it signed.
    ImportRootCrl(root_crl::ImportRootCrl),
    /// Make another key for the log; the former one signs too for a while.
    RotateLogKey(rotate::RotateLogKey),
    /// Make another issuing CA: it takes over from the one before it in its line, or begins a line.
    AddIssuer(issuer::AddIssuer),
    /// Where the root lives elsewhere: take in the certificate that it signed for another issuing CA.
    ImportIssuer(issuer::ImportIssuer),
    /// Make another root, tied to the one before it by certificates of each other.
    AddRoot(new_root::AddRoot),
    /// Where a root lives: sign another root's certificate, so that what is below that one is trusted below this one.
    SignCross(cross::SignCross),
    /// Where the roots live elsewhere: take in another root and the certificates of each other that they signed.
    ImportRoot(cross::ImportRoot),
    /// When devices have the new root and no issuing CA is the former's: note that the former is done with.
    FinishRoot(new_root::FinishRoot),
    /// When the log has retired an issuing CA: note that it is done with, and remove its key if wanted.
    FinishIssuer(issuer::FinishIssuer),
    /// After the cross-over: note that the former log key is done with, and remove it if wanted.
    FinishLogKey(rotate::FinishLogKey),
    /// Make another key for this box's own TLS certificate, which the box then renews by itself.
    RotateTlsKey(tls::RotateTlsKey),
    /// When the box serves the new key: note that the former one is done with, and destroy it if wanted.
    FinishTlsKey(tls::FinishTlsKey),
    /// Check a transcript: signed by the log key, and in the log. Exit code 1 if not.
    CheckTranscript(check::CheckTranscript),
    /// Check that a token, such as a restored or cloned one, carries this box's keys. Exit code 1 if not.
    CheckToken(Box<check::CheckToken>),
    /// End this CA: close its log, destroy its keys and prove that they are gone.
    Retire(retire::Retire),
}

#[derive(Clone, Debug, Args)]
pub struct Run {
    /// The ceremony file, from hsm/ceremony/.
    file: PathBuf,
    /// Do it; without, say what would be done.
    #[arg(long)]
    yes: bool,
    /// Hold it on throw-away SoftHSM2 tokens in a temporary directory; touches neither token nor state.
    #[arg(long, conflicts_with_all = ["yes", "discard_unfinished"])]
    rehearse: bool,
    /// First remove the keys that an unfinished ceremony of this box named, and only those.
    #[arg(long)]
    discard_unfinished: bool,
    /// The rehearsal's own directory; set by --rehearse for the process that holds it.
    #[arg(long, hide = true)]
    rehearsal: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub struct ExportRequest {
    /// The ceremony file, from hsm/ceremony/.
    file: PathBuf,
    /// The root certificate, PEM, as its ceremony published it.
    #[arg(long, value_name = "FILE")]
    root: PathBuf,
    /// Where the request goes; it also stays in ca/issuing.csr.
    #[arg(long, value_name = "FILE", default_value = "issuing.csr")]
    out: PathBuf,
    /// Do it; without, say what would be done.
    #[arg(long)]
    yes: bool,
    /// First remove the keys that an unfinished ceremony of this box named, and only those.
    #[arg(long)]
    discard_unfinished: bool,
}

#[derive(Clone, Debug, Args)]
pub struct SignRequest {
    /// The root's own ceremony file; its [issuing] table says what the certificate says.
    file: PathBuf,
    /// The request, PEM.
    #[arg(long, value_name = "FILE")]
    request: PathBuf,
    /// Where the certificate goes.
    #[arg(long, value_name = "FILE", default_value = "issuing.pem")]
    out: PathBuf,
    /// Do it; without, say what would be done.
    #[arg(long)]
    yes: bool,
}

#[derive(Clone, Debug, Args)]
pub struct Import {
    /// The ceremony file of the export.
    file: PathBuf,
    /// The issuing certificate, PEM.
    #[arg(long, value_name = "FILE")]
    certificate: PathBuf,
    /// The root's CRL, DER.
    #[arg(long, value_name = "FILE")]
    root_crl: PathBuf,
    /// Do it; without, say what would be done.
    #[arg(long)]
    yes: bool,
}

/// Runs the subcommand.
pub fn run(command: &CeremonyCommand, context: &Context) -> Result<(), Failure> {
    match command {
        CeremonyCommand::Run(run) => match &run.rehearsal {
            Some(dir) => rehearsal(&run.file, dir, context),
            None if run.rehearse => rehearse(&run.file, context),
            None => hold(run, context),
        },
        CeremonyCommand::ExportRequest(arguments) => export(arguments, context),
        CeremonyCommand::SignRequest(arguments) => sign(arguments, context),
        CeremonyCommand::Import(arguments) => import(arguments, context),
        CeremonyCommand::RootCrl(arguments) => root_crl::sign(arguments, context),
        CeremonyCommand::ImportRootCrl(arguments) => root_crl::import(arguments, context),
        CeremonyCommand::RotateLogKey(arguments) => rotate::rotate(arguments, context),
        CeremonyCommand::AddRoot(arguments) => new_root::add(arguments, context),
        CeremonyCommand::SignCross(arguments) => cross::sign(arguments, context),
        CeremonyCommand::ImportRoot(arguments) => cross::import(arguments, context),
        CeremonyCommand::FinishRoot(arguments) => new_root::finish(arguments, context),
        CeremonyCommand::AddIssuer(arguments) => issuer::add(arguments, context),
        CeremonyCommand::ImportIssuer(arguments) => issuer::import(arguments, context),
        CeremonyCommand::FinishIssuer(arguments) => issuer::finish(arguments, context),
        CeremonyCommand::FinishLogKey(arguments) => rotate::finish(arguments, context),
        CeremonyCommand::RotateTlsKey(arguments) => tls::rotate(arguments, context),
        CeremonyCommand::FinishTlsKey(arguments) => tls::finish(arguments, context),
        CeremonyCommand::CheckTranscript(arguments) => check::transcript(arguments, context),
        CeremonyCommand::CheckToken(arguments) => check::token(arguments, context),
        CeremonyCommand::Retire(arguments) => retire::retire(arguments, context),
    }
}

fn hold(run: &Run, context: &Context) -> Result<(), Failure> {
    let plan = read_plan(&run.file)?;
    confirm(run.yes, &plan.effect())?;
    let config = context.load()?;
    let opening = Opening::of(&plan, &run.file, run.discard_unfinished);
    let outcome = opening.held(&config, |tokens, place| execute::run(&plan, tokens, place))?;
    tell(&outcome, context)
}

fn export(arguments: &ExportRequest, context: &Context) -> Result<(), Failure> {
    let plan = read_plan(&arguments.file)?;
    let root = read_certificate(&arguments.root)?;
    confirm(arguments.yes, &plan.effect())?;
    let config = context.load()?;
    let outcome = Opening::of(&plan, &arguments.file, arguments.discard_unfinished)
        .held(&config, |tokens, place| execute::export_request(&plan, tokens, place, &root))?;
    carry(&outcome, &arguments.out)?;
    tell(&outcome, context)
}

fn sign(arguments: &SignRequest, context: &Context) -> Result<(), Failure> {
    let plan = read_plan(&arguments.file)?;
    let request = read_text(&arguments.request)?;
    let key = crate::ceremony::request::parse(&request).map_err(failure)?;
    confirm(
        arguments.yes,
        &format!(
            "the root would sign an issuing certificate {:?} for the key with SHA-256 {}",
            plan.document.issuing.as_ref().map_or("", |i| i.common_name.as_str()),
            hex(&key.spki_sha256())
        ),
    )?;
    let config = context.load()?;
    let (place, tokens) = open(&plan, &arguments.file, &config)?;
    let outcome = execute::sign_request(&plan, &tokens, &place, &request).map_err(failure)?;
    carry(&outcome, &arguments.out)?;
    tell(&outcome, context)
}

fn import(arguments: &Import, context: &Context) -> Result<(), Failure> {
    let plan = read_plan(&arguments.file)?;
    let certificate = read_certificate(&arguments.certificate)?;
    let root_crl = read(&arguments.root_crl)?;
    confirm(
        arguments.yes,
        &format!(
            "the issuing certificate {} (SHA-256 {}) would become this box's, and its log {} would begin",
            certificate.subject(),
            hex(&certificate.fingerprint()),
            plan.origin()
        ),
    )?;
    let config = context.load()?;
    let outcome = Opening::of(&plan, &arguments.file, false).held(&config, |tokens, place| {
        execute::import(&plan, tokens, place, &certificate, &root_crl)
    })?;
    tell(&outcome, context)
}

/// The ceremony file and the key files it names.
fn read_plan(file: &Path) -> Result<Plan, Failure> {
    let bad = |error: crate::config::ConfigError| Failure::operator(error.to_string());
    let document: Document = crate::config::read(file).map_err(bad)?;
    let keys: Result<Vec<KeyFile>, _> =
        document.keys.iter().map(|key| crate::config::read(&beside(file, key))).collect();
    Plan::new(document, keys.map_err(bad)?).map_err(|error| unusable(&error, file))
}

/// The ceremony file and the one key file it names, made into what can be held.
fn read_with_key<D: DeserializeOwned, T>(
    file: &Path,
    key: impl Fn(&D) -> &Path,
    make: impl FnOnce(D, KeyFile) -> Result<T, CeremonyError>,
) -> Result<T, Failure> {
    let bad = |error: crate::config::ConfigError| Failure::operator(error.to_string());
    let document: D = crate::config::read(file).map_err(bad)?;
    let key: KeyFile = crate::config::read(&beside(file, key(&document))).map_err(bad)?;
    make(document, key).map_err(|error| unusable(&error, file))
}

fn unusable(error: &CeremonyError, file: &Path) -> Failure {
    let (CeremonyError::Refused(why) | CeremonyError::Unfinished(why)) = error;
    Failure::operator(format!("{why} ({})", file.display()))
}

fn open(plan: &Plan, file: &Path, config: &Config) -> Result<(Place, Tokens), Failure> {
    open_tokens(&plan.document.tokens, file, config)
}

/// Opens the tokens that a file names.
fn open_tokens(
    entries: &BTreeMap<String, TokenEntry>,
    file: &Path,
    config: &Config,
) -> Result<(Place, Tokens), Failure> {
    directories::prepare(&config.paths, None, None)?;
    let mut tokens = Tokens::new();
    for (role, entry) in entries {
        let mut settings: Settings = match &entry.settings {
            Some(path) => Settings {
                refuse_software: config.production,
                ..crate::config::read(&beside(file, path))
                    .map_err(|error| Failure::operator(error.to_string()))?
            },
            None => config.token.clone(),
        };
        settings.module = entry.module(&settings.module).map_err(Failure::operator)?;
        let source = match &entry.pin {
            None => config.pin.clone(),
            Some(PinEntry::File(path)) => PinSource::File(beside(file, path)),
            Some(PinEntry::Credential(name)) => PinSource::Credential(name.clone()),
            Some(PinEntry::Prompt(_)) => PinSource::Prompt,
        };
        if matches!(source, PinSource::Prompt) {
            eprintln!("token {} for {role}:", entry.token_name());
        }
        let direct = Direct::open(&settings, &entry.token_name(), &pin::read(&source)?, true)
            .map_err(|error| Failure::operator(error.to_string()))?;
        tokens.insert(role.clone(), direct);
    }
    Ok((place(&config.paths, config.log.clone()), tokens))
}

fn place(paths: &Paths, log_settings: crate::log::Settings) -> Place {
    Place {
        ca: paths.ca(),
        public: paths.public(),
        log: paths.log(),
        log_settings,
        disk: Arc::new(SystemDisk),
        clock: Arc::new(SystemClock::new()),
        rng: Arc::new(SystemRng),
        attendance: Attendance {
            held_by: Some(HeldBy {
                uid: rustix::process::geteuid().as_raw(),
                user: directories::user_name(rustix::process::geteuid().as_raw()),
            }),
            ..Attendance::default()
        },
    }
}

/// What a ceremony is held on.
struct Opening<'a> {
    file: &'a Path,
    tokens: &'a BTreeMap<String, TokenEntry>,
    /// First remove the keys that an unfinished one named.
    discard: bool,
}

impl<'a> Opening<'a> {
    fn of(plan: &'a Plan, file: &'a Path, discard: bool) -> Self {
        Self { file, tokens: &plan.document.tokens, discard }
    }

    /// Opens the tokens, has the ceremony held, and hands what it made over to the issuer's user.
    fn held<T>(
        &self,
        config: &Config,
        hold: impl FnOnce(&Tokens, &Place) -> Result<T, CeremonyError>,
    ) -> Result<T, Failure> {
        let heir = heir(config)?;
        let (place, tokens) = open_tokens(self.tokens, self.file, config)?;
        if self.discard {
            place.discard_unfinished(&tokens).map_err(failure)?;
        }
        let made = hold(&tokens, &place).map_err(failure)?;
        hand_over(config, heir)?;
        Ok(made)
    }
}

/// Says what was made, and to people what is next.
fn tell_next(outcome: &Outcome, context: &Context, next: &str) -> Result<(), Failure> {
    tell(outcome, context)?;
    if context.json { Ok(()) } else { print(&format!("\n{next}")) }
}

/// The issuer's user, if root holds the ceremony for it. Asked for before anything is made.
pub(super) fn heir(config: &Config) -> Result<Option<Owner>, Failure> {
    let user = config.process.issuer_user.as_deref();
    user.filter(|_| rustix::process::geteuid().is_root()).map(directories::owner).transpose()
}

/// What root made is the issuer's to use.
fn hand_over(config: &Config, heir: Option<Owner>) -> Result<(), Failure> {
    let Some(owner) = heir else { return Ok(()) };
    for path in [config.paths.ca(), config.paths.issuer(), config.paths.public()] {
        directories::hand_over(&path, owner)?;
    }
    for path in ownership::give(config, owner)? {
        eprintln!("{} was given to the user of the issuer", path.display());
    }
    Ok(())
}

fn tell(outcome: &Outcome, context: &Context) -> Result<(), Failure> {
    if context.json {
        print_json(&outcome.transcript)
    } else {
        print(outcome.transcript.to_text(&outcome.transcript_sha256).trim_end())
    }
}

fn carry(outcome: &Outcome, out: &Path) -> Result<(), Failure> {
    let Some(pem) = &outcome.carry else { return Ok(()) };
    std::fs::write(out, pem)
        .map_err(|error| Failure::operator(format!("CHY-OS: {}: {error}", out.display())))
}

fn failure(error: CeremonyError) -> Failure {
    Failure::operator(error.to_string())
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path)
        .map_err(|error| Failure::operator(format!("CHY-OS: {}: {error}", path.display())))
}

fn read_text(path: &Path) -> Result<String, Failure> {
    String::from_utf8(read(path)?)
        .map_err(|_| Failure::operator(format!("CHY-OS: {}: not text", path.display())))
}

fn read_certificate(path: &Path) -> Result<Certificate, Failure> {
    Certificate::parse_pem(&read_text(path)?).map_err(|why| {
        Failure::operator(format!("CHY-CEREMONY-IMPORT: {}: {}", path.display(), why.0))
    })
}

/// A path in a file means: beside that file.
fn beside(file: &Path, path: &Path) -> PathBuf {
    file.parent().map_or_else(|| path.to_owned(), |parent| parent.join(path))
}

/// Makes throw-away tokens and holds the ceremony on them in another process: SoftHSM2 reads its configuration
/// from the environment, which a process cannot safely change for itself.
fn rehearse(file: &Path, context: &Context) -> Result<(), Failure> {
    let plan = read_plan(file)?;
    if plan.scope == Scope::Online {
        return Err(Failure::operator(
            "CHY-CEREMONY-FILE: a file without a root key cannot be rehearsed alone".to_owned(),
        ));
    }
    let failed = |what: &str, error: std::io::Error| {
        Failure::failed(format!("CHY-OS: the rehearsal: {what}: {error}"))
    };
    let dir =
        std::env::temp_dir().join(format!("chancery-rehearsal-{}", hex(&random_16(&SystemRng))));
    std::fs::DirBuilder::new().mode(0o700).create(&dir).map_err(|e| failed("directory", e))?;
    let outcome = (|| {
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(dir.join("tokens"))
            .map_err(|e| failed("directory", e))?;
        let pin = hex(&random_16(&SystemRng));
        let secret = |name: &str, text: &str| {
            use std::io::Write;
            std::fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(dir.join(name))
                .and_then(|mut file| file.write_all(text.as_bytes()))
                .map_err(|e| failed(name, e))
        };
        secret("pin", &pin)?;
        let conf = dir.join("softhsm2.conf");
        secret(
            "softhsm2.conf",
            &format!(
                "directories.tokendir = {}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n",
                dir.display()
            ),
        )?;
        let mut labels: Vec<&str> = plan.document.tokens.values().map(rehearsal_label).collect();
        labels.sort_unstable();
        labels.dedup();
        for label in labels {
            let made = Command::new("softhsm2-util")
                .args(["--init-token", "--free", "--label", label, "--pin", &pin, "--so-pin", &pin])
                .env("SOFTHSM2_CONF", &conf)
                .stdout(Stdio::null())
                .status()
                .map_err(|e| failed("softhsm2-util (Debian: apt install softhsm2)", e))?;
            if !made.success() {
                return Err(Failure::failed(
                    "CHY-OS: the rehearsal: softhsm2-util made no token".to_owned(),
                ));
            }
        }
        let program = std::env::current_exe().map_err(|e| failed("this program", e))?;
        let mut held = Command::new(program);
        if context.json {
            held.arg("--json");
        }
        held.args(["ceremony", "run"]).arg(file).arg("--rehearsal").arg(&dir);
        held.env("SOFTHSM2_CONF", &conf).status().map_err(|e| failed("this program", e))
    })();
    // Throw-away by design: what cannot be removed holds no key of any CA.
    let _ = std::fs::remove_dir_all(&dir);
    if outcome?.success() { Ok(()) } else { Err(Failure { text: String::new(), exit: 1 }) }
}

/// The process that holds a rehearsal: every role's token is SoftHSM2.
fn rehearsal(file: &Path, dir: &Path, context: &Context) -> Result<(), Failure> {
    let plan = read_plan(file)?;
    let module =
        SOFTHSM2.iter().map(PathBuf::from).find(|path| path.is_file()).ok_or_else(|| {
            Failure::operator(
                "CHY-MODULE-ABSENT: a rehearsal needs SoftHSM2 (Debian: apt install softhsm2)"
                    .to_owned(),
            )
        })?;
    let pin = pin::read(&PinSource::File(dir.join("pin")))?;
    let mut tokens = Tokens::new();
    for (role, entry) in &plan.document.tokens {
        let direct = Direct::open(
            &Settings::new(module.clone()),
            &TokenName::labelled(rehearsal_label(entry)),
            &pin,
            true,
        )
        .map_err(|error| Failure::operator(error.to_string()))?;
        tokens.insert(role.clone(), direct);
    }
    let paths = Paths { state: dir.join("state") };
    directories::prepare(&paths, None, None)?;
    let mut place = place(&paths, crate::log::Settings::default());
    place.attendance.rehearsal = true;
    let outcome = execute::run(&plan, &tokens, &place).map_err(failure)?;
    if !context.json {
        print("REHEARSAL: these keys and certificates are thrown away again\n")?;
    }
    tell(&outcome, context)
}

/// The label of the throw-away token that stands for one of the file.
fn rehearsal_label(entry: &TokenEntry) -> &str {
    if entry.label.is_empty() { "rehearsal" } else { &entry.label }
}

const SOFTHSM2: [&str; 3] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
];
