//! `chancery doctor`: everything the box needs, one line each, with a code and what to do. Changes nothing, tries a
//! PIN at most once, and works before the first ceremony, without a configuration even.

mod keys;
mod machine;
mod token;
mod witnesses;

use std::path::PathBuf;
use std::sync::mpsc::channel;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use self::token::Subject;
use super::{Context, Failure, print, print_json, why};
use crate::config::Config;
use crate::pki::uri::Pkcs11Uri;

/// `chancery doctor`.
#[derive(Clone, Debug, Args)]
pub struct DoctorArguments {
    /// Do not log in to the token: no PIN is needed, keys and signatures are not looked at.
    #[arg(long)]
    no_login: bool,
    /// Trial signatures for each key, fewer if they take longer than five seconds, or half a second while the issuer
    /// runs.
    #[arg(long, default_value_t = 20, value_name = "COUNT")]
    signatures: u32,
    /// Look at this PKCS#11 module and its tokens alone; no configuration is read.
    #[arg(long, value_name = "PATH")]
    module: Option<PathBuf>,
    /// The token that is meant, as an RFC 7512 URI (pkcs11:token=LABEL;serial=SERIAL). It is logged in to, once, if it
    /// says where the PIN is (?pin-source=file:/PATH), or else by the configured PIN.
    #[arg(long, value_name = "URI")]
    token: Option<String>,
}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Level {
    Ok,
    Warn,
    Fail,
}

/// One line.
#[derive(Clone, Debug, Serialize)]
struct Finding {
    check: String,
    level: Level,
    /// Stands at the head of `text` too, unless all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    text: String,
    #[serde(rename = "do", skip_serializing_if = "Option::is_none")]
    do_this: Option<&'static str>,
    /// The same for programs, where there is more than a line can say.
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<serde_json::Value>,
}

/// Takes findings as they are made.
struct Report<'a> {
    add: &'a mut dyn FnMut(Finding),
}

impl Report<'_> {
    fn ok(&mut self, check: &str, text: impl Into<String>) {
        self.put(check, Level::Ok, text.into(), None);
    }

    fn warn(&mut self, check: &str, text: impl Into<String>) {
        self.put(check, Level::Warn, text.into(), None);
    }

    fn fail(&mut self, check: &str, text: impl Into<String>) {
        self.put(check, Level::Fail, text.into(), None);
    }

    fn put(&mut self, check: &str, level: Level, text: String, details: Option<serde_json::Value>) {
        let code =
            text.split_once(": ").map(|(code, _)| code).filter(|code| code.starts_with("CHY-"));
        let entry = code.and_then(why::find);
        let (code, do_this) = (code.map(str::to_owned), entry.map(|entry| entry.do_this));
        (self.add)(Finding { check: check.to_owned(), level, code, text, do_this, details });
    }
}

pub fn run(arguments: &DoctorArguments, context: &Context) -> Result<(), Failure> {
    let named =
        match &arguments.token {
            Some(text) => Some(Pkcs11Uri::parse_token(text).map_err(|why| Failure {
                text: format!("{}: --token: {why}", why.code()),
                exit: 2,
            })?),
            None => None,
        };
    let mut findings = Vec::new();
    let (json, mut gone) = (context.json, Ok(()));
    let mut add = |finding: Finding| {
        if !json && gone.is_ok() {
            gone = show(&finding);
        }
        findings.push(finding);
    };
    let mut report = Report { add: &mut add };
    match &arguments.module {
        Some(module) => {
            let subject = Subject::of_module(module.clone(), named);
            in_time(subject, arguments, &mut report);
        }
        None => match crate::config::load(&context.config) {
            Err(error) => report.fail("configuration", error.to_string()),
            Ok(config) => {
                report.ok("configuration", format!("{} is good", context.config.display()));
                examine(&config, &mut report);
                in_time(Subject::of_box(&config, named), arguments, &mut report);
            }
        },
    }
    gone?;
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let (warnings, failures) = (count(Level::Warn), count(Level::Fail));
    if context.json {
        print_json(&serde_json::json!({
            "ok": failures == 0, "warnings": warnings, "failures": failures, "findings": findings
        }))?;
    } else {
        print(&format!("\n{} checks, {warnings} warnings, {failures} failures", findings.len()))?;
    }
    // The lines have been said; nothing is left to say on standard error.
    if failures == 0 { Ok(()) } else { Err(Failure::failed(String::new())) }
}

fn show(finding: &Finding) -> Result<(), Failure> {
    let level = match finding.level {
        Level::Ok => "ok  ",
        Level::Warn => "warn",
        Level::Fail => "FAIL",
    };
    print(&format!("{level}  {:<14} {}", finding.check, finding.text))?;
    match finding.do_this {
        Some(do_this) if finding.level != Level::Ok => print(&format!("{:21}do: {do_this}", "")),
        _ => Ok(()),
    }
}

fn examine(config: &Config, report: &mut Report<'_>) {
    machine::format(config, report);
    machine::authority(config, report);
    machine::root_crls(config, report);
    machine::directories(config, report);
    machine::ownership(config, report);
    machine::disk(config, report);
    machine::segments(config, report);
    machine::clock(config, report);
    machine::confinement(config, report);
    machine::ports(config, report);
    witnesses::examine(config, report);
}

/// Looks at the token on a thread of its own: a call into a module may never return, and then its thread is left
/// behind with this process.
fn in_time(subject: Subject, arguments: &DoctorArguments, report: &mut Report<'_>) {
    let deadline = Duration::from_secs(subject.settings.deadline_seconds) * 3 + PATIENCE;
    let (sender, findings) = channel();
    let arguments = arguments.clone();
    let started = std::thread::Builder::new().name("token".into()).spawn(move || {
        let mut add = |finding| drop(sender.send(finding));
        token::examine(&subject, &arguments, &mut Report { add: &mut add });
    });
    if let Err(error) = started {
        return report.fail("token", format!("CHY-OS: no thread can be started: {error}"));
    }
    loop {
        match findings.recv_timeout(deadline) {
            Ok(finding) => (report.add)(finding),
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return,
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                return report.fail(
                    "token",
                    format!(
                        "CHY-TOKEN-SLOW: the module has not answered for {} s",
                        deadline.as_secs()
                    ),
                );
            }
        }
    }
}

/// For a PIN that is typed, and for a token that wakes.
const PATIENCE: Duration = Duration::from_secs(60);
