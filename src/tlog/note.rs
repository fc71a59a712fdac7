//! C2SP signed notes: the text form in which a checkpoint carries its signatures.
//!
//! ```text
//! text, each line ending in LF
//! (empty line)
//! — <key name> base64(4-octet key id || signature)
//! ```
//!
//! A key id is `SHA-256(name || 0x0A || type || public key)[:4]`. Three types are known here: `0x01`,
//! Ed25519 over the text; `0x04`, a witness's timestamped Ed25519 cosignature (C2SP tlog-cosignature); and
//! `0x05`, the RFC 6962 signed tree head that a P-256 key makes, whose public key in the id is the log id
//! (SHA-256 over the SPKI) and whose signature octets are a timestamp and a DigitallySigned (C2SP
//! static-ct-api). Parsing verifies nothing.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ED25519, UnparsedPublicKey};
use base64ct::{Base64, Encoding};

use super::tree::{TreeHead, sha256};
use crate::id::Timestamp;

/// The public half of a note key: a name and a typed public key; prints as a vkey.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifierKey {
    name: String,
    kind: NoteKeyKind,
    spki: Vec<u8>,
    id: [u8; 4],
}

/// What a note key signs with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoteKeyKind {
    /// Type 0x01: Ed25519 over the note's text.
    Ed25519,
    /// Type 0x05: an RFC 6962 signed tree head, ECDSA P-256 with SHA-256.
    TreeHeadP256,
    /// Type 0x04: a cosignature/v1 by a witness, Ed25519 over an instant and the note's text.
    Cosignature,
}

/// The name or the key cannot make a note key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotANoteKey(pub &'static str);

/// Signs checkpoints with a key this room never sees: the issuer's and the ceremony's, on the token.
pub trait NoteSigner: Send + Sync {
    fn verifier_key(&self) -> &VerifierKey;

    /// What the private key makes of `message`: 64 octets of Ed25519, or a DER Ecdsa-Sig-Value.
    fn sign(&self, message: Vec<u8>) -> Result<Vec<u8>, NoteSignError>;

    /// The same of a message that is made when the key is about to sign: what waited for a slow key is not stale then.
    fn sign_at_its_turn(&self, message: LateMessage) -> Result<Vec<u8>, NoteSignError> {
        let message = message().ok_or(NoteSignError::Retry(std::time::Duration::ZERO))?;
        self.sign(message)
    }

    /// The octets of a signature line (without the 4-octet key id) over a checkpoint's text, which states `head`.
    fn sign_checkpoint(
        &self,
        note_text: &[u8],
        head: &TreeHead,
        now: Timestamp,
    ) -> Result<Vec<u8>, NoteSignError> {
        let key = self.verifier_key();
        let signature = self.sign(key.message(note_text, head, now))?;
        Ok(key.signature_octets(&signature, now))
    }
}

/// Makes a message at the last moment; `None`: nobody wants it signed any more.
pub type LateMessage = Box<dyn FnOnce() -> Option<Vec<u8>> + Send>;

/// Why there is no signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoteSignError {
    Retry(std::time::Duration),
    Halt(String),
}

/// A text and who is said to have signed it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    /// What is signed: ends in LF.
    pub text: String,
    pub signatures: Vec<NoteSignature>,
}

/// One signature line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NoteSignature {
    pub name: String,
    pub id: [u8; 4],
    pub octets: Vec<u8>,
}

/// The octets are not a signed note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotANote(pub &'static str);

/// The most octets a note may have here; a checkpoint with a dozen witnesses has 2 KiB. Sixteen signatures must be taken,
/// and post-quantum ones have up to 5,000 octets (C2SP signed-note).
pub const MAX_NOTE: usize = 128 * 1024;
/// The most signature lines a note may have here.
pub const MAX_SIGNATURES: usize = 100;

impl VerifierKey {
    /// From a name and the SubjectPublicKeyInfo of an Ed25519 or a P-256 key (uncompressed point).
    pub fn from_spki(name: &str, spki: &[u8]) -> Result<Self, NotANoteKey> {
        let kind = if is_ed25519(spki) {
            NoteKeyKind::Ed25519
        } else if spki.len() == 91 && spki.starts_with(P256_SPKI) {
            NoteKeyKind::TreeHeadP256
        } else {
            return Err(NotANoteKey("the key is neither Ed25519 nor P-256"));
        };
        Self::typed(name, kind, spki)
    }

    /// A witness's key, from its name and the SubjectPublicKeyInfo of an Ed25519 key that it uses for nothing else.
    pub fn cosigner(name: &str, spki: &[u8]) -> Result<Self, NotANoteKey> {
        if !is_ed25519(spki) {
            return Err(NotANoteKey("a cosignature/v1 needs an Ed25519 key"));
        }
        Self::typed(name, NoteKeyKind::Cosignature, spki)
    }

    fn typed(name: &str, kind: NoteKeyKind, spki: &[u8]) -> Result<Self, NotANoteKey> {
        check_name(name)?;
        let mut preimage = name.as_bytes().to_vec();
        preimage.push(b'\n');
        preimage.push(kind.octet());
        match kind {
            NoteKeyKind::Ed25519 | NoteKeyKind::Cosignature => {
                preimage.extend_from_slice(&spki[ED25519_SPKI.len()..]);
            }
            NoteKeyKind::TreeHeadP256 => preimage.extend_from_slice(&sha256(spki)),
        }
        let hash = sha256(&preimage);
        let id = [hash[0], hash[1], hash[2], hash[3]];
        Ok(Self { name: name.to_owned(), kind, spki: spki.to_vec(), id })
    }

    /// The key's name; for a log, its origin.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it signs with.
    pub fn kind(&self) -> NoteKeyKind {
        self.kind
    }

    /// The first octets of a signature line by this key.
    pub fn id(&self) -> [u8; 4] {
        self.id
    }

    /// The SubjectPublicKeyInfo.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// The octets that the private key signs for a checkpoint: with pure Ed25519, or with ECDSA over
    /// their SHA-256.
    pub fn message(&self, note_text: &[u8], head: &TreeHead, now: Timestamp) -> Vec<u8> {
        match self.kind {
            NoteKeyKind::Ed25519 => note_text.to_vec(),
            NoteKeyKind::TreeHeadP256 => {
                // RFC 6962 section 3.5: version v1, signature_type tree_hash, timestamp, size, root.
                let mut message = vec![0, 1];
                message.extend_from_slice(&now.0.to_be_bytes());
                message.extend_from_slice(&head.size.to_be_bytes());
                message.extend_from_slice(&head.root);
                message
            }
            NoteKeyKind::Cosignature => {
                let mut message =
                    format!("cosignature/v1\ntime {}\n", now.unix_seconds()).into_bytes();
                message.extend_from_slice(note_text);
                message
            }
        }
    }

    /// Wraps what the private key made of `message` (64 octets of Ed25519, or a DER Ecdsa-Sig-Value)
    /// into the octets of a signature line. `now` must be the one given to `message`.
    pub fn signature_octets(&self, signature: &[u8], now: Timestamp) -> Vec<u8> {
        match self.kind {
            NoteKeyKind::Ed25519 => signature.to_vec(),
            NoteKeyKind::TreeHeadP256 => {
                let mut octets = now.0.to_be_bytes().to_vec();
                octets.extend_from_slice(&[SHA256_ID, ECDSA_ID]);
                octets.extend_from_slice(
                    &u16::try_from(signature.len()).unwrap_or(u16::MAX).to_be_bytes(),
                );
                octets.extend_from_slice(signature);
                octets
            }
            NoteKeyKind::Cosignature => [&now.unix_seconds().to_be_bytes()[..], signature].concat(),
        }
    }

    /// The instant that the octets of a cosignature state, to the second. `None`: this is no cosigner's key, or
    /// they state none.
    pub fn cosigned_at(&self, octets: &[u8]) -> Option<Timestamp> {
        let (seconds, _) = octets.split_first_chunk::<8>()?;
        let seconds = u64::from_be_bytes(*seconds);
        // Beyond 2^63 - 1 it is none (C2SP tlog-cosignature); beyond year 9999 nothing here can show it.
        let stated = (1..=253_402_300_799).contains(&seconds);
        (self.kind == NoteKeyKind::Cosignature && stated)
            .then(|| Timestamp::from_unix_seconds(seconds))
    }

    /// Verifies the octets of a signature line over a checkpoint. `head` is what `note_text` states.
    pub fn verify(&self, note_text: &[u8], head: &TreeHead, octets: &[u8]) -> bool {
        match self.kind {
            NoteKeyKind::Ed25519 => {
                UnparsedPublicKey::new(&ED25519, &self.spki[ED25519_SPKI.len()..])
                    .verify(note_text, octets)
                    .is_ok()
            }
            NoteKeyKind::TreeHeadP256 => {
                let Some((timestamp, rest)) = octets.split_first_chunk::<8>() else { return false };
                let Some(([SHA256_ID, ECDSA_ID, high, low], signature)) =
                    rest.split_first_chunk::<4>()
                else {
                    return false;
                };
                if usize::from(u16::from_be_bytes([*high, *low])) != signature.len() {
                    return false;
                }
                let at = Timestamp(u64::from_be_bytes(*timestamp));
                let point = &self.spki[P256_SPKI.len() - 1..];
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point)
                    .verify(&self.message(note_text, head, at), signature)
                    .is_ok()
            }
            NoteKeyKind::Cosignature => {
                let Some(at) = self.cosigned_at(octets) else { return false };
                UnparsedPublicKey::new(&ED25519, &self.spki[ED25519_SPKI.len()..])
                    .verify(&self.message(note_text, head, at), &octets[8..])
                    .is_ok()
            }
        }
    }
}

impl VerifierKey {
    /// Verifies what the private key made of `text` itself, which is no checkpoint: 64 octets of Ed25519, or a DER
    /// Ecdsa-Sig-Value over its SHA-256.
    pub fn verify_text(&self, text: &[u8], signature: &[u8]) -> bool {
        let verified = match self.kind {
            NoteKeyKind::Ed25519 | NoteKeyKind::Cosignature => {
                UnparsedPublicKey::new(&ED25519, &self.spki[ED25519_SPKI.len()..])
                    .verify(text, signature)
            }
            NoteKeyKind::TreeHeadP256 => {
                let point = &self.spki[P256_SPKI.len() - 1..];
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point).verify(text, signature)
            }
        };
        verified.is_ok()
    }
}

impl NoteKeyKind {
    fn octet(self) -> u8 {
        match self {
            Self::Ed25519 => 0x01,
            Self::TreeHeadP256 => 0x05,
            Self::Cosignature => 0x04,
        }
    }
}

impl fmt::Display for VerifierKey {
    /// A vkey: `name+hex(id)+base64(type || key)`; for type 0x05 the key is the SPKI.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut typed = vec![self.kind.octet()];
        typed.extend_from_slice(match self.kind {
            NoteKeyKind::Ed25519 | NoteKeyKind::Cosignature => &self.spki[ED25519_SPKI.len()..],
            NoteKeyKind::TreeHeadP256 => &self.spki,
        });
        write!(
            f,
            "{}+{:08x}+{}",
            self.name,
            u32::from_be_bytes(self.id),
            Base64::encode_string(&typed)
        )
    }
}

impl FromStr for VerifierKey {
    type Err = NotANoteKey;

    /// Parses what `Display` prints; the id must be the key's own.
    fn from_str(vkey: &str) -> Result<Self, NotANoteKey> {
        // Base64 may contain `+`: only the first two separate.
        let mut parts = vkey.splitn(3, '+');
        let (Some(name), Some(id), Some(typed)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NotANoteKey("a vkey has the form name+id+key"));
        };
        let typed = Base64::decode_vec(typed).map_err(|_| NotANoteKey("the key is no base64"))?;
        let key = match typed.split_first() {
            Some((0x01, raw)) => Self::from_spki(name, &[ED25519_SPKI, raw].concat())?,
            Some((0x04, raw)) => Self::cosigner(name, &[ED25519_SPKI, raw].concat())?,
            Some((0x05, spki)) => Self::from_spki(name, spki)?,
            _ => return Err(NotANoteKey("the key's type is none of 1, 4 and 5")),
        };
        if key.to_string() == vkey && format!("{:08x}", u32::from_be_bytes(key.id)) == id {
            Ok(key)
        } else {
            Err(NotANoteKey("the key id is not this key's"))
        }
    }
}

impl Note {
    /// Parses; verifies no signature. Bounded in octets and lines; control characters but LF are refused.
    pub fn parse(bytes: &[u8]) -> Result<Self, NotANote> {
        if bytes.len() > MAX_NOTE {
            return Err(NotANote("too long"));
        }
        let note = std::str::from_utf8(bytes).map_err(|_| NotANote("not UTF-8"))?;
        if note.bytes().any(|b| b < 0x20 && b != b'\n') {
            return Err(NotANote("a control character"));
        }
        // The signatures begin after the last empty line: the text may hold empty lines itself.
        let blank = note.rfind("\n\n").ok_or(NotANote("no empty line before the signatures"))?;
        let (text, lines) = (&note[..=blank], &note[blank + 2..]);
        let lines = lines.strip_suffix('\n').ok_or(NotANote("the last line does not end in LF"))?;
        let mut signatures = Vec::new();
        for line in lines.split('\n') {
            if signatures.len() == MAX_SIGNATURES {
                return Err(NotANote("too many signatures"));
            }
            signatures.push(NoteSignature::parse(line)?);
        }
        Ok(Self { text: text.to_owned(), signatures })
    }

    /// The signature octets of the lines that name this key.
    pub fn by<'a>(&'a self, key: &'a VerifierKey) -> impl Iterator<Item = &'a [u8]> {
        self.signatures
            .iter()
            .filter(|s| s.name == key.name && s.id == key.id)
            .map(|s| s.octets.as_slice())
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        for signature in &self.signatures {
            writeln!(f, "{signature}")?;
        }
        Ok(())
    }
}

impl fmt::Display for NoteSignature {
    /// The line, without its line feed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let octets = [&self.id, self.octets.as_slice()].concat();
        write!(f, "\u{2014} {} {}", self.name, Base64::encode_string(&octets))
    }
}

impl NoteSignature {
    /// Parses one line, without its line feed.
    pub fn parse(line: &str) -> Result<Self, NotANote> {
        let malformed = NotANote("a signature line is malformed");
        let rest = line.strip_prefix("\u{2014} ").ok_or_else(|| malformed.clone())?;
        let (name, base64) = rest.split_once(' ').ok_or_else(|| malformed.clone())?;
        check_name(name).map_err(|_| malformed.clone())?;
        let octets = Base64::decode_vec(base64).map_err(|_| malformed.clone())?;
        match octets.split_first_chunk::<4>() {
            Some((id, rest)) if !rest.is_empty() => {
                Ok(Self { name: name.to_owned(), id: *id, octets: rest.to_vec() })
            }
            _ => Err(malformed),
        }
    }
}

fn is_ed25519(spki: &[u8]) -> bool {
    spki.len() == 44 && spki.starts_with(ED25519_SPKI)
}

fn check_name(name: &str) -> Result<(), NotANoteKey> {
    if name.is_empty()
        || name.len() > 255
        || name.chars().any(|c| c == '+' || c.is_whitespace() || c.is_control())
    {
        return Err(NotANoteKey("a key name is 1 to 255 octets without spaces and plus signs"));
    }
    Ok(())
}

impl fmt::Display for NotANoteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Display for NotANote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a signed note: {}", self.0)
    }
}

impl std::error::Error for NotANoteKey {}
impl std::error::Error for NotANote {}

/// RFC 8410: everything of the SPKI before the 32 octets of the key.
const ED25519_SPKI: &[u8] =
    &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// RFC 5480: everything of a P-256 SPKI before the coordinates, with the mark of an uncompressed point.
const P256_SPKI: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
];
/// RFC 5246 section 7.4.1.4.1: HashAlgorithm sha256, SignatureAlgorithm ecdsa.
const SHA256_ID: u8 = 4;
const ECDSA_ID: u8 = 3;

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
    use proptest::prelude::*;

    use super::*;

    const HEAD: TreeHead = TreeHead { size: 3, root: [9; 32] };

    /// The example of Go's note package, the form's first implementation.
    #[test]
    fn golden_note() {
        let vkey = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
        let note = "If you think cryptography is the answer to your problem,\n\
            then you don't know what your problem is.\n\n\
            — PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
        let key: VerifierKey = vkey.parse().unwrap();
        assert_eq!(key.to_string(), vkey);
        let parsed = Note::parse(note.as_bytes()).unwrap();
        assert_eq!(parsed.to_string(), note);
        let octets = parsed.by(&key).next().unwrap();
        assert!(key.verify(parsed.text.as_bytes(), &HEAD, octets));
        assert!(!key.verify(b"another text\n", &HEAD, octets));
    }

    #[test]
    fn a_p256_key_signs_tree_heads() {
        let rng = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &rng).unwrap();
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref()).unwrap();
        let spki = [&P256_SPKI[..26], pair.public_key().as_ref()].concat();
        let key = VerifierKey::from_spki("ca.lan/log", &spki).unwrap();
        assert_eq!(key.to_string().parse(), Ok(key.clone()));
        let now = Timestamp(1_795_305_600_123);
        let message = key.message(b"text\n", &HEAD, now);
        assert_eq!(message.len(), 2 + 8 + 8 + 32);
        let octets = key.signature_octets(pair.sign(&rng, &message).unwrap().as_ref(), now);
        assert!(key.verify(b"text\n", &HEAD, &octets));
        assert!(!key.verify(b"text\n", &TreeHead { size: 4, ..HEAD }, &octets));
        for cut in 0..octets.len() {
            assert!(!key.verify(b"text\n", &HEAD, &octets[..cut]));
        }
        let mut later = octets;
        later[7] ^= 1;
        assert!(!key.verify(b"text\n", &HEAD, &later));
    }

    /// The example of C2SP tlog-cosignature: its cosignature verifies under no key that is published, but its
    /// timestamp and its form are readable; and what a key of ours makes verifies, and nothing near it.
    #[test]
    fn a_cosignature_states_its_instant_and_covers_it() {
        use aws_lc_rs::signature::Ed25519KeyPair;
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let spki = [ED25519_SPKI, pair.public_key().as_ref()].concat();
        let witness = VerifierKey::cosigner("witness.example/w1", &spki).unwrap();
        assert_eq!(witness.to_string().parse(), Ok(witness.clone()));
        let log = VerifierKey::from_spki("witness.example/w1", &spki).unwrap();
        assert_ne!(witness.id(), log.id(), "one key of two types has two ids");
        let now = Timestamp(1_679_315_147_999);
        let text =
            "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
        let message = witness.message(text.as_bytes(), &HEAD, now);
        assert_eq!(message, format!("cosignature/v1\ntime 1679315147\n{text}").into_bytes());
        let octets = witness.signature_octets(pair.sign(&message).as_ref(), now);
        assert_eq!(octets.len(), 8 + 64);
        assert_eq!(witness.cosigned_at(&octets), Some(Timestamp(1_679_315_147_000)));
        assert!(witness.verify(text.as_bytes(), &HEAD, &octets));
        assert!(!log.verify(text.as_bytes(), &HEAD, &octets));
        assert!(!log.verify(text.as_bytes(), &HEAD, &octets[8..]));
        for bit in 0..octets.len() * 8 {
            let mut other = octets.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(!witness.verify(text.as_bytes(), &HEAD, &other), "bit {bit}");
        }
        let line = "\u{2014} witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==";
        let parsed = NoteSignature::parse(line).unwrap();
        assert_eq!(parsed.to_string(), line);
        assert_eq!(witness.cosigned_at(&parsed.octets), Some(Timestamp(1_679_315_147_000)));
        assert!(VerifierKey::cosigner("w", &[0x30; 91]).is_err());
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for vkey in [
            "",
            "PeterNeumann",
            "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "PeterNeumann+C74F20A3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "Peter Neumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "PeterNeumann+c74f20a3+AhpcQg==",
        ] {
            assert!(vkey.parse::<VerifierKey>().is_err(), "{vkey}");
        }
        assert!(VerifierKey::from_spki("a", &[0x30; 44]).is_err());
    }

    #[test]
    fn what_is_no_note_is_refused() {
        let good = "a\n\n\u{2014} n AAAAAAE=\n";
        assert!(Note::parse(good.as_bytes()).is_ok());
        for (bad, why) in [
            ("a\n\u{2014} n AAAAAAE=\n", "no empty line"),
            ("a\n\n", "no signature"),
            ("a\n\n\u{2014} n AAAAAAE=", "no line feed at the end"),
            ("a\r\n\n\u{2014} n AAAAAAE=\n", "control character"),
            ("a\n\n- n AAAAAAE=\n", "hyphen"),
            ("a\n\n\u{2014} n+m AAAAAAE=\n", "plus in the name"),
            ("a\n\n\u{2014} n AAAAAA==\n", "id without signature"),
            ("a\n\n\u{2014} n AAAAAAE\n", "no padding"),
            ("a\n\n\u{2014} n AAAAAAE= \n", "space at the end"),
        ] {
            assert!(Note::parse(bad.as_bytes()).is_err(), "{why}");
        }
        let large = NoteSignature { name: "n".into(), id: [0; 4], octets: vec![1; 5_000] };
        let large = Note { text: "a\n".into(), signatures: vec![large; 16] };
        assert_eq!(Note::parse(large.to_string().as_bytes()), Ok(large), "C2SP: at least sixteen");
        let many = format!("a\n\n{}", "\u{2014} n AAAAAAE=\n".repeat(MAX_SIGNATURES + 1));
        assert!(Note::parse(many.as_bytes()).is_err());
        assert!(Note::parse(&vec![b'a'; MAX_NOTE + 1]).is_err());
    }

    proptest! {
        #[test]
        fn what_parses_prints_the_same(text in "[a-z\n]{0,20}\n\n(\u{2014} [a-z]{1,3} [A-Za-z0-9+/]{8}\n){0,3}") {
            if let Ok(note) = Note::parse(text.as_bytes()) {
                prop_assert_eq!(note.to_string(), text);
            }
        }
    }
}
