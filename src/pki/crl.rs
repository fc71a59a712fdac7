//! Certificate revocation lists, built directly as TbsCertList (RFC 5280 section 5).
//!
//! Written by hand around the issuer's own name bytes, read back by x509-cert.
//!
//! A CRL is either complete, or the *shard* of the certificates that name its URL: those whose serial leaves
//! the same rest when divided by the number of shards. Which, is fixed in the certificate.

use std::path::PathBuf;
use std::time::Duration;

use const_oid::db::rfc5280::ID_CE_ISSUING_DISTRIBUTION_POINT;
use const_oid::{AssociatedOid, ObjectIdentifier};
use der::{Decode, Encode};
use x509_cert::certificate::{Raw, Version};
use x509_cert::crl::CertificateList;
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::crl::dp::IssuingDistributionPoint;
use x509_cert::ext::pkix::name::{DistributionPointName, GeneralName};
use x509_cert::ext::pkix::{AuthorityKeyIdentifier, CrlNumber, CrlReason};

use super::certificate::{Certificate, instant};
use super::key::{SignatureAlgorithm, sha256};
use super::tlv;
use crate::id::{Serial, Timestamp};

/// One revoked certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevokedEntry {
    pub serial: Serial,
    pub at: Timestamp,
    /// CRLReason; `None` and 0 (unspecified) are the same and written as nothing.
    pub reason: Option<u8>,
}

/// How long before its end an operator is told of the root's CRL, which takes a ceremony to renew: ninety days, or a
/// third of its life where that is less.
pub fn root_crl_warning(this_update: Timestamp, next_update: Timestamp) -> Duration {
    const LONGEST: Duration = Duration::from_secs(90 * 86_400);
    LONGEST.min(next_update.since(this_update) / 3)
}

/// Longer lists are refused unread.
pub const MAX_DER: usize = 64 * 1024 * 1024;

/// The TbsCertList to sign: v2, AKI (the issuer's SKI), CRLNumber; revokedCertificates absent when
/// empty, otherwise sorted by serial, each serial once with its earliest date. Dates are whole
/// seconds. The signature algorithm is the issuer key's preferred one.
pub fn tbs(
    issuer: &Certificate,
    number: u64,
    this_update: Timestamp,
    next_update: Timestamp,
    revoked: &[RevokedEntry],
) -> Vec<u8> {
    written(issuer, None, number, this_update, next_update, revoked)
}

/// The same for a shard: with a critical issuingDistributionPoint that names `url`, byte for byte as the
/// certificates do, and onlyContainsUserCerts (RFC 5280 section 5.2.5).
pub fn shard_tbs(
    issuer: &Certificate,
    url: &str,
    number: u64,
    this_update: Timestamp,
    next_update: Timestamp,
    revoked: &[RevokedEntry],
) -> Vec<u8> {
    written(issuer, Some(url), number, this_update, next_update, revoked)
}

/// The most shards: 4,096 live entries in each are a million revoked certificates.
pub const MAX_SHARDS: u16 = 256;

/// Where the shards of a CA are, which are as many as they are: another number of them has other URLs, so that a
/// certificate's CRL stays what it was.
pub fn shard_urls(crl_url: &str, shards: u16) -> impl Iterator<Item = String> {
    let stem = crl_url.strip_suffix(".crl").unwrap_or(crl_url).to_owned();
    (0..shards.max(1)).map(move |shard| format!("{stem}-{}/{shard}.crl", shards.max(1)))
}

/// The URL a certificate with this serial names.
pub fn shard_url(crl_url: &str, shards: u16, serial: Serial) -> String {
    let shards = shards.max(1);
    let rest = serial
        .octets()
        .iter()
        .fold(0u32, |rest, octet| (rest * 256 + u32::from(*octet)) % u32::from(shards));
    let stem = crl_url.strip_suffix(".crl").unwrap_or(crl_url);
    format!("{stem}-{shards}/{rest}.crl")
}

/// Whether a URL is that of a shard of the CA with this complete CRL, of whatever number of shards.
pub fn is_shard_of(crl_url: &str, url: &str) -> bool {
    let stem = crl_url.strip_suffix(".crl").unwrap_or(crl_url);
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    url.strip_prefix(stem)
        .and_then(|rest| rest.strip_prefix('-')?.strip_suffix(".crl")?.split_once('/'))
        .is_some_and(|(shards, shard)| number(shards) && number(shard))
}

/// The path below the public directory that a URL in a certificate names. Plain http, plain segments.
pub fn file_of(url: &str) -> Result<PathBuf, String> {
    let path = url
        .strip_prefix("http://")
        .and_then(|rest| rest.split_once('/'))
        .map(|(_, path)| path)
        .ok_or_else(|| format!("{url:?} is not an http URL with a path"))?;
    let plain = |segment: &str| {
        !segment.is_empty()
            && !segment.starts_with('.')
            && segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    if path.split('/').count() > 4 || !path.split('/').all(plain) {
        return Err(format!("the path of {url:?} is not made of plain segments"));
    }
    Ok(PathBuf::from(path))
}

fn written(
    issuer: &Certificate,
    shard: Option<&str>,
    number: u64,
    this_update: Timestamp,
    next_update: Timestamp,
    revoked: &[RevokedEntry],
) -> Vec<u8> {
    let mut entries: Vec<&RevokedEntry> = revoked.iter().collect();
    entries.sort_by_key(|entry| (entry.serial, entry.at));
    entries.dedup_by_key(|entry| entry.serial);
    let mut list = Vec::with_capacity(entries.len() * 48);
    for entry in &entries {
        list.extend_from_slice(&entry_der(entry));
    }
    // RFC 5280 section 5.1.2.6: absent, not empty.
    let list = if entries.is_empty() { Vec::new() } else { tlv::sequence(&[&list]) };

    // Not the issuer's AKI, which names its own issuer.
    let key_id = issuer.subject_key_id().unwrap_or_default();
    let authority = tlv::sequence(&[&tlv::element(0x80, &[key_id])]);
    let distribution = shard.map_or_else(Vec::new, |url| {
        let name =
            tlv::element(0xa0, &[&tlv::element(0xa0, &[&tlv::element(0x86, &[url.as_bytes()])])]);
        let point = tlv::sequence(&[&name, &tlv::element(0x81, &[&[0xff]])]);
        tlv::extension(&tlv::OID_ISSUING_DISTRIBUTION_POINT, true, &point)
    });
    let extensions = tlv::sequence(&[
        &tlv::extension(&tlv::OID_AUTHORITY_KEY_ID, false, &authority),
        &tlv::extension(&tlv::OID_CRL_NUMBER, false, &tlv::integer(number)),
        &distribution,
    ]);
    tlv::sequence(&[
        &tlv::integer(1),
        issuer.public_key().preferred_algorithm().identifier_der(),
        issuer.subject_der(),
        &tlv::time(this_update),
        &tlv::time(next_update),
        &list,
        &tlv::element(0xa0, &[&extensions]),
    ])
}

fn entry_der(entry: &RevokedEntry) -> Vec<u8> {
    // A Serial's first octet is below 0x80, so the octets are the INTEGER's content.
    let serial = tlv::element(0x02, &[entry.serial.octets()]);
    let extensions = match entry.reason {
        None | Some(0) => Vec::new(),
        Some(reason) => {
            let code = tlv::element(0x0a, &[&[reason]]);
            tlv::sequence(&[&tlv::extension(&tlv::OID_REASON_CODE, false, &code)])
        }
    };
    tlv::sequence(&[&serial, &tlv::time(entry.at), &extensions])
}

/// `SEQUENCE { tbs, algorithm, BIT STRING signature }`.
pub fn assemble(tbs: &[u8], algorithm: SignatureAlgorithm, signature: &[u8]) -> Vec<u8> {
    tlv::signed(tbs, algorithm.identifier_der(), signature)
}

/// What a CRL says, as x509-cert read it; its signature verified under `issuer`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crl {
    /// The URL of the shard it is; `None`: complete.
    pub shard: Option<String>,
    pub number: u64,
    pub this_update: Timestamp,
    pub next_update: Timestamp,
    pub revoked: Vec<RevokedEntry>,
    /// SHA-256 over the TbsCertList: what the log says of it.
    pub tbs_sha256: [u8; 32],
}

/// Parses and verifies: canonical DER, v2, issuer name and AKI are `issuer`'s, no extension but
/// AKI, CRLNumber, a shard's issuingDistributionPoint and, on entries, reasonCode; every serial one that `Serial` can hold.
/// Whether it is current is for the caller to say.
pub fn parse_verified(der: &[u8], issuer: &Certificate) -> Result<Crl, String> {
    let text = |error: der::Error| error.to_string();
    if der.len() > MAX_DER {
        return Err("too large".to_owned());
    }
    let parsed = CertificateList::<Raw>::from_der(der).map_err(text)?;
    let body = parsed.tbs_cert_list.to_der().map_err(text)?;
    if parsed.to_der().as_deref() != Ok(der) {
        return Err("not in canonical DER".to_owned());
    }
    let list = &parsed.tbs_cert_list;
    let algorithm = parsed.signature_algorithm.to_der().map_err(text)?;
    if list.signature.to_der().map_err(text)? != algorithm {
        return Err("inner and outer signature algorithm differ".to_owned());
    }
    let algorithm = SignatureAlgorithm::from_identifier_der(&algorithm)
        .ok_or("unsupported signature algorithm")?;
    let signature = parsed.signature.as_bytes().ok_or("a signature with unused bits")?;
    if !issuer.public_key().verify(algorithm, &body, signature) {
        return Err("the signature does not verify".to_owned());
    }
    if list.version != Version::V2 {
        return Err("not a version 2 list".to_owned());
    }
    if list.issuer.to_der().map_err(text)? != issuer.subject_der() {
        return Err("issued under another name".to_owned());
    }
    let extensions = list.crl_extensions.as_deref().unwrap_or_default();
    only(
        extensions,
        &[AuthorityKeyIdentifier::OID, CrlNumber::OID, ID_CE_ISSUING_DISTRIBUTION_POINT],
    )?;
    let authority: AuthorityKeyIdentifier =
        value(extensions)?.ok_or("no authorityKeyIdentifier")?;
    if authority.key_identifier.as_ref().map(|id| id.as_bytes()) != issuer.subject_key_id() {
        return Err("authorityKeyIdentifier is not the issuer's key id".to_owned());
    }
    let number: CrlNumber = value(extensions)?.ok_or("no cRLNumber")?;
    let number = number.0.as_bytes().iter().try_fold(0u64, |number, octet| {
        (number >> 56 == 0).then_some(number << 8 | u64::from(*octet))
    });
    let entries = match &list.revoked_certificates {
        None => &[][..],
        Some(entries) if entries.is_empty() => {
            return Err("revokedCertificates present but empty".to_owned());
        }
        Some(entries) => entries,
    };
    let revoked = entries
        .iter()
        .map(|entry| {
            let extensions = entry.crl_entry_extensions.as_deref().unwrap_or_default();
            only(extensions, &[CrlReason::OID])?;
            let reason: Option<CrlReason> = value(extensions)?;
            Ok(RevokedEntry {
                serial: Serial::from_octets(entry.serial_number.as_bytes())
                    .ok_or("a serial number this CA cannot have chosen")?,
                at: instant(&entry.revocation_date),
                reason: reason.map(|reason| reason as u8),
            })
        })
        .collect::<Result<Vec<_>, String>>()?;
    Ok(Crl {
        shard: shard(extensions)?,
        number: number.ok_or("a cRLNumber beyond 64 bits")?,
        this_update: instant(&list.this_update),
        next_update: instant(list.next_update.as_ref().ok_or("no nextUpdate")?),
        revoked,
        tbs_sha256: sha256(&body),
    })
}

/// The URL in the issuingDistributionPoint, if there is one: critical, and as [`shard_tbs`] writes it.
fn shard(extensions: &[Extension]) -> Result<Option<String>, String> {
    // x509-cert 0.3.0 gives the type another extension's OID, so it is found by its own here.
    let found = extensions.iter().find(|one| one.extn_id == ID_CE_ISSUING_DISTRIBUTION_POINT);
    let Some(extension) = found else { return Ok(None) };
    let critical = extension.critical;
    let point = IssuingDistributionPoint::from_der(extension.extn_value.as_bytes())
        .map_err(|error| format!("issuingDistributionPoint: {error}"))?;
    let alone = !point.only_contains_ca_certs
        && !point.indirect_crl
        && !point.only_contains_attribute_certs
        && point.only_some_reasons.is_none();
    match point.distribution_point {
        Some(DistributionPointName::FullName(names))
            if critical && alone && point.only_contains_user_certs =>
        {
            match names.as_slice() {
                [GeneralName::UniformResourceIdentifier(url)] => Ok(Some(url.to_string())),
                _ => Err("an issuingDistributionPoint that is not one URL".to_owned()),
            }
        }
        _ => Err("an issuingDistributionPoint that this CA does not write".to_owned()),
    }
}

/// Each extension is one of `known` and there once.
fn only(extensions: &[Extension], known: &[ObjectIdentifier]) -> Result<(), String> {
    for (i, extension) in extensions.iter().enumerate() {
        let oid = extension.extn_id;
        if !known.contains(&oid) {
            return Err(format!("unexpected extension {oid}"));
        }
        if extensions[..i].iter().any(|earlier| earlier.extn_id == oid) {
            return Err(format!("extension {oid} twice"));
        }
    }
    Ok(())
}

fn value<'a, T>(extensions: &'a [Extension]) -> Result<Option<T>, String>
where
    T: Decode<'a, Error = der::Error> + AssociatedOid,
{
    extensions
        .iter()
        .find(|extension| extension.extn_id == T::OID)
        .map(|extension| T::from_der(extension.extn_value.as_bytes()))
        .transpose()
        .map_err(|error| format!("extension {}: {error}", T::OID))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_url_names_a_file_below_the_public_directory_or_nothing() {
        assert_eq!(file_of("http://ca.lan/issuing.der"), Ok("issuing.der".into()));
        assert_eq!(file_of("http://ca.lan:8080/crl/1.crl"), Ok("crl/1.crl".into()));
        for url in [
            "https://ca.lan/a",
            "http://ca.lan",
            "http://ca.lan/",
            "http://ca.lan/../etc/passwd",
            "http://ca.lan/a//b",
            "http://ca.lan/.hidden",
            "http://ca.lan/a?b",
            "http://ca.lan/a%2e",
            "http://ca.lan/a/b/c/d/e",
            "ldap://ca.lan/a",
        ] {
            assert!(file_of(url).is_err(), "{url}");
        }
    }

    proptest! {
        #[test]
        fn a_serial_has_one_shard_of_those_there_are(octets: [u8; 16], shards in 1..=MAX_SHARDS) {
            let serial = Serial::from_random(octets);
            let url = shard_url("http://ca.lan/crl/issuing.crl", shards, serial);
            let rest = u128::from_be_bytes(*serial.octets()) % u128::from(shards);
            let expected = format!("http://ca.lan/crl/issuing-{shards}/{rest}.crl");
            prop_assert_eq!(&url, &expected);
            let all: Vec<_> = shard_urls("http://ca.lan/crl/issuing.crl", shards).collect();
            prop_assert_eq!(all.len(), usize::from(shards));
            prop_assert_eq!(all.iter().filter(|one| **one == url).count(), 1);
        }
    }
}
