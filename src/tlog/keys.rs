//! Which keys sign the checkpoints of a log, over its whole life.
//!
//! A log begins with one key. A *rotation* is a leaf that names the next one: a checkpoint that covers this leaf is
//! signed by both, until the leaf that *retires* the former key; a checkpoint that covers that one is signed by the
//! new key alone. So the size of a tree says who signs it, and no clock is asked. The rotation carries a statement
//! that both keys signed: whoever trusts the first key alone can follow the leaves to the newest.

use std::fmt;

use super::checkpoint::{BadCheckpoint, Checkpoint};
use super::note::{NotANoteKey, Note, VerifierKey};
use crate::id::LeafIndex;

/// The keys of one log, as its leaves tell of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogKeys {
    /// Ascending; never empty.
    terms: Vec<Term>,
}

/// One key, and the sizes of the trees that it signs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Term {
    pub key: VerifierKey,
    /// The least.
    pub begins: u64,
    /// The greatest; `None` while it is not retired.
    pub ends: Option<u64>,
}

/// What a rotation's leaf says.
#[derive(Clone, Copy, Debug)]
pub struct Rotation<'a> {
    /// SubjectPublicKeyInfo of the key that signs alone until here.
    pub former: &'a [u8],
    /// That of the key that signs from here on.
    pub key: &'a [u8],
    /// What the former key makes of the [`statement`].
    pub endorsement: &'a [u8],
    /// What the new key makes of it.
    pub possession: &'a [u8],
}

/// A leaf about keys that cannot be: whoever wrote it, the log's keys stay what they were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadKeyLeaf(pub &'static str);

/// What both keys of a rotation sign: text that is neither a checkpoint nor an RFC 6962 tree head.
pub fn statement(former: &VerifierKey, key: &VerifierKey) -> String {
    format!("chancery log key rotation v1\n{former}\n{key}\n")
}

impl LogKeys {
    /// The keys of a log that begins with `spki`; `origin` is every key's name.
    pub fn begin(origin: &str, spki: &[u8]) -> Result<Self, NotANoteKey> {
        let key = VerifierKey::from_spki(origin, spki)?;
        Ok(Self { terms: vec![Term { key, begins: 0, ends: None }] })
    }

    /// The log's name.
    pub fn origin(&self) -> &str {
        self.current().name()
    }

    /// The newest key.
    pub fn current(&self) -> &VerifierKey {
        &self.terms[self.terms.len() - 1].key
    }

    /// The key before it, while it has not been retired.
    pub fn former(&self) -> Option<&VerifierKey> {
        let [.., term, _] = self.terms.as_slice() else { return None };
        term.ends.is_none().then_some(&term.key)
    }

    /// All of them, oldest first.
    pub fn terms(&self) -> &[Term] {
        &self.terms
    }

    /// Who signs a tree of this size: one, or two during a cross-over.
    pub fn of(&self, size: u64) -> impl Iterator<Item = &VerifierKey> {
        let signs = move |term: &&Term| {
            term.begins <= size && term.ends.is_none_or(|greatest| size <= greatest)
        };
        self.terms.iter().filter(signs).map(|term| &term.key)
    }

    /// The leaf that names the next key.
    pub fn rotate(&mut self, leaf: LeafIndex, rotation: &Rotation<'_>) -> Result<(), BadKeyLeaf> {
        if self.former().is_some() {
            return Err(BadKeyLeaf("the log key is rotated while two keys sign already"));
        }
        let former = self.current();
        if former.spki() != rotation.former {
            return Err(BadKeyLeaf("the log key is rotated from a key that is not the log's"));
        }
        let key = VerifierKey::from_spki(former.name(), rotation.key)
            .map_err(|_| BadKeyLeaf("the new log key cannot sign checkpoints"))?;
        if self.terms.iter().any(|term| term.key.spki() == key.spki()) {
            return Err(BadKeyLeaf("the new log key was one of this log before"));
        }
        let text = statement(former, &key);
        if !former.verify_text(text.as_bytes(), rotation.endorsement) {
            return Err(BadKeyLeaf("the former log key did not sign for the new one"));
        }
        if !key.verify_text(text.as_bytes(), rotation.possession) {
            return Err(BadKeyLeaf("the new log key did not sign for itself"));
        }
        self.terms.push(Term { key, begins: leaf.0.saturating_add(1), ends: None });
        Ok(())
    }

    /// The leaf that retires the former key.
    pub fn retire(&mut self, leaf: LeafIndex, spki: &[u8]) -> Result<(), BadKeyLeaf> {
        if self.former().is_none_or(|former| former.spki() != spki) {
            return Err(BadKeyLeaf("a log key is retired that is not the former of two"));
        }
        if let [.., term, _] = self.terms.as_mut_slice() {
            term.ends = Some(leaf.0);
        }
        Ok(())
    }

    /// Parses a signed checkpoint and verifies that every key that signs trees of its size has signed it.
    pub fn open(&self, note: &[u8]) -> Result<Checkpoint, BadCheckpoint> {
        let parsed = Note::parse(note).map_err(|e| BadCheckpoint::Malformed(e.0))?;
        let size = Checkpoint::parse_text(&parsed.text)?.head.size;
        let mut opened = Err(BadCheckpoint::Signature);
        for key in self.of(size) {
            opened = Ok(Checkpoint::open(note, key)?);
        }
        opened
    }

    /// The same where one of them will do that has not been retired since: for what others have seen of this log.
    pub fn open_by_any(&self, note: &[u8]) -> Result<Checkpoint, BadCheckpoint> {
        let parsed = Note::parse(note).map_err(|e| BadCheckpoint::Malformed(e.0))?;
        let size = Checkpoint::parse_text(&parsed.text)?.head.size;
        let live = self.terms.iter().filter(|term| term.ends.is_none() && term.begins <= size);
        let mut opened = Err(BadCheckpoint::Signature);
        for term in live {
            opened = Checkpoint::open(note, &term.key);
            if opened.is_ok() {
                break;
            }
        }
        opened
    }
}

impl fmt::Display for BadKeyLeaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for BadKeyLeaf {}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    };

    use super::*;
    use crate::id::Timestamp;
    use crate::tlog::tree::TreeHead;

    const ORIGIN: &str = "ca.lan/log";

    enum Pair {
        Ed25519(Ed25519KeyPair),
        P256(EcdsaKeyPair),
    }

    struct Soft {
        pair: Pair,
        key: VerifierKey,
    }

    impl Soft {
        fn ed25519(seed: u8) -> Self {
            let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
            let mut spki =
                vec![0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
            spki.extend_from_slice(pair.public_key().as_ref());
            let key = VerifierKey::from_spki(ORIGIN, &spki).unwrap();
            Self { pair: Pair::Ed25519(pair), key }
        }

        fn p256() -> Self {
            let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
            let mut spki = vec![
                0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06,
                0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
            ];
            spki.extend_from_slice(pair.public_key().as_ref());
            let key = VerifierKey::from_spki(ORIGIN, &spki).unwrap();
            Self { pair: Pair::P256(pair), key }
        }

        fn sign(&self, message: &[u8]) -> Vec<u8> {
            match &self.pair {
                Pair::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
                Pair::P256(pair) => {
                    pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
                }
            }
        }
    }

    fn checkpoint(size: u64, signers: &[&Soft]) -> String {
        let head = TreeHead { size, root: [size as u8; 32] };
        let checkpoint = Checkpoint::new(ORIGIN, head);
        let mut note = Note { text: checkpoint.text(), signatures: Vec::new() };
        for signer in signers {
            let now = Timestamp(1_795_305_600_000);
            let message = signer.key.message(note.text.as_bytes(), &head, now);
            let octets = signer.key.signature_octets(&signer.sign(&message), now);
            note.signatures.extend(checkpoint.signed(&signer.key, octets).signatures);
        }
        note.to_string()
    }

    fn rotate(keys: &mut LogKeys, leaf: u64, former: &Soft, key: &Soft) -> Result<(), BadKeyLeaf> {
        let text = statement(&former.key, &key.key);
        let rotation = Rotation {
            former: former.key.spki(),
            key: key.key.spki(),
            endorsement: &former.sign(text.as_bytes()),
            possession: &key.sign(text.as_bytes()),
        };
        keys.rotate(LeafIndex(leaf), &rotation)
    }

    #[test]
    fn the_size_of_a_tree_says_who_signs_it() {
        let (a, b, c) = (Soft::ed25519(1), Soft::p256(), Soft::ed25519(3));
        let mut keys = LogKeys::begin(ORIGIN, a.key.spki()).unwrap();
        rotate(&mut keys, 10, &a, &b).unwrap();
        assert_eq!(keys.former(), Some(&a.key));
        // Before the former key is retired there is no next rotation, and nobody else is retired.
        assert!(rotate(&mut keys, 11, &b, &c).is_err());
        assert!(keys.retire(LeafIndex(12), b.key.spki()).is_err());
        keys.retire(LeafIndex(20), a.key.spki()).unwrap();
        assert!(keys.retire(LeafIndex(21), a.key.spki()).is_err());
        rotate(&mut keys, 30, &b, &c).unwrap();
        let signers = |size: u64| keys.of(size).map(VerifierKey::id).collect::<Vec<_>>();
        let (a, b, c) = (&a, &b, &c);
        for (size, expected) in [
            (0, vec![a]),
            // Ten records are leaves 0 to 9: the rotation is not covered yet.
            (10, vec![a]),
            (11, vec![a, b]),
            (20, vec![a, b]),
            (21, vec![b]),
            (30, vec![b]),
            (31, vec![b, c]),
            (u64::MAX, vec![b, c]),
        ] {
            let ids: Vec<_> = expected.iter().map(|signer| signer.key.id()).collect();
            assert_eq!(signers(size), ids, "{size}");
            let note = checkpoint(size, &expected);
            assert_eq!(keys.open(note.as_bytes()).map(|c| c.head.size), Ok(size));
        }
        let by_any =
            |size, signers: &[&Soft]| keys.open_by_any(checkpoint(size, signers).as_bytes());
        assert!(by_any(31, &[b]).is_ok() && by_any(31, &[c]).is_ok() && by_any(25, &[b]).is_ok());
        // Retired, or not yet in its time.
        assert!(
            by_any(10, &[a]).is_err() && by_any(15, &[a]).is_err() && by_any(30, &[c]).is_err()
        );
        // Each alone where both must, and who may no more or not yet.
        for (size, wrong) in
            [(10, vec![b]), (11, vec![a]), (11, vec![b]), (21, vec![a]), (30, vec![c])]
        {
            let note = checkpoint(size, &wrong);
            assert_eq!(keys.open(note.as_bytes()), Err(BadCheckpoint::Signature), "{size}");
        }
    }

    #[test]
    fn a_rotation_that_either_key_did_not_sign_is_none() {
        let (a, b, c) = (Soft::ed25519(1), Soft::ed25519(2), Soft::ed25519(3));
        let text = statement(&a.key, &b.key);
        let (endorsement, possession) = (a.sign(text.as_bytes()), b.sign(text.as_bytes()));
        let good = Rotation {
            former: a.key.spki(),
            key: b.key.spki(),
            endorsement: &endorsement,
            possession: &possession,
        };
        let begun = LogKeys::begin(ORIGIN, a.key.spki()).unwrap();
        let judge = |rotation: Rotation<'_>| begun.clone().rotate(LeafIndex(1), &rotation);
        assert_eq!(judge(good), Ok(()));
        assert!(judge(Rotation { endorsement: &possession, ..good }).is_err());
        assert!(judge(Rotation { possession: &endorsement, ..good }).is_err());
        assert!(judge(Rotation { former: c.key.spki(), ..good }).is_err());
        assert!(judge(Rotation { key: c.key.spki(), ..good }).is_err());
        assert!(judge(Rotation { key: b"no key", ..good }).is_err());
        // For another log the statement says something else.
        let mut elsewhere = LogKeys::begin("other.lan/log", a.key.spki()).unwrap();
        assert!(elsewhere.rotate(LeafIndex(1), &good).is_err());
        // Back to a key that was: its retirement would be undone.
        let mut keys = begun.clone();
        rotate(&mut keys, 1, &a, &b).unwrap();
        keys.retire(LeafIndex(2), a.key.spki()).unwrap();
        assert!(rotate(&mut keys, 3, &b, &a).is_err());
    }

    #[test]
    fn the_statement_is_for_ever() {
        let (a, b) = (Soft::ed25519(1), Soft::ed25519(2));
        assert_eq!(
            statement(&a.key, &b.key),
            format!("chancery log key rotation v1\n{}\n{}\n", a.key, b.key)
        );
    }
}
