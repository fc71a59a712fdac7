//! The faulty module of `tests/faulty-module`, around another one and steered by the file beside it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A faulty module in a directory of its test.
pub struct Faulty {
    /// What the program under test loads.
    pub module: PathBuf,
    wrapped: PathBuf,
    rules: PathBuf,
}

impl Faulty {
    /// Puts it below `dir`, around `wrapped`; without rules it only passes on.
    pub fn around(wrapped: &Path, dir: &Path) -> Self {
        let build = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/faulty-module/build.sh");
        let output = Command::new(build).output().expect("the faulty module is compiled");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let made = String::from_utf8(output.stdout).unwrap();
        let module = dir.join("faulty.so");
        if !module.exists() {
            std::os::unix::fs::symlink(made.trim(), &module).unwrap();
        }
        let faulty =
            Self { rules: dir.join("faulty.so.rules"), module, wrapped: wrapped.to_owned() };
        faulty.rules("");
        faulty
    }

    /// These rules from now on, and no others.
    pub fn rules(&self, text: &str) {
        let mut all = String::new();
        writeln!(all, "module {}\n{text}", self.wrapped.display()).unwrap();
        // Whole or not at all: a rule that is cut short ends the process.
        let fresh = self.rules.with_extension("fresh");
        std::fs::write(&fresh, all).unwrap();
        std::fs::rename(fresh, &self.rules).unwrap();
    }

    /// How often the rule with this id has fired, in every process.
    pub fn fired(&self, id: &str) -> usize {
        let wanted = format!("fired {id} ");
        self.ledger().lines().filter(|line| line.starts_with(&wanted)).count()
    }

    /// What each C_Login was answered, in every process.
    pub fn logins(&self) -> Vec<String> {
        let words = |line: &str| Some(line.strip_prefix("login ")?.split(' ').next()?.to_owned());
        self.ledger().lines().filter_map(words).collect()
    }

    fn ledger(&self) -> String {
        let mut path = self.rules.clone().into_os_string();
        path.push(".ledger");
        std::fs::read_to_string(path).unwrap_or_default()
    }
}
