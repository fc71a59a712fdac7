//! PKCS#10 requests (RFC 2986): the key and the names they ask for, and nothing else of them.

use std::collections::BTreeSet;

use super::key::PublicKey;
use super::name::Identifier;

/// A request whose self-signature verified over its original bytes.
#[derive(Clone, Debug)]
pub struct Csr {
    key: PublicKey,
    identifiers: BTreeSet<Identifier>,
}

/// Why a CSR is refused; `Display` is fit for a `badCSR` problem document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CsrError {
    TooLarge,
    Malformed(&'static str),
    Key(super::key::NotAKey),
    WeakKey(super::key::WeakKey),
    Signature,
    Name(String),
    CommonNameNotInSan,
    AsksForCa,
}

impl Csr {
    /// At most this many octets of DER.
    pub const MAX_DER: usize = 16 * 1024;
    /// Parses, verifies the signature (SHA-2 family only), checks key strength, collects SAN ∪ CN.
    pub fn parse(der: &[u8]) -> Result<Self, CsrError> {
        todo!()
    }
    /// The key to certify.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }
    /// DNS names and addresses of the SAN, and of a CN that repeats one.
    pub fn identifiers(&self) -> &BTreeSet<Identifier> {
        &self.identifiers
    }
}
