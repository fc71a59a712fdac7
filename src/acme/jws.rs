//! Flattened JWS as ACME uses it (RFC 7515, RFC 8555 section 6.2), in the order of checks the
//! server applies; and JWK with thumbprints (RFC 7517, RFC 7638).
//!
//! Here are the checks that need nothing but the bytes: the serialization, the protected header,
//! algorithm and key, the signature. Method, content type, `url`, nonce and account are the
//! caller's, between `parse` and `verify`.

mod jwk;

use std::borrow::Cow;

use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use base64ct::{Base64UrlUnpadded, Encoding};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

pub(super) use jwk::Members;
pub use jwk::{Jwk, Thumbprint};

use super::json::{self, Object, present};
use super::problem::{Problem, ProblemType};
use crate::pki::key::KeyKind;

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

/// Which key signed: the protected header has exactly one of these.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KeyRef {
    Jwk(Box<Jwk>),
    Kid(String),
}

/// A request that parsed. Its signature is NOT verified until `verify` returns `Ok`; no method
/// but `verify` gives out the payload of a request that is new.
#[derive(Clone, Debug)]
pub struct Jws {
    algorithm: Algorithm,
    key: KeyRef,
    url: String,
    nonce: Option<String>,
    payload: Payload,
    signature: Vec<u8>,
    /// `protected "." payload`, as they arrived.
    signed: String,
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
    /// An accepted algorithm that this key cannot have used: `badSignatureAlgorithm` too.
    Mismatch,
    /// 400 `badPublicKey`; the text is fit for the client.
    PublicKey(String),
    /// The signature does not verify: 403 `unauthorized`.
    Signature,
}

impl Algorithm {
    /// Every accepted `alg` value, for the `algorithms` member of a badSignatureAlgorithm problem.
    /// `Ed25519` (RFC 9864) is accepted as another name of `EdDSA`.
    pub const NAMES: &'static [&'static str] =
        &["ES256", "ES384", "ES512", "EdDSA", "Ed25519", "RS256"];

    /// The algorithm of an `alg` value.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "ES256" => Self::Es256,
            "ES384" => Self::Es384,
            "ES512" => Self::Es512,
            "EdDSA" | "Ed25519" => Self::EdDsa,
            "RS256" => Self::Rs256,
            _ => return None,
        })
    }

    /// Whether a key of this kind can sign with it. Each EC algorithm has one curve (RFC 7518 section 3.4).
    pub fn fits(self, kind: KeyKind) -> bool {
        matches!(
            (self, kind),
            (Self::Es256, KeyKind::EcP256)
                | (Self::Es384, KeyKind::EcP384)
                | (Self::Es512, KeyKind::EcP521)
                | (Self::EdDsa, KeyKind::Ed25519)
                | (Self::Rs256, KeyKind::Rsa(_))
        )
    }

    /// ECDSA signatures of a JWS are r ‖ s of fixed length, never DER.
    fn verification(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::Es256 => &signature::ECDSA_P256_SHA256_FIXED,
            Self::Es384 => &signature::ECDSA_P384_SHA384_FIXED,
            Self::Es512 => &signature::ECDSA_P521_SHA512_FIXED,
            Self::EdDsa => &signature::ED25519,
            Self::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        }
    }
}

impl Jws {
    /// The largest body accepted.
    pub const MAX: usize = 64 * 1024;

    /// Parses a request's body: the flattened serialization of at most `MAX` octets, with a nonce.
    pub fn parse(body: &[u8]) -> Result<Self, JwsError> {
        let jws = Self::parse_any(body)?;
        if jws.nonce.is_none() {
            return Err(JwsError::Malformed("the protected header has no nonce"));
        }
        Ok(jws)
    }

    /// Parses a JWS that is the payload of another, as in a key change (RFC 8555 section 7.3.5): it has
    /// `jwk` and, being covered by the outer nonce, none of its own.
    pub fn parse_inner(body: &[u8]) -> Result<Self, JwsError> {
        let jws = Self::parse_any(body)?;
        if jws.nonce.is_some() {
            return Err(JwsError::Malformed("an inner JWS must not have a nonce"));
        }
        if matches!(jws.key, KeyRef::Kid(_)) {
            return Err(JwsError::Malformed("an inner JWS must name its key by jwk"));
        }
        Ok(jws)
    }

    /// Steps 3 to 5 of the order of checks: serialization, header, algorithm and key.
    fn parse_any(body: &[u8]) -> Result<Self, JwsError> {
        let Flattened { protected, payload, signature } = Flattened::parse(body)?;
        let header = decode(&protected, "protected is not base64url")?;
        let header: Header = json::object(&header)
            .map_err(|_| JwsError::Malformed("the protected header is not a JSON object"))?;
        let payload_octets = decode(&payload, "payload is not base64url")?;
        let signature = decode(&signature, "signature is not base64url")?;

        if header.crit.is_some() || header.b64.is_some() {
            return Err(JwsError::Malformed("crit and b64 are not supported"));
        }
        let alg = header.alg.ok_or(JwsError::Malformed("the protected header has no alg"))?;
        let url = header.url.ok_or(JwsError::Malformed("the protected header has no url"))?;
        if header.jwk.is_some() == header.kid.is_some() {
            return Err(JwsError::Malformed(
                "the protected header needs exactly one of jwk and kid",
            ));
        }
        let algorithm = Algorithm::from_name(&alg).ok_or(JwsError::Algorithm)?;
        let key = match (header.jwk, header.kid) {
            (Some(Object(members)), None) => {
                let jwk = Jwk::from_members(members)?;
                if !algorithm.fits(jwk.public_key().kind()) {
                    return Err(JwsError::Mismatch);
                }
                jwk.check_strength()?;
                KeyRef::Jwk(Box::new(jwk))
            }
            (None, Some(kid)) => KeyRef::Kid(kid),
            _ => return Err(JwsError::Malformed("exactly one of jwk and kid")),
        };
        Ok(Self {
            algorithm,
            key,
            url,
            nonce: header.nonce,
            // The members are compared, not the octets: "" is the one spelling of POST-as-GET.
            payload: if payload.is_empty() {
                Payload::PostAsGet
            } else {
                Payload::Json(payload_octets)
            },
            signature,
            signed: [protected.as_ref(), ".", payload.as_ref()].concat(),
        })
    }

    /// The protected `alg`.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The signer named by the protected header.
    pub fn key(&self) -> &KeyRef {
        &self.key
    }

    /// The protected `url`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The protected `nonce`; absent on inner JWS of key changes and tickets.
    pub fn nonce(&self) -> Option<&str> {
        self.nonce.as_deref()
    }

    /// The payload of a request whose very octets were verified earlier, by whoever stored them or their digest:
    /// the key that signed may have been changed since. For no other request.
    pub fn verified_before(&self) -> &Payload {
        &self.payload
    }

    /// Verifies under `key` and hands out the payload. Whether `key` is the one that `self.key()`
    /// names is the caller's to know.
    pub fn verify(&self, key: &Jwk) -> Result<Payload, JwsError> {
        let public = key.public_key();
        if !self.algorithm.fits(public.kind()) {
            return Err(JwsError::Mismatch);
        }
        UnparsedPublicKey::new(self.algorithm.verification(), public.key_bits())
            .verify(self.signed.as_bytes(), &self.signature)
            .map_err(|_| JwsError::Signature)?;
        Ok(self.payload.clone())
    }
}

impl From<JwsError> for Problem {
    fn from(error: JwsError) -> Self {
        match error {
            JwsError::Malformed(why) => Self::malformed(format!("malformed JWS: {why}")),
            JwsError::Algorithm => Self::new(
                ProblemType::BadSignatureAlgorithm,
                "this signature algorithm is not accepted; use one of algorithms",
            ),
            JwsError::Mismatch => Self::new(
                ProblemType::BadSignatureAlgorithm,
                "alg is not one that this key signs with",
            ),
            JwsError::PublicKey(why) => Self::new(ProblemType::BadPublicKey, why),
            JwsError::Signature => {
                Self::new(ProblemType::Unauthorized, "the JWS signature does not verify")
            }
        }
    }
}

/// The flattened serialization (RFC 7515 section 7.2.2) less what RFC 8555 section 6.2 forbids: an
/// unprotected `header`, `signatures`, and any other member.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Flattened<'a> {
    #[serde(borrow)]
    pub(super) protected: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) payload: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) signature: Cow<'a, str>,
}

impl<'a> Flattened<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, JwsError> {
        if body.len() > Jws::MAX {
            return Err(JwsError::Malformed("longer than this server reads"));
        }
        json::object(body).map_err(|_| {
            JwsError::Malformed(
                "not a flattened JWS: one object with exactly protected, payload and signature",
            )
        })
    }
}

/// Unpadded base64url, one spelling per value.
pub(super) fn decode(text: &str, why: &'static str) -> Result<Vec<u8>, JwsError> {
    Base64UrlUnpadded::decode_vec(text).map_err(|_| JwsError::Malformed(why))
}

/// The protected header. Members not named here are ignored, as RFC 7515 section 4 wants.
#[derive(Deserialize)]
struct Header {
    #[serde(default, deserialize_with = "present")]
    alg: Option<String>,
    #[serde(default, deserialize_with = "present")]
    nonce: Option<String>,
    #[serde(default, deserialize_with = "present")]
    url: Option<String>,
    #[serde(default, deserialize_with = "present")]
    jwk: Option<Object<Members>>,
    #[serde(default, deserialize_with = "present")]
    kid: Option<String>,
    #[serde(default, deserialize_with = "present")]
    crit: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    b64: Option<IgnoredAny>,
}

#[cfg(test)]
mod tests;
