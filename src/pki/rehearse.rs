//! Writes the TBSCertificate that the HSM will be asked to sign, without any key: rcgen writes it
//! under the issuer's name and key id, x509-cert reads it back, the lints judge that reading.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::certificate::Certificate;
use super::key::PublicKey;
use super::name::Identifier;
use super::policy::Network;
use super::profile::Profile;
use crate::id::{Serial, Timestamp};

/// The exact bytes of a TBSCertificate that passed every lint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tbs {
    der: Vec<u8>,
    serial: Serial,
    not_before: Timestamp,
    not_after: Timestamp,
}

impl Tbs {
    pub fn der(&self) -> &[u8] {
        &self.der
    }
    pub fn serial(&self) -> Serial {
        self.serial
    }
    pub fn validity(&self) -> (Timestamp, Timestamp) {
        (self.not_before, self.not_after)
    }
}

/// Everything a leaf is made of.
#[derive(Clone, Debug)]
pub struct Leaf<'a> {
    pub profile: &'a Profile,
    pub identifiers: &'a [Identifier],
    pub key: &'a PublicKey,
    pub serial: Serial,
    pub now: Timestamp,
    /// The order's notBefore and notAfter, already within the profile, if it named them.
    pub not_before: Option<Timestamp>,
    pub not_after: Option<Timestamp>,
    pub issuer: &'a Certificate,
    /// `http://` URL of the issuing certificate (DER), for AIA caIssuers.
    pub aia_url: &'a str,
    /// `http://` URL of the CRL, for the CDP.
    pub crl_url: &'a str,
}

/// A CA certificate as a ceremony file describes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct CaTemplate {
    /// CN of the subject.
    pub common_name: String,
    /// O of the subject, if any.
    pub organization: Option<String>,
    pub lifetime_days: u32,
    /// Absent on roots; 0 on issuing CAs.
    pub path_length: Option<u8>,
    /// Permitted DNS suffixes (no leading dot) and networks; both empty on a root means no constraint.
    /// On an issuing CA whatever kind has no permitted entry is excluded as a whole
    /// (dNSName, iPAddress v4 and v6, rfc822Name, URI, directoryName left to the subject rules).
    #[serde(default)]
    pub permitted_names: Vec<String>,
    #[serde(default)]
    pub permitted_networks: Vec<String>,
}

/// A CA certificate to rehearse. Self-signed when `issuer` is `None`.
#[derive(Clone, Debug)]
pub struct Ca<'a> {
    pub template: &'a CaTemplate,
    pub key: &'a PublicKey,
    pub serial: Serial,
    pub now: Timestamp,
    pub issuer: Option<&'a Certificate>,
    pub aia_url: Option<&'a str>,
    pub crl_url: Option<&'a str>,
}

/// Why no TBSCertificate came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RehearsalError {
    /// The certificate would outlive its issuer or begin before it; the text says both dates.
    Validity(String),
    /// The request is outside the profile.
    Profile(String),
    /// A lint refused what was written: a bug here, never the client's fault.
    Lint(Vec<super::lint::Finding>),
    /// rcgen could not write or x509-cert could not read it.
    Encoding(String),
}

/// Rehearses a leaf.
pub fn leaf(leaf: &Leaf<'_>) -> Result<Tbs, RehearsalError> {
    todo!()
}

/// Rehearses a root or issuing certificate.
pub fn ca(ca: &Ca<'_>) -> Result<Tbs, RehearsalError> {
    todo!()
}
