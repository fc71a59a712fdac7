//! What a ceremony fixed for good: the certificates, the keys by name and public key, the log's origin
//! and the URLs that certificates carry. Written by `ceremony` as `ca/authority.json`, read by `config`.

use base64ct::{Base64, Encoding};
use serde::{Deserialize, Serialize};

use super::key::{PublicKey, SignatureAlgorithm};
use super::uri::Pkcs11Uri;

/// A key on a token and what it must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRecord {
    /// RFC 7512 URI with token label, serial and CKA_ID; never a PIN.
    pub uri: String,
    /// SubjectPublicKeyInfo, base64.
    pub spki: String,
    /// What an RSA key signs with, where the ceremony chose: one of [`SignatureAlgorithm::CHOICES`]. A program that
    /// does not know of it refuses the file, and would sign otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
}

impl KeyRecord {
    /// The record of a key at `uri`, with what it signs with.
    pub fn new(uri: &Pkcs11Uri, key: &PublicKey) -> Self {
        let chosen = key.preferred_algorithm();
        let usual = chosen == key.kind().usual_algorithm();
        let signature = if usual { None } else { chosen.choice_name() };
        Self {
            uri: uri.to_string(),
            spki: Base64::encode_string(key.spki()),
            signature: signature.map(str::to_owned),
        }
    }

    /// The public key, which signs as recorded; or what of the record makes no sense.
    pub fn public_key(&self) -> Result<PublicKey, &'static str> {
        let spki = Base64::decode_vec(&self.spki).map_err(|_| "its spki is not base64")?;
        let key = PublicKey::from_spki(&spki).map_err(|why| why.0)?;
        match &self.signature {
            None => Ok(key),
            Some(name) => SignatureAlgorithm::choice(name)
                .and_then(|algorithm| key.signing_with(algorithm))
                .ok_or("its signature algorithm is none of this key"),
        }
    }
}

/// The file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Authority {
    /// Version of this format: 1, or 2 where the log key was rotated.
    pub version: u32,
    /// The log's origin: a schema-less URL.
    pub origin: String,
    /// `http://` URL of the issuing certificate in DER.
    pub aia_url: String,
    /// `http://` URL of the issuing CA's CRL.
    pub crl_url: String,
    /// `http://` URL of the root's CRL.
    pub root_crl_url: String,
    /// PEM.
    pub root: String,
    /// PEM; absent between the export of a request and the import of its certificate.
    pub issuing: Option<String>,
    /// Absent where the root key lives elsewhere.
    pub root_key: Option<KeyRecord>,
    pub issuing_key: KeyRecord,
    /// The key the log began with.
    pub log_key: KeyRecord,
    pub tls_key: KeyRecord,
    /// SHA-256 over the transcript, hex.
    pub transcript_sha256: String,
    /// What this box cosigns other logs with, once a ceremony has made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub witness: Option<WitnessRecord>,
    /// What became of the log key, oldest first. A program that does not know of it would sign with the wrong key, so
    /// it is part of version 2.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log_key_rotations: Vec<LogKeyRotation>,
}

/// A witness's key and its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WitnessRecord {
    /// A schema-less URL, for good: it is in every cosignature.
    pub name: String,
    pub key: KeyRecord,
}

/// A log key that took over from the one before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogKeyRotation {
    pub key: KeyRecord,
    /// What the former key and the new one make of the statement that names both, base64.
    pub endorsement: String,
    pub possession: String,
    /// For how long both sign.
    pub cross_over_days: u32,
    /// SHA-256 over the transcript of its ceremony, hex.
    pub transcript_sha256: String,
    /// The former key signs no more, and need not be on the token.
    pub former_done: bool,
}

impl Authority {
    /// Every key that it names.
    pub fn keys(&self) -> impl Iterator<Item = &KeyRecord> {
        let witness = self.witness.as_ref().map(|witness| &witness.key);
        let others = [&self.issuing_key, &self.tls_key];
        self.root_key.iter().chain(others).chain(self.log_keys()).chain(witness)
    }

    /// The newest log key.
    pub fn newest_log_key(&self) -> &KeyRecord {
        self.log_key_rotations.last().map_or(&self.log_key, |rotation| &rotation.key)
    }

    /// The log key before it, while it may have to sign.
    pub fn former_log_key(&self) -> Option<&KeyRecord> {
        let (last, before) = self.log_key_rotations.split_last()?;
        let former = before.last().map_or(&self.log_key, |rotation| &rotation.key);
        (!last.former_done).then_some(former)
    }

    /// Every log key there was, oldest first.
    pub fn log_keys(&self) -> impl Iterator<Item = &KeyRecord> {
        [&self.log_key].into_iter().chain(self.log_key_rotations.iter().map(|r| &r.key))
    }
}
