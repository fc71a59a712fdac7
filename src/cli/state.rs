//! `chancery state`: in which format the state is written, and that a release is kept.

use clap::Subcommand;

use super::admin::{Issuer, unexpected};
use super::{Context, Failure, confirm, print, print_json};
use crate::config::Config;
use crate::ipc::admin::{AdminAnswer, AdminQuestion};
use crate::state::{Format, Written};

/// `chancery state …`.
#[derive(Clone, Debug, Subcommand)]
pub enum StateCommand {
    /// In which format the state directory is written, and up to which this program reads and writes.
    Show,
    /// Say that there is no going back to a release before this one: from here on the state is written in this
    /// program's format, and what needs it can be done. An appliance says so by itself when an update has proven itself.
    Keep {
        /// Do it; without, say what would be done.
        #[arg(long)]
        yes: bool,
    },
}

pub fn run(command: &StateCommand, context: &Context) -> Result<(), Failure> {
    let config = context.load()?;
    match command {
        StateCommand::Show => show(&config.written, context.json),
        StateCommand::Keep { yes } => keep(&config, *yes, context.json),
    }
}

fn show(written: &Written, json: bool) -> Result<(), Failure> {
    let raised = written.raised.as_ref();
    if json {
        return print_json(&serde_json::json!({
            "format": written.format,
            "newest": Format::OWN,
            "raised": raised.map(|raised| serde_json::json!({
                "from": raised.from, "by": raised.user, "leaf": raised.leaf.map(|leaf| leaf.0),
            })),
        }));
    }
    print(&format!("written in format  {}", written.format))?;
    if let Some(raised) = raised {
        let leaf =
            raised.leaf.map_or_else(|| "not yet in the log".into(), |leaf| format!("leaf {leaf}"));
        print(&format!("raised from        {} by {}, {leaf}", raised.from, raised.user))?;
    }
    print(&format!("this program       up to {}", Format::OWN))?;
    if written.format < Format::OWN {
        print("a former release can still run on this state; `chancery state keep` ends that")?;
    }
    Ok(())
}

fn keep(config: &Config, yes: bool, json: bool) -> Result<(), Failure> {
    let written = &config.written;
    if written.format == Format::OWN && written.raised.as_ref().is_none_or(|r| r.leaf.is_some()) {
        if json {
            return print_json(&serde_json::json!({"from": Format::OWN, "to": Format::OWN}));
        }
        return print(&format!("the state is written in format {} already", Format::OWN));
    }
    confirm(
        yes,
        &format!(
            "the state would be written in format {} instead of {}; a release that does not know it could not run on it any more",
            Format::OWN,
            written.format
        ),
    )?;
    let mut issuer = Issuer::connect(config)?;
    match issuer.ask(&AdminQuestion::KeepRelease)? {
        AdminAnswer::ReleaseKept { from, to, leaf } if json => print_json(
            &serde_json::json!({"from": from, "to": to, "leaf": leaf.map(|leaf| leaf.0)}),
        ),
        AdminAnswer::ReleaseKept { to, leaf: None, .. } => {
            print(&format!("the state is written in format {to} already"))
        }
        AdminAnswer::ReleaseKept { from, to, leaf: Some(leaf) } => {
            print(&format!("format {to} instead of {from}, with leaf {leaf}"))
        }
        _ => Err(unexpected()),
    }
}
