//! age, format v1 (C2SP age), with X25519 recipients and nothing else: files that `age` reads, and the other way round.
//!
//! Not the `age` crate: that brings ninety others, a second software cryptography among them, and this box has one.
//!
//! ```text
//! age-encryption.org/v1
//! -> X25519 <ephemeral share>
//! <file key, wrapped>                        one stanza for each recipient
//! --- <HMAC-SHA-256 over all before, under a key made of the file key>
//! <16 octets nonce> <ChaCha20-Poly1305 chunks of 64 KiB, the last one marked>
//! ```

mod bech32;

use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey, X25519};
use aws_lc_rs::{hkdf, hmac};
use base64ct::{Base64Unpadded, Encoding};
use zeroize::Zeroizing;

use crate::env::Rng;

/// Whom an archive is encrypted to: `age1…`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recipient([u8; 32]);

/// What opens it: `AGE-SECRET-KEY-1…`. Redacted in `Debug`, wiped when dropped.
pub struct Identity {
    secret: Zeroizing<[u8; 32]>,
    public: [u8; 32],
}

/// Why a file is not opened.
#[derive(Debug)]
pub enum AgeError {
    /// None of the identities is a recipient of it.
    NotForUs,
    /// It is no age file of this kind, or was changed or cut.
    Broken(&'static str),
    Io(io::Error),
}

impl FromStr for Recipient {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match bech32::decode(text) {
            Some((prefix, key)) if prefix == "age" && text.starts_with("age1") => Ok(Self(*key)),
            _ => Err("no X25519 recipient of age: `age1` and 58 letters and digits"),
        }
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&bech32::encode("age", &self.0))
    }
}

impl Identity {
    /// The first identity in a file as `age-keygen` writes it: lines that begin with `#` are comments.
    pub fn read(text: &str) -> Result<Self, &'static str> {
        let mut lines =
            text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.next().ok_or("no identity in it")?.parse()
    }

    /// Whom it is.
    pub fn recipient(&self) -> Recipient {
        Recipient(self.public)
    }
}

impl FromStr for Identity {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "no X25519 identity of age: `AGE-SECRET-KEY-1` and 58 letters and digits";
        let (prefix, secret) = bech32::decode(text).ok_or(wrong)?;
        if prefix != "age-secret-key-" {
            return Err(wrong);
        }
        let public = public_of(&secret).ok_or(wrong)?;
        Ok(Self { secret, public })
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({}, ..)", self.recipient())
    }
}

fn public_of(secret: &[u8; 32]) -> Option<[u8; 32]> {
    let key = PrivateKey::from_private_key(&X25519, secret).ok()?;
    key.compute_public_key().ok()?.as_ref().try_into().ok()
}

/// Encrypts what is written to it. Without [`Sealer::finish`] the file is cut, and nobody takes it for whole.
pub struct Sealer<W: Write> {
    to: W,
    key: LessSafeKey,
    counter: u64,
    chunk: Vec<u8>,
}

impl<W: Write> Sealer<W> {
    /// Writes the header. At least one recipient.
    pub fn new(mut to: W, recipients: &[Recipient], rng: &dyn Rng) -> io::Result<Self> {
        if recipients.is_empty() || recipients.len() > MOST_STANZAS {
            return Err(io::Error::other("no recipient, or too many"));
        }
        let mut file_key = Zeroizing::new([0; 16]);
        rng.fill(&mut *file_key);
        let mut header = format!("{VERSION}\n");
        for recipient in recipients {
            let mut secret = Zeroizing::new([0; 32]);
            rng.fill(&mut *secret);
            let (share, wrapped) = wrap(&secret, recipient, &file_key)
                .ok_or_else(|| io::Error::other("the recipient's key is no point to agree with"))?;
            header.push_str(&format!(
                "-> X25519 {}\n{}\n",
                Base64Unpadded::encode_string(&share),
                Base64Unpadded::encode_string(&wrapped)
            ));
        }
        header.push_str("---");
        let mac = header_mac(&file_key, header.as_bytes());
        header.push_str(&format!(" {}\n", Base64Unpadded::encode_string(mac.as_ref())));
        let mut nonce = [0; 16];
        rng.fill(&mut nonce);
        to.write_all(header.as_bytes())?;
        to.write_all(&nonce)?;
        let key = payload_key(&file_key, &nonce).ok_or_else(|| io::Error::other("no key"))?;
        Ok(Self { to, key, counter: 0, chunk: Vec::with_capacity(CHUNK + TAG) })
    }

    /// Writes the last chunk, and hands back what was written to.
    pub fn finish(mut self) -> io::Result<W> {
        self.seal(true)?;
        self.to.flush()?;
        Ok(self.to)
    }

    fn seal(&mut self, last: bool) -> io::Result<()> {
        let nonce = nonce_of(self.counter, last);
        self.key
            .seal_in_place_append_tag(nonce, Aad::empty(), &mut self.chunk)
            .map_err(|_| io::Error::other("a chunk cannot be sealed"))?;
        self.to.write_all(&self.chunk)?;
        self.counter += 1;
        self.chunk.clear();
        Ok(())
    }
}

impl<W: Write> Write for Sealer<W> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        // A full chunk waits until it is known that it is not the last.
        if self.chunk.len() == CHUNK && !octets.is_empty() {
            self.seal(false)?;
        }
        let taken = octets.len().min(CHUNK - self.chunk.len());
        self.chunk.extend_from_slice(&octets[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Decrypts what is read from it. What it gives was authenticated; that nothing is missing is known at its end.
pub struct Opener<R: Read> {
    from: R,
    key: LessSafeKey,
    counter: u64,
    /// Ciphertext that was read ahead: one octet tells whether there is another chunk.
    ahead: Option<u8>,
    chunk: Vec<u8>,
    at: usize,
    ended: bool,
}

impl<R: Read> Opener<R> {
    /// Reads the header and unwraps the file key with the first identity that fits.
    pub fn new(mut from: R, identities: &[Identity]) -> Result<Self, AgeError> {
        let header = Header::read(&mut from)?;
        let mut nonce = [0; 16];
        from.read_exact(&mut nonce).map_err(short)?;
        let file_key = header.unwrap(identities)?;
        let expected = hmac::Key::new(hmac::HMAC_SHA256, &*header_key(&file_key));
        hmac::verify(&expected, &header.authenticated, &header.mac)
            .map_err(|_| AgeError::Broken("its header was changed"))?;
        let key = payload_key(&file_key, &nonce).ok_or(AgeError::Broken("no key"))?;
        Ok(Self { from, key, counter: 0, ahead: None, chunk: Vec::new(), at: 0, ended: false })
    }

    fn next_chunk(&mut self) -> io::Result<()> {
        let broken = |why| io::Error::new(io::ErrorKind::InvalidData, why);
        let mut sealed = Vec::with_capacity(CHUNK + TAG + 1);
        sealed.extend(self.ahead.take());
        let wanted = (CHUNK + TAG + 1 - sealed.len()) as u64;
        (&mut self.from).take(wanted).read_to_end(&mut sealed)?;
        let last = sealed.len() <= CHUNK + TAG;
        if !last {
            self.ahead = sealed.pop();
        }
        let nonce = nonce_of(self.counter, last);
        let length = self
            .key
            .open_in_place(nonce, Aad::empty(), &mut sealed)
            .map_err(|_| broken("it was changed or cut"))?
            .len();
        if length == 0 && self.counter > 0 {
            return Err(broken("its last chunk is empty"));
        }
        sealed.truncate(length);
        (self.chunk, self.at, self.ended) = (sealed, 0, last);
        self.counter += 1;
        Ok(())
    }
}

impl<R: Read> Read for Opener<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.chunk.len() {
            if self.ended {
                return Ok(0);
            }
            self.next_chunk()?;
        }
        let taken = buffer.len().min(self.chunk.len() - self.at);
        buffer[..taken].copy_from_slice(&self.chunk[self.at..self.at + taken]);
        self.at += taken;
        Ok(taken)
    }
}

struct Header {
    /// Share and wrapped key of each X25519 stanza.
    stanzas: Vec<([u8; 32], [u8; 32])>,
    authenticated: Vec<u8>,
    mac: [u8; 32],
}

impl Header {
    fn read(from: &mut impl Read) -> Result<Self, AgeError> {
        let mut authenticated = Vec::new();
        let mut line = read_line(from, &mut authenticated)?;
        if line != VERSION {
            return Err(AgeError::Broken("it is no age file of version 1"));
        }
        let mut stanzas = Vec::new();
        loop {
            line = read_line(from, &mut authenticated)?;
            if let Some(mac) = line.strip_prefix("--- ") {
                let mac = fixed(mac).ok_or(AgeError::Broken("its header ends wrongly"))?;
                authenticated.truncate(authenticated.len() - line.len() - 1 + "---".len());
                return Ok(Self { stanzas, authenticated, mac });
            }
            let arguments = line.strip_prefix("-> ").ok_or(AgeError::Broken("no stanza"))?;
            if stanzas.len() == MOST_STANZAS {
                return Err(AgeError::Broken("it has too many recipients"));
            }
            let share = arguments.strip_prefix("X25519 ").and_then(fixed);
            let body = read_line(from, &mut authenticated)?;
            match (share, fixed(&body)) {
                (Some(share), Some(wrapped)) => stanzas.push((share, wrapped)),
                _ => return Err(AgeError::Broken("a recipient of it is not X25519")),
            }
        }
    }

    fn unwrap(&self, identities: &[Identity]) -> Result<Zeroizing<[u8; 16]>, AgeError> {
        for (share, wrapped) in &self.stanzas {
            for identity in identities {
                if let Some(key) = unwrap(identity, share, wrapped) {
                    return Ok(key);
                }
            }
        }
        Err(AgeError::NotForUs)
    }
}

/// One line without its end; what was read is added to `all`.
fn read_line(from: &mut impl Read, all: &mut Vec<u8>) -> Result<String, AgeError> {
    let begin = all.len();
    loop {
        let mut octet = [0];
        from.read_exact(&mut octet).map_err(short)?;
        all.push(octet[0]);
        if octet[0] == b'\n' {
            break;
        }
        if all.len() - begin > MOST_LINE {
            return Err(AgeError::Broken("a line of its header is too long"));
        }
    }
    let line = &all[begin..all.len() - 1];
    String::from_utf8(line.to_vec()).map_err(|_| AgeError::Broken("its header is no text"))
}

fn short(error: io::Error) -> AgeError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => AgeError::Broken("it was cut"),
        _ => AgeError::Io(error),
    }
}

/// 32 octets in base64 without padding, one spelling only.
fn fixed(text: &str) -> Option<[u8; 32]> {
    let mut octets = [0; 32];
    let length = Base64Unpadded::decode(text, &mut octets).ok()?.len();
    (length == 32).then_some(octets)
}

/// The ephemeral share, and the file key wrapped for one recipient.
fn wrap(
    secret: &[u8; 32],
    recipient: &Recipient,
    file_key: &[u8; 16],
) -> Option<([u8; 32], [u8; 32])> {
    let share = public_of(secret)?;
    let key = wrapping_key(secret, &recipient.0, &share, &recipient.0)?;
    let mut wrapped = file_key.to_vec();
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key([0; 12]), Aad::empty(), &mut wrapped)
        .ok()?;
    Some((share, wrapped.try_into().ok()?))
}

fn unwrap(
    identity: &Identity,
    share: &[u8; 32],
    wrapped: &[u8; 32],
) -> Option<Zeroizing<[u8; 16]>> {
    let key = wrapping_key(&identity.secret, share, share, &identity.public)?;
    let mut opened = Zeroizing::new(*wrapped);
    let nonce = Nonce::assume_unique_for_key([0; 12]);
    let file_key: [u8; 16] =
        (&*key.open_in_place(nonce, Aad::empty(), &mut *opened).ok()?).try_into().ok()?;
    Some(Zeroizing::new(file_key))
}

fn wrapping_key(
    secret: &[u8; 32],
    peer: &[u8; 32],
    share: &[u8; 32],
    recipient: &[u8; 32],
) -> Option<LessSafeKey> {
    let own = PrivateKey::from_private_key(&X25519, secret).ok()?;
    let salt = [*share, *recipient].concat();
    // An agreement that gives zeros is refused by the library (RFC 7748 section 6.1).
    agreement::agree(&own, UnparsedPublicKey::new(&X25519, peer), (), |shared| {
        expand::<32>(shared, &salt, b"age-encryption.org/v1/X25519").ok_or(())
    })
    .ok()
    .and_then(|key| aead(&key))
}

fn header_key(file_key: &[u8; 16]) -> Zeroizing<[u8; 32]> {
    // Of a fixed length that HKDF gives: it cannot fail.
    expand(file_key, &[], b"header").unwrap_or_default()
}

fn header_mac(file_key: &[u8; 16], header: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &*header_key(file_key)), header)
}

fn payload_key(file_key: &[u8; 16], nonce: &[u8; 16]) -> Option<LessSafeKey> {
    aead(&*expand::<32>(file_key, nonce, b"payload")?)
}

fn aead(key: &[u8; 32]) -> Option<LessSafeKey> {
    UnboundKey::new(&CHACHA20_POLY1305, key).ok().map(LessSafeKey::new)
}

struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

fn expand<const N: usize>(secret: &[u8], salt: &[u8], info: &[u8]) -> Option<Zeroizing<[u8; N]>> {
    let mut out = Zeroizing::new([0; N]);
    let info = [info];
    let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(secret);
    extracted.expand(&info, Length(N)).ok()?.fill(&mut *out).ok()?;
    Some(out)
}

fn nonce_of(counter: u64, last: bool) -> Nonce {
    let mut nonce = [0; 12];
    nonce[3..11].copy_from_slice(&counter.to_be_bytes());
    nonce[11] = u8::from(last);
    Nonce::assume_unique_for_key(nonce)
}

impl fmt::Display for AgeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotForUs => f.write_str("it is encrypted to others than these identities"),
            Self::Broken(why) => f.write_str(why),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for AgeError {}

const VERSION: &str = "age-encryption.org/v1";
const CHUNK: usize = 64 * 1024;
const TAG: usize = 16;
/// Recipients of one file at most.
pub const MOST_STANZAS: usize = 32;
const MOST_LINE: usize = 256;

#[cfg(test)]
mod tests;
