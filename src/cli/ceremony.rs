//! `chancery ceremony`: keys and certificates of a CA, made once as one reviewed file says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde::de::DeserializeOwned;

use self::rehearsal::{Copied, Rehearsal, Scene};
use super::{Context, Failure, confirm, print, print_json};
use crate::app::directories::{self, Owner};
use crate::app::{ownership, pin};
use crate::ceremony::execute::{self, Outcome};
use crate::ceremony::plan::{Document, KeyFile, PinEntry, Plan, Scope, TokenEntry};
use crate::ceremony::transcript::HeldBy;
use crate::ceremony::{Attendance, CeremonyError, Place, Tokens};
use crate::config::{Config, PinSource};
use crate::env::system::{SystemClock, SystemDisk, SystemRng};
use crate::hsm::direct::Direct;
use crate::hsm::epoch::Fence;
use crate::hsm::pool::Settings;
use crate::hsm::token::TokenError;
use crate::id::hex;
use crate::issuer::epoch::OwnEpoch;
use crate::pki::certificate::Certificate;

pub mod check;
pub mod cross;
pub mod issuer;
pub mod new_root;
pub mod rehearsal;
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
    /// First remove the keys that an unfinished ceremony of this box named, and only those.
    #[arg(long)]
    discard_unfinished: bool,
    #[command(flatten)]
    rehearsal: Rehearsal,
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
    #[command(flatten)]
    rehearsal: Rehearsal,
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
    #[command(flatten)]
    rehearsal: Rehearsal,
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
    #[command(flatten)]
    rehearsal: Rehearsal,
}

impl CeremonyCommand {
    /// Whether it is rehearsed; `None` for what changes nothing anyway.
    fn rehearsal(&self) -> Option<&Rehearsal> {
        Some(match self {
            Self::Run(arguments) => &arguments.rehearsal,
            Self::ExportRequest(arguments) => &arguments.rehearsal,
            Self::SignRequest(arguments) => &arguments.rehearsal,
            Self::Import(arguments) => &arguments.rehearsal,
            Self::RootCrl(arguments) => &arguments.rehearsal,
            Self::ImportRootCrl(arguments) => &arguments.rehearsal,
            Self::RotateLogKey(arguments) => &arguments.rehearsal,
            Self::FinishLogKey(arguments) => &arguments.rehearsal,
            Self::AddIssuer(arguments) => &arguments.rehearsal,
            Self::ImportIssuer(arguments) => &arguments.rehearsal,
            Self::FinishIssuer(arguments) => &arguments.rehearsal,
            Self::AddRoot(arguments) => &arguments.rehearsal,
            Self::SignCross(arguments) => &arguments.rehearsal,
            Self::ImportRoot(arguments) => &arguments.rehearsal,
            Self::FinishRoot(arguments) => &arguments.rehearsal,
            Self::RotateTlsKey(arguments) => &arguments.rehearsal,
            Self::FinishTlsKey(arguments) => &arguments.rehearsal,
            Self::Retire(arguments) => &arguments.rehearsal,
            Self::CheckTranscript(_) | Self::CheckToken(_) => return None,
        })
    }
}

/// Runs the subcommand.
pub fn run(command: &CeremonyCommand, context: &Context) -> Result<(), Failure> {
    if command.rehearsal().is_some_and(Rehearsal::is_asked_for) {
        return rehearsal::hold();
    }
    match command {
        CeremonyCommand::Run(arguments) => hold(arguments, context),
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
    run.rehearsal.confirm(run.yes, &plan.effect())?;
    // A witness's key is added to a CA; all else begins one.
    let copied = if plan.scope == Scope::Witness { Copied::Keys } else { Copied::Nothing };
    let scene = run.rehearsal.scene(context, &plan.document.tokens, copied)?;
    let opening = Opening::of(&plan, &run.file, run.discard_unfinished);
    let outcome = opening.held(&scene, |tokens, place| execute::run(&plan, tokens, place))?;
    tell(&outcome, context)
}

fn export(arguments: &ExportRequest, context: &Context) -> Result<(), Failure> {
    let plan = read_plan(&arguments.file)?;
    let root = read_certificate(&arguments.root)?;
    arguments.rehearsal.confirm(arguments.yes, &plan.effect())?;
    let scene = arguments.rehearsal.scene(context, &plan.document.tokens, Copied::Nothing)?;
    let outcome = Opening::of(&plan, &arguments.file, arguments.discard_unfinished)
        .held(&scene, |tokens, place| execute::export_request(&plan, tokens, place, &root))?;
    carry(&scene, &outcome, &arguments.out)?;
    tell(&outcome, context)
}

fn sign(arguments: &SignRequest, context: &Context) -> Result<(), Failure> {
    let plan = read_plan(&arguments.file)?;
    let request = read_text(&arguments.request)?;
    let key = crate::ceremony::request::parse(&request).map_err(failure)?;
    arguments.rehearsal.confirm(
        arguments.yes,
        &format!(
            "the root would sign an issuing certificate {:?} for the key with SHA-256 {}",
            plan.document.issuing.as_ref().map_or("", |i| i.common_name.as_str()),
            hex(&key.spki_sha256())
        ),
    )?;
    let scene = arguments.rehearsal.scene(context, &plan.document.tokens, Copied::Keys)?;
    let (place, tokens) = open_tokens(&plan.document.tokens, &arguments.file, &scene)?;
    let outcome = execute::sign_request(&plan, &tokens, &place, &request).map_err(failure)?;
    carry(&scene, &outcome, &arguments.out)?;
    tell(&outcome, context)
}

fn import(arguments: &Import, context: &Context) -> Result<(), Failure> {
    let plan = read_plan(&arguments.file)?;
    let certificate = read_certificate(&arguments.certificate)?;
    let root_crl = read(&arguments.root_crl)?;
    arguments.rehearsal.confirm(
        arguments.yes,
        &format!(
            "the issuing certificate {} (SHA-256 {}) would become this box's, and its log {} would begin",
            certificate.subject(),
            hex(&certificate.fingerprint()),
            plan.origin()
        ),
    )?;
    let scene = arguments.rehearsal.scene(context, &plan.document.tokens, Copied::Keys)?;
    let (certificate, root_crl) = (scene.certificate(certificate)?, scene.crl(root_crl)?);
    let outcome = Opening::of(&plan, &arguments.file, false).held(&scene, |tokens, place| {
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

/// Opens the tokens that a file names.
fn open_tokens(
    entries: &BTreeMap<String, TokenEntry>,
    file: &Path,
    scene: &Scene,
) -> Result<(Place, Tokens), Failure> {
    let config = &scene.config;
    directories::prepare(&config.paths, None, None)?;
    if let Some(tokens) = scene.stage(entries)? {
        return Ok((place(scene), tokens));
    }
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
        fence(config, &direct)?;
        tokens.insert(role.clone(), direct);
    }
    Ok((place(scene), tokens))
}

/// A box that must not sign holds no ceremonies either: another has the token.
fn fence(config: &Config, direct: &Direct) -> Result<(), Failure> {
    let own = OwnEpoch::read(&SystemDisk, &config.paths.issuer()).map_err(Failure::operator)?;
    let (Some(authority), Some(own)) = (&config.authority, own) else { return Ok(()) };
    let ca = crate::issuer::ca_of(authority).map_err(Failure::operator)?;
    let refused = |error: TokenError| Failure::operator(error.to_string());
    let found = direct.epochs(&ca).map_err(refused)?;
    // A token that holds none need not be the issuer's.
    if found.is_empty() {
        return Ok(());
    }
    let fence = Fence { ca, own: own.epoch(), held: own.held };
    fence.judge(&found).map(drop).map_err(refused)
}

fn place(scene: &Scene) -> Place {
    let (paths, log_settings) = (&scene.config.paths, scene.config.log.clone());
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
            attended_by: Vec::new(),
            rehearsal: scene.is_rehearsal(),
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
        scene: &Scene,
        hold: impl FnOnce(&Tokens, &Place) -> Result<T, CeremonyError>,
    ) -> Result<T, Failure> {
        let heir = heir(&scene.config)?;
        let (place, tokens) = open_tokens(self.tokens, self.file, scene)?;
        if self.discard {
            place.discard_unfinished(&tokens).map_err(failure)?;
        }
        let made = hold(&tokens, &place).map_err(failure)?;
        hand_over(&scene.config, heir)?;
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
pub(super) fn hand_over(config: &Config, heir: Option<Owner>) -> Result<(), Failure> {
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

fn carry(scene: &Scene, outcome: &Outcome, out: &Path) -> Result<(), Failure> {
    outcome.carry.as_ref().map_or(Ok(()), |pem| scene.carry(pem.as_bytes(), out))
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
