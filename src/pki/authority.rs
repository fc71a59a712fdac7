//! What a ceremony fixed for good: the certificates, the keys by name and public key, the log's origin
//! and the URLs that certificates carry. Written by `ceremony` as `ca/authority.json`, read by `config`.

use serde::{Deserialize, Serialize};

/// A key on a token and what it must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRecord {
    /// RFC 7512 URI with token label, serial and CKA_ID; never a PIN.
    pub uri: String,
    /// SubjectPublicKeyInfo, base64.
    pub spki: String,
}

/// The file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Authority {
    /// Version of this format: 1.
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
    pub log_key: KeyRecord,
    pub tls_key: KeyRecord,
    /// SHA-256 over the transcript, hex.
    pub transcript_sha256: String,
    /// What this box cosigns other logs with, once a ceremony has made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub witness: Option<WitnessRecord>,
}

/// A witness's key and its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WitnessRecord {
    /// A schema-less URL, for good: it is in every cosignature.
    pub name: String,
    pub key: KeyRecord,
}
