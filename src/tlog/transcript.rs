//! What a log key signs of a ceremony's transcript: a note that names the log, the act and the transcript's digest.
//!
//! With an Ed25519 key it is a C2SP signed note. With a P-256 key, for which C2SP knows checkpoints alone, the line has
//! the same form, and behind the key id a DER Ecdsa-Sig-Value over the text.

use super::note::{NotANote, Note, NoteSignature, VerifierKey};
use crate::id::hex;

/// Whether a file in `ca/` is a transcript; beside it lies its note, with another extension.
pub fn is_file(name: &str) -> bool {
    name.starts_with("transcript-") && name.ends_with(".json")
}

/// The text: neither a checkpoint, whose first line is an origin and has no space, nor an RFC 6962 tree head.
pub fn statement(origin: &str, act: &str, at: &str, transcript_sha256: &[u8; 32]) -> String {
    let hex = hex(transcript_sha256);
    format!("chancery ceremony transcript v1\norigin {origin}\nact {act}\nat {at}\nsha256 {hex}\n")
}

/// The note, with what the private key of `key` made of the text.
pub fn signed(text: &str, key: &VerifierKey, signature: Vec<u8>) -> String {
    let line = NoteSignature { name: key.name().to_owned(), id: key.id(), octets: signature };
    Note { text: text.to_owned(), signatures: vec![line] }.to_string()
}

/// Which of these keys signed exactly the text that is meant for the log of the key's name.
pub fn signer<'a>(
    note: &[u8],
    keys: &'a [VerifierKey],
    text: impl Fn(&str) -> String,
) -> Result<Option<&'a VerifierKey>, NotANote> {
    let note = Note::parse(note)?;
    let signed = |key: &&VerifierKey| {
        note.text == text(key.name())
            && note.by(key).any(|octets| key.verify_text(note.text.as_bytes(), octets))
    };
    Ok(keys.iter().find(signed))
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};

    use super::*;

    fn key(seed: u8) -> (Ed25519KeyPair, VerifierKey) {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        let mut spki = vec![0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
        spki.extend_from_slice(pair.public_key().as_ref());
        (pair, VerifierKey::from_spki("ca.lan/log", &spki).unwrap())
    }

    #[test]
    fn only_the_key_that_signed_this_text_is_its_signer() {
        let (pair, own) = key(1);
        let (_, other) = key(2);
        let text =
            |origin: &str| statement(origin, "root-crl", "2026-11-22T10:00:00Z", &[0xab; 32]);
        let signature = pair.sign(text(own.name()).as_bytes()).as_ref().to_vec();
        let note = signed(&text(own.name()), &own, signature);
        // The same key under the name of the log that went on for that one, and before it.
        let renamed = VerifierKey::from_spki("ca.lan/log/r2", own.spki()).unwrap();
        let keys = [renamed.clone(), other.clone(), own.clone()];
        assert_eq!(signer(note.as_bytes(), &keys, text), Ok(Some(&own)));
        assert_eq!(signer(note.as_bytes(), &[other, renamed], text), Ok(None));
        let another = |origin: &str| text(origin).replace("root-crl", "rotate-tls-key");
        assert_eq!(signer(note.as_bytes(), &keys, another), Ok(None));
        assert!(signer(text(own.name()).as_bytes(), &keys, text).is_err());
        assert!(crate::tlog::checkpoint::Checkpoint::open(note.as_bytes(), &own).is_err());
    }
}
