//! The file form of a proof (C2SP tlog-proof): index, path and checkpoint, to be verified offline.
//!
//! ```text
//! c2sp.org/tlog-proof@v1
//! extra <base64>             (may be left out)
//! index <decimal>
//! <base64 of a hash>         (the path, from the leaf's sibling up)
//!
//! <the signed checkpoint, verbatim>
//! ```

use std::fmt;

use base64ct::{Base64, Encoding};

use super::verify_inclusion;
use crate::tlog::checkpoint::{BadCheckpoint, Checkpoint};
use crate::tlog::note::{MAX_NOTE, VerifierKey};
use crate::tlog::tree::Hash;

/// A proof as it is handed on. Nothing of it is verified; `extra` never can be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proof {
    /// What the application adds; this log puts the leaf itself here.
    pub extra: Option<Vec<u8>>,
    pub index: u64,
    pub path: Vec<Hash>,
    /// A signed note, with whoever cosigned it.
    pub checkpoint: String,
}

/// The octets are no proof in this form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAProof(pub &'static str);

/// The most octets a proof may have here: a leaf of 65,535 octets in base64, a path, a checkpoint.
pub const MAX_PROOF: usize = 96 * 1024 + MAX_NOTE;
/// No tree is higher.
const MAX_PATH: usize = 64;

const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";

impl Proof {
    /// Parses; verifies nothing. One spelling only.
    pub fn parse(octets: &[u8]) -> Result<Self, NotAProof> {
        if octets.len() > MAX_PROOF {
            return Err(NotAProof("too long"));
        }
        let text = std::str::from_utf8(octets).map_err(|_| NotAProof("not UTF-8"))?;
        let (lines, checkpoint) =
            text.split_once("\n\n").ok_or(NotAProof("no empty line before the checkpoint"))?;
        let mut lines = lines.split('\n').peekable();
        if lines.next() != Some(FIRST_LINE) {
            return Err(NotAProof("the first line is not `c2sp.org/tlog-proof@v1`"));
        }
        let extra = match lines.next_if(|line| line.starts_with("extra ")) {
            None => None,
            Some(line) => {
                let decoded = Base64::decode_vec(&line["extra ".len()..]);
                Some(decoded.map_err(|_| NotAProof("the extra data is no base64"))?)
            }
        };
        let index = lines.next().and_then(|line| line.strip_prefix("index "));
        let index = index.ok_or(NotAProof("no index"))?;
        let number: u64 = index.parse().map_err(|_| NotAProof("the index is no number"))?;
        if number.to_string() != index {
            return Err(NotAProof("the index is not in shortest form"));
        }
        let mut path = Vec::new();
        for line in lines {
            if path.len() == MAX_PATH {
                return Err(NotAProof("the path is too long"));
            }
            let mut hash: Hash = [0; 32];
            match Base64::decode(line, &mut hash) {
                Ok(decoded) if decoded.len() == 32 => path.push(hash),
                _ => return Err(NotAProof("a line of the path is no base64 of 32 octets")),
            }
        }
        Ok(Self { extra, index: number, path, checkpoint: checkpoint.to_owned() })
    }

    /// The checkpoint, once `key` is found to have signed it and the path to lead from `leaf` to its root.
    pub fn verify(&self, leaf: &Hash, key: &VerifierKey) -> Result<Checkpoint, Unproven> {
        let checkpoint =
            Checkpoint::open(self.checkpoint.as_bytes(), key).map_err(Unproven::Checkpoint)?;
        if verify_inclusion(leaf, self.index, &checkpoint.head, &self.path) {
            Ok(checkpoint)
        } else {
            Err(Unproven::Path)
        }
    }
}

/// Why a proof proves nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unproven {
    /// Its checkpoint is none, or not by that key.
    Checkpoint(BadCheckpoint),
    /// The path does not lead from the leaf to the checkpoint's root.
    Path,
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{FIRST_LINE}")?;
        if let Some(extra) = &self.extra {
            writeln!(f, "extra {}", Base64::encode_string(extra))?;
        }
        writeln!(f, "index {}", self.index)?;
        for hash in &self.path {
            writeln!(f, "{}", Base64::encode_string(hash))?;
        }
        write!(f, "\n{}", self.checkpoint)
    }
}

impl fmt::Display for NotAProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a proof: {}", self.0)
    }
}

impl fmt::Display for Unproven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checkpoint(why) => why.fmt(f),
            Self::Path => {
                f.write_str("the path does not lead from the leaf to the checkpoint's root")
            }
        }
    }
}

impl std::error::Error for NotAProof {}
impl std::error::Error for Unproven {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn proof() -> Proof {
        Proof {
            extra: Some(b"leaf".to_vec()),
            index: 73_894,
            path: vec![[1; 32], [2; 32]],
            checkpoint: "ca.lan/log\n109482\nAAAA\n\n\u{2014} ca.lan/log AAAAAAE=\n".into(),
        }
    }

    #[test]
    fn the_form_is_that_of_the_specification() {
        let text = proof().to_string();
        let expected = format!(
            "c2sp.org/tlog-proof@v1\nextra bGVhZg==\nindex 73894\n{}\n{}\n\n{}",
            Base64::encode_string(&[1; 32]),
            Base64::encode_string(&[2; 32]),
            proof().checkpoint
        );
        assert_eq!(text, expected);
        assert_eq!(Proof::parse(text.as_bytes()), Ok(proof()));
        let bare = Proof { extra: None, path: Vec::new(), ..proof() };
        assert_eq!(Proof::parse(bare.to_string().as_bytes()), Ok(bare));
    }

    #[test]
    fn other_spellings_are_refused() {
        let good = proof().to_string();
        let long = format!("{}\n", Base64::encode_string(&[3; 32])).repeat(MAX_PATH);
        for (from, to) in [
            ("proof@v1", "proof@v2"),
            ("index 73894", "index 073894"),
            ("index 73894", "index +73894"),
            ("index 73894", "index -1"),
            ("index 73894", "index 18446744073709551616"),
            ("index 73894", "Index 73894"),
            ("index 73894\n", ""),
            ("extra bGVhZg==", "extra bGVhZg"),
            ("extra bGVhZg==", "extra  bGVhZg=="),
            ("extra bGVhZg==", "extra bGVhZg==\nextra bGVhZg=="),
            ("AQE=\n", "AQ==\n"),
            ("AQE=\n", "AQE=\r\n"),
            ("\n\nca.lan", "\nca.lan"),
            ("index 73894\n", &format!("index 73894\n{long}")),
        ] {
            let bad = good.replacen(from, to, 1);
            assert_ne!(bad, good, "{from:?} is not there");
            assert!(Proof::parse(bad.as_bytes()).is_err(), "{to:?} was taken");
        }
        assert!(Proof::parse(&vec![b'a'; MAX_PROOF + 1]).is_err());
        assert!(Proof::parse(b"\xff").is_err());
    }

    proptest! {
        #[test]
        fn what_parses_prints_the_same(
            octets in "c2sp.org/tlog-proof@v1\n(extra [A-Za-z0-9+/]{4}\n)?index [0-9]{1,3}\n(\\PC{0,50}\n){0,3}\n.{0,40}"
        ) {
            if let Ok(proof) = Proof::parse(octets.as_bytes()) {
                prop_assert_eq!(proof.to_string(), octets);
            }
        }
    }
}
