//! Account keys: public JWKs (RFC 7517, RFC 7518 section 6, RFC 8037) and their thumbprints (RFC 7638).

use std::fmt;

use aws_lc_rs::digest;
use base64ct::{Base64UrlUnpadded, Encoding};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::JwsError;
use crate::acme::json::{self, present};
use crate::pki::key::{KeyKind, PublicKey, WeakKey};

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

impl Jwk {
    /// Parses the JSON of a JWK: exactly a public key; a private member is refused, unknown ones are
    /// dropped. Says nothing about strength: `Jws::parse` and `check_strength` do.
    pub fn parse(json: &[u8]) -> Result<Self, JwsError> {
        let members = json::object(json).map_err(|_| JwsError::Malformed("not a JWK"))?;
        Self::from_members(members)
    }

    /// The JWK of a key that came otherwise, to ask whether a CSR's key is an account's.
    /// `None` if its kind has no JWK here.
    pub fn from_public_key(key: PublicKey) -> Option<Self> {
        let bits = key.key_bits();
        let json = match key.kind() {
            KeyKind::Ed25519 => okp_json(bits),
            KeyKind::EcP256 | KeyKind::EcP384 | KeyKind::EcP521 => {
                let curve = CURVES.iter().find(|curve| curve.kind == key.kind())?;
                let coordinates = bits.strip_prefix(&[4])?;
                if coordinates.len() != 2 * curve.octets {
                    return None;
                }
                let (x, y) = coordinates.split_at(curve.octets);
                ec_json(curve, x, y)
            }
            KeyKind::Rsa(_) => {
                let (n, e) = rsa_components(bits)?;
                rsa_json(n, e)
            }
            KeyKind::MlDsa44 | KeyKind::MlDsa65 | KeyKind::MlDsa87 => return None,
        };
        Some(Self::with_json(json, key))
    }

    /// The required members in lexicographic order, no white space: what the thumbprint hashes.
    pub fn canonical_json(&self) -> &str {
        &self.json
    }

    /// The RFC 7638 thumbprint.
    pub fn thumbprint(&self) -> Thumbprint {
        self.thumbprint
    }

    /// The key itself.
    pub fn public_key(&self) -> &PublicKey {
        &self.key
    }

    /// Refuses a key too weak to sign requests with.
    pub fn check_strength(&self) -> Result<(), JwsError> {
        self.key.check_strength().map_err(|weak| {
            let why = match weak {
                WeakKey::RsaSize => "an RSA modulus must have 2048, 3072 or 4096 bits",
                WeakKey::RsaExponent => "an RSA exponent must be 65537",
                WeakKey::RsaSmallFactor => "the RSA modulus has a small factor",
                WeakKey::RsaClosePrimes => "the RSA primes are too close together",
                WeakKey::RsaRoca => "the RSA key was made by a flawed generator (ROCA)",
                WeakKey::Blocked => "this key is known to be compromised",
            };
            JwsError::PublicKey(why.to_owned())
        })
    }

    pub(in crate::acme) fn from_members(members: Members) -> Result<Self, JwsError> {
        if members.has_private() {
            return Err(refused("the JWK contains a private or symmetric key; that key is burnt"));
        }
        let (json, spki) = match members.kty.as_str() {
            "EC" => {
                let crv = required(members.crv.as_deref())?;
                let curve = CURVES.iter().find(|curve| curve.name == crv).ok_or_else(|| {
                    refused("this crv is not supported; use P-256, P-384 or P-521")
                })?;
                let x = coordinate(members.x.as_deref(), curve.octets)?;
                let y = coordinate(members.y.as_deref(), curve.octets)?;
                let point = [&[4], x.as_slice(), y.as_slice()].concat();
                (ec_json(curve, &x, &y), spki(curve.algorithm, &point))
            }
            "OKP" => {
                if required(members.crv.as_deref())? != "Ed25519" {
                    return Err(refused("this crv is not supported; use Ed25519"));
                }
                let x = coordinate(members.x.as_deref(), 32)?;
                (okp_json(&x), spki(ED25519, &x))
            }
            "RSA" => {
                let n = integer(members.n.as_deref())?;
                let e = integer(members.e.as_deref())?;
                let pair = [der_unsigned(&n), der_unsigned(&e)].concat();
                (rsa_json(&n, &e), spki(RSA, &der(0x30, &pair)))
            }
            _ => return Err(refused("this kty is not supported; use EC, OKP or RSA")),
        };
        let key = PublicKey::from_spki(&spki)
            .map_err(|why| refused(&format!("the JWK is not a usable public key: {}", why.0)))?;
        Ok(Self::with_json(json, key))
    }

    fn with_json(json: String, key: PublicKey) -> Self {
        let hash = digest::digest(&digest::SHA256, json.as_bytes());
        let mut thumbprint = [0; 32];
        thumbprint.copy_from_slice(hash.as_ref());
        Self { json, key, thumbprint: Thumbprint(thumbprint) }
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

impl fmt::Display for Thumbprint {
    /// Base64url, 43 characters.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; 43];
        f.write_str(Base64UrlUnpadded::encode(&self.0, &mut text).map_err(|_| fmt::Error)?)
    }
}

/// The members of a JWK that matter here; any other is ignored.
#[derive(Deserialize)]
pub(in crate::acme) struct Members {
    kty: String,
    #[serde(default, deserialize_with = "present")]
    crv: Option<String>,
    #[serde(default, deserialize_with = "present")]
    x: Option<String>,
    #[serde(default, deserialize_with = "present")]
    y: Option<String>,
    #[serde(default, deserialize_with = "present")]
    n: Option<String>,
    #[serde(default, deserialize_with = "present")]
    e: Option<String>,
    // Private and symmetric members: their presence alone refuses.
    #[serde(default, deserialize_with = "present")]
    d: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    p: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    q: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    dp: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    dq: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    qi: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    oth: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    k: Option<IgnoredAny>,
    #[serde(default, rename = "priv", deserialize_with = "present")]
    seed: Option<IgnoredAny>,
}

impl Members {
    fn has_private(&self) -> bool {
        [&self.d, &self.p, &self.q, &self.dp, &self.dq, &self.qi, &self.oth, &self.k, &self.seed]
            .into_iter()
            .any(Option::is_some)
    }
}

struct Curve {
    name: &'static str,
    kind: KeyKind,
    /// Of one coordinate.
    octets: usize,
    /// The DER AlgorithmIdentifier.
    algorithm: &'static [u8],
}

const CURVES: [Curve; 3] = [
    Curve {
        name: "P-256",
        kind: KeyKind::EcP256,
        octets: 32,
        algorithm:
            b"\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07",
    },
    Curve {
        name: "P-384",
        kind: KeyKind::EcP384,
        octets: 48,
        algorithm: b"\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22",
    },
    Curve {
        name: "P-521",
        kind: KeyKind::EcP521,
        octets: 66,
        algorithm: b"\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x23",
    },
];

/// AlgorithmIdentifier of RFC 8410: no parameters.
const ED25519: &[u8] = b"\x30\x05\x06\x03\x2b\x65\x70";

/// rsaEncryption with NULL parameters.
const RSA: &[u8] = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";

/// An RSA member may not be longer, in octets: twice the largest modulus accepted.
const MAX_INTEGER: usize = 1024;

fn refused(why: &str) -> JwsError {
    JwsError::PublicKey(why.to_owned())
}

fn required(member: Option<&str>) -> Result<&str, JwsError> {
    member.ok_or_else(|| refused("the JWK lacks a member that its kty requires"))
}

fn octets(member: Option<&str>) -> Result<Vec<u8>, JwsError> {
    Base64UrlUnpadded::decode_vec(required(member)?)
        .map_err(|_| refused("a member of the JWK is not base64url"))
}

/// A coordinate keeps its full length, leading zeros included (RFC 7518 section 6.2.1.2).
fn coordinate(member: Option<&str>, length: usize) -> Result<Vec<u8>, JwsError> {
    let octets = octets(member)?;
    if octets.len() != length {
        return Err(refused("a coordinate has not the length of its curve"));
    }
    Ok(octets)
}

/// A Base64urlUInt without its leading zeros, which some clients send and thumbprints must not see.
fn integer(member: Option<&str>) -> Result<Vec<u8>, JwsError> {
    let octets = octets(member)?;
    let first = octets.iter().position(|octet| *octet != 0);
    match first {
        Some(first) if octets.len() <= MAX_INTEGER => Ok(octets[first..].to_vec()),
        _ => Err(refused("an integer of the JWK is zero or too long")),
    }
}

fn base64url(octets: &[u8]) -> String {
    Base64UrlUnpadded::encode_string(octets)
}

// The members are re-encoded from octets, so no JSON can be smuggled into what a thumbprint hashes.

fn ec_json(curve: &Curve, x: &[u8], y: &[u8]) -> String {
    let (name, x, y) = (curve.name, base64url(x), base64url(y));
    format!(r#"{{"crv":"{name}","kty":"EC","x":"{x}","y":"{y}"}}"#)
}

fn okp_json(x: &[u8]) -> String {
    format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, base64url(x))
}

fn rsa_json(n: &[u8], e: &[u8]) -> String {
    format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, base64url(e), base64url(n))
}

/// SubjectPublicKeyInfo.
fn spki(algorithm: &[u8], bits: &[u8]) -> Vec<u8> {
    let bits = der(0x03, &[&[0], bits].concat());
    der(0x30, &[algorithm, &bits].concat())
}

/// One DER value; everything here is far below 64 KiB.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let [high, low] = u16::try_from(content.len()).unwrap_or(u16::MAX).to_be_bytes();
    match (high, low) {
        (0, 0..0x80) => out.push(low),
        (0, _) => out.extend([0x81, low]),
        _ => out.extend([0x82, high, low]),
    }
    out.extend_from_slice(content);
    out
}

/// A positive INTEGER from its magnitude without leading zeros.
fn der_unsigned(magnitude: &[u8]) -> Vec<u8> {
    let sign: &[u8] =
        if magnitude.first().is_some_and(|octet| *octet >= 0x80) { &[0] } else { &[] };
    der(0x02, &[sign, magnitude].concat())
}

/// Modulus and exponent of an RSAPublicKey, without leading zeros.
fn rsa_components(bits: &[u8]) -> Option<(&[u8], &[u8])> {
    use der::{Decode, Reader, SliceReader, asn1::AnyRef, asn1::UintRef};
    let any = AnyRef::from_der(bits).ok()?;
    let mut reader = SliceReader::new(any.value()).ok()?;
    let n = UintRef::decode(&mut reader).ok()?;
    let e = UintRef::decode(&mut reader).ok()?;
    reader.is_finished().then_some((n.as_bytes(), e.as_bytes()))
}
