//! The C2SP tlog-checkpoint: origin, size, root, signatures.
//!
//! ```text
//! <origin>
//! <size in decimal>
//! <base64 of the root hash>
//! (extension lines, none by this log)
//! ```

use std::fmt;

use base64ct::{Base64, Encoding};

use super::note::{Note, NoteSignature, VerifierKey};
use super::tree::{Hash, TreeHead};

/// File name of the newest checkpoint that witnesses cosigned, beside the newest checkpoint; it may be older.
pub const WITNESSED: &str = "checkpoint.witnessed";

/// What a checkpoint states.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checkpoint {
    pub origin: String,
    pub head: TreeHead,
    /// Extension lines, not interpreted.
    pub extensions: Vec<String>,
}

/// Why a checkpoint proves nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadCheckpoint {
    /// The text is no checkpoint in a signed note.
    Malformed(&'static str),
    /// It is of another log.
    Origin(String),
    /// No line by the log's key, or one that does not verify.
    Signature,
}

impl Checkpoint {
    /// What this log states of `head`.
    pub fn new(origin: &str, head: TreeHead) -> Self {
        Self { origin: origin.to_owned(), head, extensions: Vec::new() }
    }

    /// The text that is signed.
    pub fn text(&self) -> String {
        let root = Base64::encode_string(&self.head.root);
        let mut text = format!("{}\n{}\n{root}\n", self.origin, self.head.size);
        for line in &self.extensions {
            text.push_str(line);
            text.push('\n');
        }
        text
    }

    /// Parses the text of a note; one spelling only.
    pub fn parse_text(text: &str) -> Result<Self, BadCheckpoint> {
        let malformed = BadCheckpoint::Malformed;
        let lines = text.strip_suffix('\n').ok_or_else(|| malformed("no line feed at the end"))?;
        let mut lines = lines.split('\n');
        let origin =
            lines.next().filter(|line| !line.is_empty()).ok_or_else(|| malformed("no origin"))?;
        let size = lines.next().ok_or_else(|| malformed("no size"))?;
        let root = lines.next().ok_or_else(|| malformed("no root"))?;
        let number: u64 = size.parse().map_err(|_| malformed("the size is no number"))?;
        if number.to_string() != size {
            return Err(malformed("the size is not in shortest form"));
        }
        let mut hash: Hash = [0; 32];
        match Base64::decode(root, &mut hash) {
            Ok(decoded) if decoded.len() == 32 => {}
            _ => return Err(malformed("the root is no base64 of 32 octets")),
        }
        let extensions: Vec<String> = lines.map(str::to_owned).collect();
        if extensions.iter().any(String::is_empty) {
            return Err(malformed("an empty extension line"));
        }
        let head = TreeHead { size: number, root: hash };
        Ok(Self { origin: origin.to_owned(), head, extensions })
    }

    /// Parses a signed checkpoint and verifies that `key` signed it, under the key's name as origin.
    pub fn open(note: &[u8], key: &VerifierKey) -> Result<Self, BadCheckpoint> {
        let note = Note::parse(note).map_err(|e| BadCheckpoint::Malformed(e.0))?;
        let checkpoint = Self::parse_text(&note.text)?;
        if checkpoint.origin != key.name() {
            return Err(BadCheckpoint::Origin(checkpoint.origin));
        }
        let mut lines = note.by(key).peekable();
        let signed = lines.peek().is_some();
        if signed && lines.all(|s| key.verify(note.text.as_bytes(), &checkpoint.head, s)) {
            Ok(checkpoint)
        } else {
            Err(BadCheckpoint::Signature)
        }
    }

    /// The note with one signature line by `key`; verifies nothing.
    pub fn signed(&self, key: &VerifierKey, octets: Vec<u8>) -> Note {
        let line = NoteSignature { name: key.name().to_owned(), id: key.id(), octets };
        Note { text: self.text(), signatures: vec![line] }
    }
}

impl fmt::Display for BadCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(why) => write!(f, "no checkpoint: {why}"),
            Self::Origin(origin) => {
                write!(f, "a checkpoint of another log, \u{201c}{origin}\u{201d}")
            }
            Self::Signature => {
                f.write_str("a checkpoint without a valid signature by the log's key")
            }
        }
    }
}

impl std::error::Error for BadCheckpoint {}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};

    use super::*;

    fn key() -> (Ed25519KeyPair, VerifierKey) {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let mut spki = vec![0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
        spki.extend_from_slice(pair.public_key().as_ref());
        let key = VerifierKey::from_spki("ca.lan/log", &spki).unwrap();
        (pair, key)
    }

    #[test]
    fn golden_checkpoint() {
        let (pair, key) = key();
        let checkpoint = Checkpoint::new("ca.lan/log", TreeHead { size: 258, root: [0xab; 32] });
        let octets = pair.sign(checkpoint.text().as_bytes()).as_ref().to_vec();
        let note = checkpoint.signed(&key, octets).to_string();
        // Ed25519 is deterministic: these octets are the format's.
        let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/golden/checkpoint-ed25519.txt");
        if std::env::var_os("BLESS").is_some() && !golden.exists() {
            std::fs::write(&golden, &note).unwrap();
        }
        assert_eq!(std::fs::read_to_string(golden).unwrap(), note);
        assert_eq!(Checkpoint::open(note.as_bytes(), &key), Ok(checkpoint));
        assert_eq!(
            Checkpoint::open(note.replace("258", "259").as_bytes(), &key),
            Err(BadCheckpoint::Signature)
        );
        let other = VerifierKey::from_spki("other.lan/log", key.spki()).unwrap();
        assert!(matches!(Checkpoint::open(note.as_bytes(), &other), Err(BadCheckpoint::Origin(_))));
    }

    /// A checkpoint of a P-256 key, as a tree head of RFC 6962. No two signatures are alike: the file is made once.
    #[test]
    fn golden_checkpoint_of_a_p256_key() {
        use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};

        let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        let (note, vkey) =
            (golden.join("checkpoint-p256.txt"), golden.join("checkpoint-p256.vkey"));
        let checkpoint = Checkpoint::new("ca.lan/log", TreeHead { size: 258, root: [0xab; 32] });
        if std::env::var_os("BLESS").is_some() && !note.exists() {
            let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
            let mut spki = vec![
                0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06,
                0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
            ];
            spki.extend_from_slice(pair.public_key().as_ref());
            let key = VerifierKey::from_spki("ca.lan/log", &spki).unwrap();
            let now = crate::id::Timestamp(1_795_305_605_000);
            let message = key.message(checkpoint.text().as_bytes(), &checkpoint.head, now);
            let made = pair.sign(&aws_lc_rs::rand::SystemRandom::new(), &message).unwrap();
            let octets = key.signature_octets(made.as_ref(), now);
            std::fs::write(&note, checkpoint.signed(&key, octets).to_string()).unwrap();
            std::fs::write(&vkey, format!("{key}\n")).unwrap();
        }
        let key: VerifierKey = std::fs::read_to_string(vkey).unwrap().trim_end().parse().unwrap();
        let note = std::fs::read_to_string(note).unwrap();
        assert_eq!(Checkpoint::open(note.as_bytes(), &key), Ok(checkpoint));
        let other = note.replace("258", "259");
        assert_eq!(Checkpoint::open(other.as_bytes(), &key), Err(BadCheckpoint::Signature));
        assert_eq!(Note::parse(note.as_bytes()).unwrap().to_string(), note);
    }

    #[test]
    fn other_spellings_are_refused() {
        let root = Base64::encode_string(&[1; 32]);
        assert!(Checkpoint::parse_text(&format!("o\n0\n{root}\n")).is_ok());
        assert!(Checkpoint::parse_text(&format!("o\n0\n{root}\next\n")).is_ok());
        for text in [
            format!("o\n0\n{root}"),
            format!("\n0\n{root}\n"),
            format!("o\n00\n{root}\n"),
            format!("o\n+1\n{root}\n"),
            format!("o\n18446744073709551616\n{root}\n"),
            format!("o\n0\n{root}\n\n"),
            "o\n0\nAAAA\n".to_owned(),
            "o\n0\n".to_owned(),
        ] {
            assert!(Checkpoint::parse_text(&text).is_err(), "{text:?}");
        }
    }
}
