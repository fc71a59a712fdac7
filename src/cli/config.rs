//! `chancery config`: check, show or explain it.

mod explain;

use std::path::PathBuf;

use clap::Subcommand;
use serde::Deserialize;

use super::{Context, Failure, print, print_json};
use crate::id::hex;
use crate::issuer::Configuration;

/// `chancery config …`.
#[derive(Clone, Debug, Subcommand)]
pub enum ConfigCommand {
    /// Read the configuration, or each FILE as one, and say what is wrong. Touches neither token nor network.
    Check {
        /// Configuration files, fragments or profiles; without any, the one that would be used.
        files: Vec<PathBuf>,
    },
    /// Print the effective configuration, everything inherited and defaulted filled in. No secret is part of it.
    Show,
    /// All about one key, or every key of a table: its value, the file and line it comes from, unit, range and default,
    /// what it means, and who is trusted when it is used.
    Explain {
        /// Such as `web.connections`, or `web.limits` for all of that table.
        key: String,
    },
    /// The keys whose value is not the default, with old and new value and the line; with FILE, what would be other if
    /// that were the configuration.
    Diff {
        /// Another configuration file.
        file: Option<PathBuf>,
    },
}

pub fn run(command: &ConfigCommand, context: &Context) -> Result<(), Failure> {
    match command {
        ConfigCommand::Check { files } if files.is_empty() => {
            check(std::slice::from_ref(&context.config), context)
        }
        ConfigCommand::Check { files } => check(files, context),
        ConfigCommand::Show => show(context),
        ConfigCommand::Explain { key } => explain::explain(key, context),
        ConfigCommand::Diff { file } => explain::diff(file.as_deref(), context),
    }
}

fn check(files: &[PathBuf], context: &Context) -> Result<(), Failure> {
    let outcomes: Vec<_> = files.iter().map(|file| (file, judge(file))).collect();
    if context.json {
        let rows: Vec<_> = outcomes
            .iter()
            .map(|(file, outcome)| {
                serde_json::json!({"file": file, "ok": outcome.is_ok(), "kind": outcome.as_ref().ok(),
                    "error": outcome.as_ref().err().map(ToString::to_string)})
            })
            .collect();
        print_json(&rows)?;
    }
    let mut wrong = Vec::new();
    for (file, outcome) in outcomes {
        match outcome {
            Ok(kind) if !context.json => print(&format!("ok    {} ({kind})", file.display()))?,
            Ok(_) => {}
            Err(error) => wrong.push(error.to_string()),
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(Failure::operator(wrong.join("\n"))) }
}

/// Says what kind of file it is, if it is a good one.
fn judge(file: &std::path::Path) -> Result<&'static str, crate::config::ConfigError> {
    /// As much as tells a profile or a token file from a configuration.
    #[derive(Deserialize)]
    struct Shape {
        module: Option<String>,
        usages: Option<Vec<String>>,
    }
    let shape: Shape = crate::config::read(file)?;
    if shape.usages.is_some() {
        crate::config::read_profile(file).map(|_| "profile")
    } else if shape.module.is_some() {
        crate::config::read::<crate::hsm::pool::Settings>(file).map(|_| "token")
    } else {
        crate::config::check(file)
            .map(|complete| if complete { "configuration" } else { "fragment" })
    }
}

fn show(context: &Context) -> Result<(), Failure> {
    let config = context.load()?;
    let failed = |error: crate::config::ConfigError| Failure::failed(error.to_string());
    if context.json {
        return print_json(&config.to_json().map_err(failed)?);
    }
    let files: Vec<String> =
        config.files.iter().map(|file| format!("#   {}\n", file.display())).collect();
    let configuration = Configuration::of(config.digest, &config.to_json().map_err(failed)?);
    // As the log's record of this configuration states them.
    let parts: Vec<String> = configuration
        .parts()
        .iter()
        .map(|part| format!("#   {} {}\n", hex(&part.sha256), part.name))
        .collect();
    print(&format!(
        "# Read from\n{}# Digest {}\n{}\n{}",
        files.concat(),
        hex(&config.digest),
        parts.concat(),
        config.to_toml().map_err(failed)?
    ))
}
