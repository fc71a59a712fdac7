//! Remembers on disk that a key made wrong signatures, so that no restart forgets it: a process ends more easily
//! than a token is mended.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::env::Disk;
use crate::hsm::pool::{Offence, Offences};
use crate::id::Timestamp;

/// The file `wrong-signatures` in the issuer's own directory: a line per signature, key and Unix milliseconds.
pub struct WrongSignatures {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    all: Mutex<BTreeMap<String, Vec<Timestamp>>>,
}

impl WrongSignatures {
    /// `dir` is the issuer's own directory. A file that does not parse is not believed to be empty.
    pub fn read(disk: Arc<dyn Disk>, dir: &Path) -> Result<Self, String> {
        let path = dir.join("wrong-signatures");
        let bytes = match disk.read(&path, MOST) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(unreadable(&path, &error)),
        };
        let mut all: BTreeMap<String, Vec<Timestamp>> = BTreeMap::new();
        for line in String::from_utf8_lossy(&bytes).lines() {
            let parsed = line.split_once(' ').and_then(|(key, at)| Some((key, at.parse().ok()?)));
            let Some((key, at)) = parsed else {
                return Err(unreadable(&path, &format!("{line:?} is no key and instant")));
            };
            all.entry(key.to_owned()).or_default().push(Timestamp(at));
        }
        Ok(Self { disk, path, all: Mutex::new(all) })
    }
}

fn unreadable(path: &Path, why: &dyn std::fmt::Display) -> String {
    format!(
        "CHY-QUARANTINE-FILE: {}: {why}; it says which keys made wrong signatures: find out whether the token is sound, then remove it",
        path.display()
    )
}

impl Offences for WrongSignatures {
    fn past(&self) -> Vec<Offence> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter()
            .flat_map(|(key, times)| times.iter().map(|at| Offence { key: key.clone(), at: *at }))
            .collect()
    }

    fn keep(&self, key: &str, offences: &[Timestamp]) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(key.to_owned(), offences.to_vec());
        let mut text = String::new();
        for (key, times) in &*all {
            for at in times.iter().skip(times.len().saturating_sub(MOST_OF_A_KEY)) {
                text.push_str(&format!("{key} {}\n", at.0));
            }
        }
        // The process knows it all the same; only a restart would not.
        if let Err(error) = self.disk.replace(&self.path, text.as_bytes(), true) {
            tracing::error!(%error, path = %self.path.display(), "CHY-QUARANTINE-FILE: a wrong signature could not be remembered");
        }
    }

    fn lift(&self) -> String {
        format!("remove {} and restart the issuer", self.path.display())
    }
}

const MOST: u64 = 64 * 1024;
const MOST_OF_A_KEY: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::system::SystemDisk;

    #[test]
    fn wrong_signatures_outlive_the_process_and_rubbish_is_not_forgiveness() {
        let dir = tempfile::tempdir().unwrap();
        let read = || WrongSignatures::read(Arc::new(SystemDisk), dir.path());
        let memory = read().unwrap();
        assert!(memory.past().is_empty());
        memory.keep("log", &[Timestamp(7)]);
        memory.keep("issuing", &[Timestamp(1), Timestamp(2)]);
        let offence = |key: &str, at| Offence { key: key.into(), at: Timestamp(at) };
        let all = [offence("issuing", 1), offence("issuing", 2), offence("log", 7)];
        assert_eq!(read().unwrap().past(), all);
        // What no longer counts is forgotten.
        memory.keep("issuing", &[Timestamp(9)]);
        assert_eq!(read().unwrap().past(), [offence("issuing", 9), offence("log", 7)]);
        let path = dir.path().join("wrong-signatures");
        assert!(memory.lift().contains(path.to_str().unwrap()));
        std::fs::write(&path, "issuing yesterday\n").unwrap();
        let refused = read().err().unwrap();
        assert!(refused.starts_with("CHY-QUARANTINE-FILE: "), "{refused}");
    }
}
