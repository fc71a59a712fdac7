//! Flattened JWS as ACME uses it (RFC 7515, RFC 8555 section 6.2), in the order of checks the
//! server applies; and JWK with thumbprints (RFC 7517, RFC 7638).

use serde::{Deserialize, Serialize};

use crate::pki::key::PublicKey;

/// `alg` values that may sign a request. MAC algorithms and `none` are not among them.
/// Order is stored by postcard: append only.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
pub enum Algorithm {
    Es256,
    Es384,
    Es512,
    EdDsa,
    Rs256,
}

impl Algorithm {
    /// Every accepted `alg` value, for the `algorithms` member of a badSignatureAlgorithm problem.
    /// `Ed25519` (RFC 9864) is accepted as another name of `EdDSA`.
    pub const NAMES: &'static [&'static str] =
        &["ES256", "ES384", "ES512", "EdDSA", "Ed25519", "RS256"];
}

/// An account key: a public JWK, canonical. Serializes (postcard) to its canonical JSON.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Jwk {
    json: String,
    key: PublicKey,
    thumbprint: Thumbprint,
}

/// RFC 7638, SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Thumbprint(pub [u8; 32]);

impl std::fmt::Display for Thumbprint {
    /// Base64url, 43 characters.
    fn fmt(&self, _f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        todo!()
    }
}

impl From<Jwk> for String {
    fn from(jwk: Jwk) -> Self {
        jwk.json
    }
}

impl TryFrom<String> for Jwk {
    type Error = String;
    fn try_from(json: String) -> Result<Self, String> {
        Self::parse(json.as_bytes()).map_err(|e| format!("{e:?}"))
    }
}

impl Jwk {
    /// Parses the JSON of a JWK: exactly a public key; a private member is refused, unknown ones are dropped.
    pub fn parse(json: &[u8]) -> Result<Self, JwsError> {
        todo!()
    }
    /// The required members in lexicographic order, no white space: what the thumbprint hashes.
    pub fn canonical_json(&self) -> &str {
        &self.json
    }
    pub fn thumbprint(&self) -> Thumbprint {
        self.thumbprint
    }
    pub fn public_key(&self) -> &PublicKey {
        &self.key
    }
}

/// Which key signed: the protected header has exactly one of these.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KeyRef {
    Jwk(Box<Jwk>),
    Kid(String),
}

/// A request that parsed. Its signature is NOT verified until `verify` returns `Ok`; no method
/// but `verify` gives out the payload.
#[derive(Clone, Debug)]
pub struct Jws {
    _private: (),
}

/// What the client signed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Payload {
    /// `payload: ""` (RFC 8555 section 6.3).
    PostAsGet,
    /// The decoded octets, JSON or not.
    Json(Vec<u8>),
}

/// Why a JWS is refused, in the order of RFC 8555 section 6.2's checks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum JwsError {
    /// Not the flattened serialization, a forbidden member, bad base64url: `malformed`.
    Malformed(&'static str),
    /// 400 `badSignatureAlgorithm` with `algorithms`.
    Algorithm,
    /// 400 `badPublicKey`.
    PublicKey(String),
    /// The signature does not verify: `unauthorized`... see problem mapping.
    Signature,
}

impl Jws {
    /// Parses the flattened serialization of at most `MAX` octets.
    pub fn parse(body: &[u8]) -> Result<Self, JwsError> {
        todo!()
    }
    /// The largest body accepted.
    pub const MAX: usize = 64 * 1024;
    pub fn algorithm(&self) -> Algorithm {
        todo!()
    }
    /// The signer named by the protected header.
    pub fn key(&self) -> &KeyRef {
        todo!()
    }
    /// The protected `url`.
    pub fn url(&self) -> &str {
        todo!()
    }
    /// The protected `nonce`; absent on inner JWS of key changes and tickets.
    pub fn nonce(&self) -> Option<&str> {
        todo!()
    }
    /// Verifies under `key` and hands out the payload.
    pub fn verify(&self, key: &Jwk) -> Result<Payload, JwsError> {
        todo!()
    }
}
