//! `chancery serve`, `web`, `issuer`: the processes that stay.

use std::path::PathBuf;

use clap::Args;

use super::{Context, Failure, print, print_json};
use crate::app;

/// `chancery web`.
#[derive(Clone, Debug, Args)]
pub struct WebArguments {
    /// Confine this process as the web process is confined, try to get out, print what was refused, and exit: 0 if
    /// everything was.
    #[arg(long)]
    try_escape: bool,
    /// Further files that --try-escape tries to read and write.
    #[arg(long = "target", value_name = "FILE", requires = "try_escape")]
    targets: Vec<PathBuf>,
}

/// `chancery issuer`.
#[derive(Clone, Debug, Args)]
pub struct IssuerArguments {
    /// Try what the unit must refuse the issuer (a network, other programs, other files), print what was refused, and
    /// exit: 0 if everything was. For a copy of the unit, which alone confines the issuer.
    #[arg(long)]
    try_escape: bool,
    /// Further files that --try-escape tries to read.
    #[arg(long = "target", value_name = "FILE", requires = "try_escape")]
    targets: Vec<PathBuf>,
}

/// Both processes under the supervisor.
pub fn serve(context: &Context) -> Result<(), Failure> {
    app::logging::start(context.log_format);
    let config = context.load()?;
    app::require_authority(&config)?;
    app::supervisor::run(&config, &context.config, context.log_format)
}

/// The web process.
pub fn web(arguments: &WebArguments, context: &Context) -> Result<(), Failure> {
    app::logging::start(context.log_format);
    let config = context.load()?;
    if arguments.try_escape {
        return try_escape(&config, &arguments.targets, context);
    }
    app::web::run(config)
}

/// The issuer process.
pub fn issuer(arguments: &IssuerArguments, context: &Context) -> Result<(), Failure> {
    app::logging::start(context.log_format);
    let config = context.load()?;
    if arguments.try_escape {
        let attempts = app::attempts::issuer(&config, &arguments.targets);
        return tell("as the unit has it", &attempts, context);
    }
    app::issuer::run(config)
}

fn try_escape(
    config: &crate::config::Config,
    targets: &[PathBuf],
    context: &Context,
) -> Result<(), Failure> {
    app::directories::prepare_web(&config.paths)?;
    let confinement = app::confine::web(config, &[])?;
    let mut targets = targets.to_vec();
    targets.push(config.token.module.clone());
    if let crate::config::PinSource::File(pin) = &config.pin {
        targets.push(pin.clone());
    }
    let attempts = app::attempts::web(config, &targets);
    tell(&confinement.words, &attempts, context)
}

/// Prints what was refused; fails where something was not.
fn tell(
    confinement: &str,
    attempts: &[app::attempts::Attempt],
    context: &Context,
) -> Result<(), Failure> {
    if context.json {
        print_json(&serde_json::json!({"confinement": confinement, "attempts": attempts}))?;
    } else {
        print(confinement)?;
        for attempt in attempts {
            let outcome = attempt.refused.as_deref().unwrap_or("WAS LET THROUGH");
            print(&format!("{:<50} {outcome}", attempt.attempt))?;
        }
    }
    match attempts.iter().filter(|attempt| attempt.refused.is_none()).count() {
        0 => Ok(()),
        count => Err(Failure::failed(format!(
            "CHY-CONFINE: {count} attempts to get out were let through"
        ))),
    }
}
