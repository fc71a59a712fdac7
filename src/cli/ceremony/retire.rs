//! `chancery ceremony retire`: the end of this CA.

use std::io::{BufRead, IsTerminal};
use std::path::PathBuf;

use clap::Args;

use super::rehearsal::{Copied, Rehearsal};
use super::{Context, Failure, failure, hand_over, heir, open_tokens, print, print_json};
use crate::ceremony::retire::{self, Document};

#[derive(Clone, Debug, Args)]
pub struct Retire {
    /// The ceremony file, like hsm/ceremony/retire.toml: it names the tokens.
    file: PathBuf,
    /// Do it; NAME is the common name of the issuing certificate. Without, it is asked for on a terminal.
    #[arg(long, value_name = "NAME")]
    yes: Option<String>,
    /// Although certificates are neither expired nor revoked.
    #[arg(long)]
    although_valid: bool,
    /// Who is present, for the transcript; may be repeated.
    #[arg(long, value_name = "NAME")]
    attended_by: Vec<String>,
    #[command(flatten)]
    pub(super) rehearsal: Rehearsal,
}

pub(super) fn retire(arguments: &Retire, context: &Context) -> Result<(), Failure> {
    let bad = |error: crate::config::ConfigError| Failure::operator(error.to_string());
    let document: Document = crate::config::read(&arguments.file).map_err(bad)?;
    let scene = arguments.rehearsal.scene(context, &document.tokens, Copied::Keys)?;
    let name = retire::name_of(&super::place(&scene)).map_err(failure)?;
    if !scene.is_rehearsal() {
        confirmed(arguments.yes.as_deref(), &name)?;
    }
    let heir = heir(&scene.config)?;
    let (mut place, tokens) = open_tokens(&document.tokens, &arguments.file, &scene)?;
    place.attendance.attended_by.clone_from(&arguments.attended_by);
    let read_tbs = crate::issuer::read_tbs;
    let (transcript, retired) =
        retire::retire(&document, &tokens, &place, read_tbs, arguments.although_valid)
            .map_err(failure)?;
    hand_over(&scene.config, heir)?;
    if context.json {
        return print_json(&serde_json::json!({ "transcript": transcript, "retired": retired }));
    }
    if let Some(transcript) = transcript {
        let sha256 = retired.transcript_sha256.clone();
        print(transcript.to_text_named(&sha256).trim_end())?;
    }
    let mut text = String::new();
    for gone in &retired.destroyed {
        // Writing to a String cannot fail.
        let _ = gone.print(&mut text);
    }
    if let Some(checkpoint) = &retired.checkpoint {
        text.push_str(&format!(
            "\nTHE LOG IS CLOSED, and its key is gone. Its last checkpoint:\n{checkpoint}"
        ));
    }
    print(text.trim_end())
}

fn confirmed(given: Option<&str>, name: &str) -> Result<(), Failure> {
    let typed = match given {
        Some(given) => given.to_owned(),
        None if std::io::stdin().is_terminal() => {
            eprintln!("This destroys the keys of {name:?} for good. Type the CA's name to go on:");
            let mut line = String::new();
            // Nothing was read: nothing is confirmed.
            let _ = std::io::stdin().lock().read_line(&mut line);
            line.trim().to_owned()
        }
        None => String::new(),
    };
    if typed == name {
        return Ok(());
    }
    Err(Failure::failed(format!(
        "CHY-CONFIRM: the keys of {name:?} on the tokens of the file would be destroyed for good, and its log closed; nothing was changed, repeat it with --yes {name:?} to do it"
    )))
}
