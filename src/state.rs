//! In which format the state directory is written, so that a former release can still read it.
//!
//! A *format* is a number for all forms that a state directory may hold: kinds of records, stored facts, files. A program reads
//! every format up to its own, and writes no form above the one in `ca/format.json`, however new the program is. That number
//! is raised when an operator, or an appliance whose update has proven itself, says that there is no going back
//! (`chancery state keep`); until then the release before this one finds nothing that it cannot read.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::env::Disk;
use crate::id::LeafIndex;

/// The number of a format. Each release that brings a new form brings the next number.
///
/// | format | what it brought |
/// |---|---|
/// | 1 | what there was before there were formats; a state directory without `ca/format.json` |
/// | 2 | the record `FormatRaisedV1`; `ca/authority.json` of version 6 |
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Format(pub u32);

impl Format {
    pub const FIRST: Self = Self(1);
    /// The newest that this program reads and writes.
    pub const OWN: Self = Self(2);
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What `ca/format.json` says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Written {
    /// Nothing of a newer format is here, and no older program reads all of it.
    pub format: Format,
    /// How it came to that; `None`: it was so from the beginning.
    #[serde(default)]
    pub raised: Option<Raised>,
}

/// The last time that the format was raised.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Raised {
    pub from: Format,
    /// Who said so.
    pub uid: u32,
    pub user: String,
    /// The record of it; `None` until the log has one.
    pub leaf: Option<LeafIndex>,
}

impl Written {
    /// Of a state directory that begins now.
    pub const NEW: Self = Self { format: Format::OWN, raised: None };

    /// Reads it from the directory `ca`. Refuses a format that this program does not know, whatever else the file says; the text
    /// begins with a code.
    pub fn read(disk: &dyn Disk, ca: &Path) -> Result<Self, String> {
        let path = file(ca);
        let broken = |why: &dyn fmt::Display| {
            format!(
                "CHY-STATE-FORMAT-FILE: {}: {why}; restore it from a backup: it says what a former release can still read",
                path.display()
            )
        };
        let octets = match disk.read(&path, MOST) {
            Ok(octets) => octets,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self { format: Format::FIRST, raised: None });
            }
            Err(error) => return Err(broken(&error)),
        };
        // What a newer release writes beside the number is its own business.
        let number: Number = serde_json::from_slice(&octets).map_err(|why| broken(&why))?;
        match number.format {
            Format(0) => Err(broken(&"there is no format 0")),
            newer if newer > Format::OWN => Err(format!(
                "CHY-STATE-FORMAT: {}: the state is written in format {newer}, and this program, chancery {}, reads up to {}; \
                 run the release that was here before, or a newer one",
                path.display(),
                env!("CARGO_PKG_VERSION"),
                Format::OWN
            )),
            _ => serde_json::from_slice(&octets).map_err(|why| broken(&why)),
        }
    }

    /// Writes it, durably. For everyone to read.
    pub fn write(&self, disk: &dyn Disk, ca: &Path) -> std::io::Result<()> {
        let octets = serde_json::to_vec_pretty(self).map_err(std::io::Error::other)?;
        disk.replace(&file(ca), &octets, true)
    }
}

/// All that every release must understand of the file.
#[derive(Deserialize)]
struct Number {
    format: Format,
}

/// Its path below the directory `ca`.
pub fn file(ca: &Path) -> PathBuf {
    ca.join("format.json")
}

const MOST: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::simulated::SimulatedDisk;

    fn disk() -> SimulatedDisk {
        let disk = SimulatedDisk::default();
        disk.create_dir(Path::new("/ca")).unwrap();
        disk
    }

    fn read(text: &str) -> Result<Written, String> {
        let disk = disk();
        disk.replace(Path::new("/ca/format.json"), text.as_bytes(), true).unwrap();
        Written::read(&disk, Path::new("/ca"))
    }

    #[test]
    fn without_a_file_it_is_the_first() {
        let found = Written::read(&SimulatedDisk::default(), Path::new("/ca")).unwrap();
        assert_eq!(found, Written { format: Format::FIRST, raised: None });
    }

    #[test]
    fn what_is_written_is_read() {
        let raised =
            Raised { from: Format(1), uid: 0, user: "root".into(), leaf: Some(LeafIndex(70)) };
        for written in [Written::NEW, Written { format: Format(2), raised: Some(raised) }] {
            let disk = disk();
            written.write(&disk, Path::new("/ca")).unwrap();
            assert_eq!(Written::read(&disk, Path::new("/ca")).unwrap(), written);
        }
    }

    #[test]
    fn a_newer_format_is_refused_whatever_else_the_file_says() {
        let newer = Format::OWN.0 + 1;
        for text in [
            format!(r#"{{"format": {newer}}}"#),
            format!(r#"{{"format": {newer}, "raised": "in another form", "more": [1]}}"#),
        ] {
            let why = read(&text).unwrap_err();
            assert!(why.starts_with("CHY-STATE-FORMAT: "), "{why}");
            assert!(why.contains(&format!("format {newer}")), "{why}");
        }
    }

    #[test]
    fn a_file_that_says_nothing_is_no_first_format() {
        for text in [
            "",
            "{}",
            "[]",
            r#"{"format": 0}"#,
            r#"{"format": 5000000000}"#,
            r#"{"format": 1, "raised": 1}"#,
        ] {
            let why = read(text).unwrap_err();
            assert!(why.starts_with("CHY-STATE-FORMAT-FILE: "), "{text}: {why}");
        }
    }
}
