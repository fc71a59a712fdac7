//! One file per subcommand: argv in, exit code out.
//!
//! Exit codes: 0 done · 1 failed, or a check found something wrong · 2 the command line makes no sense ·
//! 75 try again later · 78 an operator must act first (a supervisor waits long before it tries again).

pub mod lab;
pub mod why;

use std::io::Write;
use std::path::PathBuf;

/// What every subcommand is told.
#[derive(Clone, Debug)]
pub struct Context {
    /// The configuration file.
    pub config: PathBuf,
    /// JSON on stdout instead of text for people.
    pub json: bool,
}

impl Context {
    /// The configuration, read and checked.
    pub fn load(&self) -> Result<crate::config::Config, Failure> {
        crate::config::load(&self.config).map_err(|error| Failure::operator(error.to_string()))
    }
}

/// Why a subcommand did not do its work: the operator's text, which begins with its code, and the exit code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub text: String,
    pub exit: u8,
}

impl Failure {
    /// Failed, or a check found something wrong: 1.
    pub fn failed(text: String) -> Self {
        Self { text, exit: 1 }
    }
    /// Worth trying again: 75 (EX_TEMPFAIL).
    pub fn retry(text: String) -> Self {
        Self { text, exit: 75 }
    }
    /// An operator must act first: 78 (EX_CONFIG).
    pub fn operator(text: String) -> Self {
        Self { text, exit: 78 }
    }
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self::failed(text)
    }
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
