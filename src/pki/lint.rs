//! Judges a TBSCertificate as x509-cert parsed it. Each lint has a certificate in the tests that
//! only it refuses.
//!
//! A lint is a small pure function over the parse and what the certificate was to be. The tables
//! `SHARED`, `LEAF` and `CA` are all there is: what no lint forbids is allowed.

mod authority;
mod leaf;
mod shared;
#[cfg(test)]
mod tests;

use std::fmt;

use const_oid::AssociatedOid;
use der::{Decode, Encode};
use x509_cert::certificate::{Raw, TbsCertificateInner};
use x509_cert::ext::Extension;

use super::certificate::{Certificate, instant};
use super::key::PublicKey;
use super::rehearse::{Ca, Leaf};
use crate::id::{Serial, Timestamp};

/// One lint's refusal: its stable name and what it saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub lint: &'static str,
    pub saw: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.lint, self.saw)
    }
}

/// One rule.
pub struct Lint {
    /// Stable, kebab-case.
    pub name: &'static str,
    /// Where the rule comes from.
    pub rule: &'static str,
    check: fn(&Draft<'_>) -> Verdict,
}

/// `Err` says what was seen.
type Verdict = Result<(), String>;

/// What a TBSCertificate was to become.
#[derive(Clone, Copy, Debug)]
pub enum Expected<'a> {
    Leaf(&'a Leaf<'a>),
    Ca(&'a Ca<'a>),
}

/// A TBSCertificate as x509-cert reads it, beside what it was to become.
pub struct Draft<'a> {
    der: &'a [u8],
    tbs: TbsCertificateInner<Raw>,
    expected: Expected<'a>,
}

/// The rules for every certificate, applied first.
pub static SHARED: &[Lint] = &[
    shared::VERSION,
    shared::SERIAL,
    shared::SIGNATURE_ALGORITHM,
    shared::ISSUER_NAME,
    shared::ISSUER_IS_CA,
    shared::TIME_ENCODING,
    shared::VALIDITY_ORDER,
    shared::VALIDITY_START,
    shared::VALIDITY_LIFETIME,
    shared::VALIDITY_WITHIN_ISSUER,
    shared::SUBJECT_KEY,
    shared::UNIQUE_IDS,
    shared::CANONICAL_DER,
    shared::SIZE,
    shared::EXTENSIONS_KNOWN,
    shared::EXTENSIONS_ONCE,
    shared::AUTHORITY_KEY_ID,
    shared::SUBJECT_KEY_ID,
    shared::AUTHORITY_INFO_ACCESS,
    shared::CRL_DISTRIBUTION_POINTS,
    shared::PLAIN_HTTP,
];

/// The rules for leaves alone.
pub static LEAF: &[Lint] = &[
    leaf::KEY_KIND,
    leaf::SAN_CRITICALITY,
    leaf::SAN_CANONICAL,
    leaf::SAN_NAMES,
    leaf::SAN_COUNT,
    leaf::SAN_WITHIN_ISSUER,
    leaf::SAN_WITHIN_PROFILE,
    leaf::WILDCARD,
    leaf::SUBJECT_SHAPE,
    leaf::COMMON_NAME_IN_SAN,
    leaf::COMMON_NAME_LENGTH,
    leaf::KEY_USAGE,
    leaf::EXTENDED_KEY_USAGE,
    leaf::BASIC_CONSTRAINTS,
    leaf::NO_REV_AVAIL,
];

/// The rules for root and issuing certificates alone.
pub static CA: &[Lint] = &[
    authority::SUBJECT,
    authority::BASIC_CONSTRAINTS,
    authority::PATH_LENGTH,
    authority::KEY_USAGE,
    authority::NAME_CONSTRAINTS,
    authority::NAMES_CLOSED,
];

impl<'a> Draft<'a> {
    /// Parses; whatever x509-cert cannot read is refused before any lint sees it.
    pub fn read(der: &'a [u8], expected: Expected<'a>) -> Result<Self, der::Error> {
        Ok(Self { der, tbs: TbsCertificateInner::from_der(der)?, expected })
    }

    /// What the lints have against it; empty is good.
    pub fn findings(&self) -> Vec<Finding> {
        let own = match self.expected {
            Expected::Leaf(_) => LEAF,
            Expected::Ca(_) => CA,
        };
        SHARED
            .iter()
            .chain(own)
            .filter_map(|lint| (lint.check)(self).err().map(|saw| Finding { lint: lint.name, saw }))
            .collect()
    }

    /// The serial, if it is of the shape this CA gives.
    pub fn serial(&self) -> Option<Serial> {
        Serial::from_octets(self.tbs.serial_number().as_bytes())
    }

    /// (notBefore, notAfter), both inclusive.
    pub fn validity(&self) -> (Timestamp, Timestamp) {
        let validity = self.tbs.validity();
        (instant(&validity.not_before), instant(&validity.not_after))
    }

    fn extensions(&self) -> &[Extension] {
        self.tbs.extensions().map(Vec::as_slice).unwrap_or_default()
    }

    /// The first extension of this type and whether it is critical.
    fn extension<'d, T>(&'d self) -> Result<Option<(bool, T)>, String>
    where
        T: Decode<'d, Error = der::Error> + AssociatedOid,
    {
        self.extensions()
            .iter()
            .find(|extension| extension.extn_id == T::OID)
            .map(|extension| {
                T::from_der(extension.extn_value.as_bytes())
                    .map(|value| (extension.critical, value))
                    .map_err(|error| format!("does not parse: {error}"))
            })
            .transpose()
    }

    /// As `extension`, which must be there and be critical or not.
    fn required<'d, T>(&'d self, critical: bool) -> Result<T, String>
    where
        T: Decode<'d, Error = der::Error> + AssociatedOid,
    {
        match self.extension::<T>()? {
            None => Err("absent".to_owned()),
            Some((found, _)) if found != critical => Err(criticality(found)),
            Some((_, value)) => Ok(value),
        }
    }

    fn issuer(&self) -> Option<&'a Certificate> {
        match self.expected {
            Expected::Leaf(leaf) => Some(leaf.issuer),
            Expected::Ca(ca) => ca.issuer,
        }
    }

    fn key(&self) -> &'a PublicKey {
        match self.expected {
            Expected::Leaf(leaf) => leaf.key,
            Expected::Ca(ca) => ca.key,
        }
    }

    fn now(&self) -> Timestamp {
        match self.expected {
            Expected::Leaf(leaf) => leaf.now,
            Expected::Ca(ca) => ca.now,
        }
    }
}

fn criticality(critical: bool) -> String {
    if critical { "critical" } else { "not critical" }.to_owned()
}

fn ensure(good: bool, saw: impl FnOnce() -> String) -> Verdict {
    if good { Ok(()) } else { Err(saw()) }
}

/// The DER of something that was just parsed; an error here is a finding like any other.
fn encoded(value: &impl Encode) -> Result<Vec<u8>, String> {
    value.to_der().map_err(|error| error.to_string())
}
