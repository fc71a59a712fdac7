//! One file per subcommand: argv in, exit code out.
//!
//! Exit codes: 0 done · 1 failed, or a check found something wrong · 2 the command line makes no sense ·
//! 75 try again later · 78 an operator must act first (a supervisor waits long before it tries again).

pub mod account;
mod admin;
pub mod backup;
pub mod ceremony;
pub mod cert;
pub mod clock;
pub mod config;
pub mod docs;
pub mod doctor;
pub mod lab;
pub mod log;
pub mod log_key;
pub mod processes;
mod progress;
pub mod recall;
pub mod restore;
pub mod root;
pub mod state;
pub mod status;
pub mod ticket;
pub mod why;
pub mod witness;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::PossibleValue;
use clap::{Parser, Subcommand};

pub use crate::app::Failure;
use crate::app::logging;

/// A small certificate authority: keys in a PKCS#11 HSM, certificates over ACME, every issuance in a
/// tamper-evident log.
///
/// Exit codes: 0 done; 1 failed, or a check found something wrong; 2 the command line makes no sense; 75 try again
/// later; 78 an operator must act first. Messages on standard error begin with a code that `chancery why` explains.
#[derive(Debug, Parser)]
#[command(name = "chancery", version, max_term_width = 100)]
pub(crate) struct Arguments {
    /// The configuration file. Also taken from CHANCERY_CONFIG.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Answer in JSON instead of text.
    #[arg(long, global = true)]
    json: bool,
    /// How log lines on standard error look. CHANCERY_LOG chooses what is logged (info, chancery=debug, …).
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    log_format: logging::Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run issuer and web process under a small supervisor, until SIGTERM.
    Serve,
    /// Run the web process: ACME over HTTPS, CRLs and chains over HTTP. No PIN, no key, no write access to the log.
    Web(processes::WebArguments),
    /// Run the issuer: token, log, policy. No network listener.
    Issuer(processes::IssuerArguments),
    /// Make the keys and certificates of a CA, once, as one reviewed file says.
    #[command(subcommand)]
    Ceremony(ceremony::CeremonyCommand),
    /// The root certificate: its fingerprint, and how each system and client is made to trust it.
    Root(root::RootArguments),
    /// Ask the running box how it is.
    Status(status::StatusArguments),
    /// List, show and revoke certificates. For the issuer's user and root, while the box runs.
    #[command(subcommand)]
    Cert(cert::CertCommand),
    /// Have devices replace certificates before their time.
    #[command(subcommand)]
    Recall(recall::RecallCommand),
    /// Read, verify and export the issuance log.
    #[command(subcommand)]
    Log(log::LogCommand),
    /// The keys that sign the log's checkpoints.
    #[command(subcommand)]
    LogKey(log_key::LogKeyCommand),
    /// Check everything the box needs, one line each, with what to do.
    Doctor(doctor::DoctorArguments),
    /// Explain a message's code.
    Why(why::Arguments),
    /// Check or show the configuration.
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Accounts as the issuer knows them: list, show, deactivate.
    #[command(subcommand)]
    Account(account::AccountCommand),
    /// Enrolment tickets (external account binding): mint, list, revoke.
    #[command(subcommand)]
    Ticket(ticket::TicketCommand),
    /// In which format the state is written; say that there is no going back to an older release.
    #[command(subcommand)]
    State(state::StateCommand),
    /// Judge the clock against the log, or accept it.
    #[command(subcommand)]
    Clock(clock::ClockCommand),
    /// One encrypted archive of what this box needs besides its token; check archives.
    Backup(backup::BackupArguments),
    /// Make this empty box the one that archives are of, with the same token.
    Restore(Box<restore::RestoreArguments>),
    /// Boxes that watch each other's logs: the keys they must be told of.
    #[command(subcommand)]
    Witness(witness::WitnessCommand),
    /// What a lab lacks.
    Lab(lab::LabArgs),
    /// Print documentation made from this program.
    #[command(hide = true)]
    Docs(docs::DocsArguments),
}

/// Here and not beside the type: only the command line knows clap.
impl clap::ValueEnum for logging::Format {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Human, Self::Json]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.as_str()).help(match self {
            Self::Human => "Lines for people; without a timestamp where the journal adds its own",
            Self::Json => "One JSON object a line, spans flattened into it",
        }))
    }
}

/// The whole program.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let context = Context {
        config: arguments
            .config
            .or_else(|| std::env::var_os("CHANCERY_CONFIG").map(PathBuf::from))
            .unwrap_or_else(|| PathBuf::from(DEFAULT_CONFIG)),
        json: arguments.json,
        log_format: arguments.log_format,
    };
    match run(&arguments.command, &context) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.text.is_empty() {
                // If even standard error is gone there is no one left to tell.
                let _ = writeln!(std::io::stderr(), "{}", failure.text);
            }
            ExitCode::from(failure.exit)
        }
    }
}

fn run(command: &Command, context: &Context) -> Result<(), Failure> {
    match command {
        Command::Serve => processes::serve(context),
        Command::Web(arguments) => processes::web(arguments, context),
        Command::Issuer(arguments) => processes::issuer(arguments, context),
        Command::Ceremony(command) => ceremony::run(command, context),
        Command::Root(arguments) => root::run(arguments, context),
        Command::Status(arguments) => status::run(arguments, context),
        Command::Cert(command) => cert::run(command, context),
        Command::Recall(command) => recall::run(command, context),
        Command::Log(command) => log::run(command, context),
        Command::LogKey(command) => log_key::run(command, context),
        Command::Doctor(arguments) => doctor::run(arguments, context),
        Command::Why(arguments) => why::run(arguments, context),
        Command::Config(command) => config::run(command, context),
        Command::Account(command) => account::run(command, context),
        Command::Ticket(command) => ticket::run(command, context),
        Command::State(command) => state::run(command, context),
        Command::Clock(command) => clock::run(command, context),
        Command::Backup(arguments) => backup::run(arguments, context),
        Command::Restore(arguments) => restore::run(arguments, context),
        Command::Witness(command) => witness::run(command, context),
        Command::Lab(arguments) => lab::run(arguments),
        Command::Docs(arguments) => docs::run(arguments),
    }
}

const DEFAULT_CONFIG: &str = "/etc/chancery/chancery.toml";

/// What every subcommand is told.
#[derive(Clone, Debug)]
pub struct Context {
    /// The configuration file.
    pub config: PathBuf,
    /// JSON on stdout instead of text for people.
    pub json: bool,
    pub log_format: logging::Format,
}

impl Context {
    /// The configuration, read and checked.
    pub fn load(&self) -> Result<crate::config::Config, Failure> {
        crate::config::load(&self.config).map_err(|error| Failure::operator(error.to_string()))
    }
}

/// Fails unless `yes`, after saying what would be done.
pub fn confirm(yes: bool, effect: &str) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    Err(Failure::failed(format!(
        "CHY-CONFIRM: {effect}; nothing was changed, repeat it with --yes to do it"
    )))
}

/// Prints a line to stdout. A reader that went away (`| head`) is no failure.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::failed(format!("CHY-OS: cannot write to stdout: {error}")))
        }
        _ => Ok(()),
    }
}

/// Prints one JSON document and a newline to stdout.
pub fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    match serde_json::to_string_pretty(value) {
        Ok(text) => print(&text),
        Err(error) => Err(Failure::failed(format!("CHY-INTERNAL: an answer is not JSON: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        <Arguments as clap::CommandFactory>::command().debug_assert();
    }

    /// Ids are base64url: one in 64 begins with a hyphen.
    #[test]
    fn an_id_may_begin_with_a_hyphen() {
        let id = "-1qofMq3qofB6mAIg4lYqA";
        for words in [["account", "show"], ["account", "deactivate"], ["log", "show"]] {
            let line = ["chancery"].into_iter().chain(words);
            let before = Arguments::try_parse_from(line.clone().chain(["--json", id]));
            assert!(before.is_ok_and(|arguments| arguments.json), "{words:?}");
            let after = Arguments::try_parse_from(line.chain([id, "--json"]));
            assert!(after.is_ok_and(|arguments| arguments.json), "{words:?}");
        }
        for flag in ["--order", "--account"] {
            let line = Arguments::try_parse_from(["chancery", "log", "list", flag, id, "--json"]);
            assert!(line.is_ok_and(|arguments| arguments.json), "{flag}");
        }
    }
}
