//! A certificate as bytes plus what x509-cert read from them; assembly of TBS and signature.

use std::fmt;
use std::net::IpAddr;
use std::ops::Range;

use aws_lc_rs::digest;
use base64ct::{Base64, Encoding};
use const_oid::AssociatedOid;
use const_oid::db::rfc4519;
use der::{Decode, Encode};
use x509_cert::certificate::{CertificateInner, Raw, TbsCertificateInner};
use x509_cert::ext::pkix::name::{DistributionPointName, GeneralName};
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, CrlDistributionPoints, KeyUsage,
    NameConstraints as ParsedConstraints, SubjectAltName, SubjectKeyIdentifier,
};
use x509_cert::time::Time;

use super::constraint::NameConstraints;
use super::key::{PublicKey, SignatureAlgorithm};
use super::name::{DnsName, Identifier};
use super::tlv;
use crate::id::{Serial, Timestamp, hex};

/// A parsed certificate. Parsing verifies no signature.
#[derive(Clone)]
pub struct Certificate {
    der: Vec<u8>,
    tbs: Range<usize>,
    algorithm: SignatureAlgorithm,
    signature: Vec<u8>,
    key: PublicKey,
    serial_octets: Vec<u8>,
    validity: (Timestamp, Timestamp),
    issuer_der: Vec<u8>,
    subject_der: Vec<u8>,
    subject: String,
    common_name: Option<String>,
    identifiers: Vec<Identifier>,
    subject_key_id: Option<Vec<u8>>,
    authority_key_id: Option<Vec<u8>>,
    is_ca: bool,
    path_length: Option<u8>,
    name_constraints: Option<NameConstraints>,
    crl_url: Option<String>,
}

/// The bytes are not one DER certificate with a supported key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotACertificate(pub String);

impl fmt::Display for NotACertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a certificate: {}", self.0)
    }
}

impl std::error::Error for NotACertificate {}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("subject", &self.subject)
            .field("serial", &hex(&self.serial_octets))
            .field("octets", &self.der.len())
            .finish_non_exhaustive()
    }
}

impl PartialEq for Certificate {
    /// Everything else follows from the bytes.
    fn eq(&self, other: &Self) -> bool {
        self.der == other.der
    }
}

impl Eq for Certificate {}

impl Certificate {
    /// Longer input is refused unread.
    pub const MAX_DER: usize = 64 * 1024;

    /// Parses DER, and only DER: what x509-cert would write differently is refused, as is an
    /// extension twice, a key or signature algorithm unknown here, and inner and outer algorithms
    /// that differ (RFC 5280 section 4.1.1.2).
    pub fn parse(der: &[u8]) -> Result<Self, NotACertificate> {
        let refuse = |why: &str| NotACertificate(why.to_owned());
        if der.len() > Self::MAX_DER {
            return Err(refuse("too large"));
        }
        let parsed = CertificateInner::<Raw>::from_der(der)
            .map_err(|error| NotACertificate(error.to_string()))?;
        if parsed.to_der().as_deref() != Ok(der) {
            return Err(refuse("not in canonical DER"));
        }
        let tbs = parsed.tbs_certificate();
        let encode = |result: der::Result<Vec<u8>>| {
            result.map_err(|error| NotACertificate(error.to_string()))
        };
        let algorithm = encode(parsed.signature_algorithm().to_der())?;
        if encode(tbs.signature().to_der())? != algorithm {
            return Err(refuse("inner and outer signature algorithm differ"));
        }
        let spki = encode(tbs.subject_public_key_info().to_der())?;
        let constraints = tbs
            .extensions()
            .and_then(|all| all.iter().find(|one| one.extn_id == ParsedConstraints::OID));

        let basic: Option<BasicConstraints> = extension(tbs)?;
        let subject_key_id: Option<SubjectKeyIdentifier> = extension(tbs)?;
        let authority_key_id: Option<AuthorityKeyIdentifier> = extension(tbs)?;
        let alternative_names: Option<SubjectAltName> = extension(tbs)?;
        let distribution: Option<CrlDistributionPoints> = extension(tbs)?;
        let usage: Option<KeyUsage> = extension(tbs)?;
        let is_ca = basic.as_ref().is_some_and(|basic| basic.ca)
            && usage.is_none_or(|usage| usage.key_cert_sign());

        Ok(Self {
            der: der.to_vec(),
            tbs: tlv::signed_body(der).ok_or_else(|| refuse("not a signed structure"))?,
            algorithm: SignatureAlgorithm::from_identifier_der(&algorithm)
                .ok_or_else(|| refuse("unsupported signature algorithm"))?,
            signature: parsed
                .signature()
                .as_bytes()
                .ok_or_else(|| refuse("a signature with unused bits"))?
                .to_vec(),
            key: PublicKey::from_spki(&spki).map_err(|why| NotACertificate(why.0.to_owned()))?,
            serial_octets: tbs.serial_number().as_bytes().to_vec(),
            validity: (instant(&tbs.validity().not_before), instant(&tbs.validity().not_after)),
            issuer_der: encode(tbs.issuer().to_der())?,
            subject_der: encode(tbs.subject().to_der())?,
            subject: tbs.subject().to_string(),
            common_name: tbs
                .subject()
                .iter()
                .find(|attribute| attribute.oid == rfc4519::CN)
                .and_then(|attribute| String::from_utf8(attribute.value.value().to_vec()).ok()),
            identifiers: alternative_names
                .map(|names| names.0.iter().filter_map(identifier).collect())
                .unwrap_or_default(),
            subject_key_id: subject_key_id.map(|id| id.0.as_bytes().to_vec()),
            authority_key_id: authority_key_id
                .and_then(|id| id.key_identifier)
                .map(|id| id.as_bytes().to_vec()),
            is_ca,
            path_length: basic.and_then(|basic| basic.path_len_constraint),
            name_constraints: constraints
                .map(|one| NameConstraints::from_der(one.extn_value.as_bytes()))
                .transpose()
                .map_err(NotACertificate)?,
            crl_url: distribution.and_then(only_url),
        })
    }

    /// Exactly one `CERTIFICATE` block, nothing else but white space.
    pub fn parse_pem(pem: &str) -> Result<Self, NotACertificate> {
        let refuse = |why: &str| NotACertificate(why.to_owned());
        if pem.len() > 2 * Self::MAX_DER {
            return Err(refuse("too large"));
        }
        let body = pem
            .trim()
            .strip_prefix("-----BEGIN CERTIFICATE-----")
            .and_then(|rest| rest.strip_suffix("-----END CERTIFICATE-----"))
            .filter(|body| !body.contains('-'))
            .ok_or_else(|| refuse("not exactly one PEM block of type CERTIFICATE"))?;
        let digits: String = body.split_ascii_whitespace().collect();
        let der = Base64::decode_vec(&digits).map_err(|_| refuse("the PEM block is not base64"))?;
        Self::parse(&der)
    }

    /// `SEQUENCE { tbs, algorithm, BIT STRING signature }`, byte for byte around `tbs`.
    pub fn assemble(
        tbs: &[u8],
        algorithm: SignatureAlgorithm,
        signature: &[u8],
    ) -> Result<Self, NotACertificate> {
        Self::parse(&tlv::signed(tbs, algorithm.identifier_der(), signature))
    }

    /// A TBSCertificate alone, for what it says: under a signature that nobody made, in the algorithm that it
    /// names itself.
    pub fn of_tbs(tbs: &[u8]) -> Result<Self, NotACertificate> {
        let refuse = |error: der::Error| NotACertificate(error.to_string());
        let parsed = TbsCertificateInner::<Raw>::from_der(tbs).map_err(refuse)?;
        let algorithm = parsed.signature().to_der().map_err(refuse)?;
        Self::parse(&tlv::signed(tbs, &algorithm, &[0; 64]))
    }

    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// One PEM block with LF line ends.
    pub fn pem(&self) -> String {
        let digits = Base64::encode_string(&self.der);
        let mut pem = String::with_capacity(digits.len() + digits.len() / 64 + 60);
        pem.push_str("-----BEGIN CERTIFICATE-----\n");
        let mut rest = digits.as_str();
        while !rest.is_empty() {
            let (line, tail) = rest.split_at(rest.len().min(64));
            pem.push_str(line);
            pem.push('\n');
            rest = tail;
        }
        pem.push_str("-----END CERTIFICATE-----\n");
        pem
    }

    /// The TBSCertificate bytes as they stand in the certificate.
    pub fn tbs(&self) -> &[u8] {
        &self.der[self.tbs.clone()]
    }

    /// The outer signature.
    pub fn signature(&self) -> (SignatureAlgorithm, &[u8]) {
        (self.algorithm, &self.signature)
    }

    pub fn public_key(&self) -> &PublicKey {
        &self.key
    }

    /// The same certificate, whose key signs with what `key` signs with, if they are one key: an RSA key's
    /// certificate does not say whether it signs PKCS#1 v1.5 or PSS.
    #[must_use]
    pub fn whose_key_signs_as(mut self, key: &PublicKey) -> Self {
        if self.key == *key {
            self.key = key.clone();
        }
        self
    }

    /// `None` for serials this server cannot have chosen.
    pub fn serial(&self) -> Option<Serial> {
        Serial::from_octets(&self.serial_octets)
    }

    /// The content octets of the serial number, whoever chose it.
    pub fn serial_octets(&self) -> &[u8] {
        &self.serial_octets
    }

    /// (notBefore, notAfter), both inclusive.
    pub fn validity(&self) -> (Timestamp, Timestamp) {
        self.validity
    }

    /// DER of the subject Name.
    pub fn subject_der(&self) -> &[u8] {
        &self.subject_der
    }

    /// DER of the issuer Name.
    pub fn issuer_der(&self) -> &[u8] {
        &self.issuer_der
    }

    /// RFC 4514 text of the subject, for people.
    pub fn subject(&self) -> String {
        self.subject.clone()
    }

    /// The commonName of the subject as it stands there, without the escapes of RFC 4514; the first, of several.
    pub fn common_name(&self) -> Option<&str> {
        self.common_name.as_deref()
    }

    /// DNS names and addresses of the SAN, in order. Names this CA could not have certified are
    /// left out.
    pub fn identifiers(&self) -> Vec<Identifier> {
        self.identifiers.clone()
    }

    /// subjectKeyIdentifier.
    pub fn subject_key_id(&self) -> Option<&[u8]> {
        self.subject_key_id.as_deref()
    }

    /// authorityKeyIdentifier's keyIdentifier.
    pub fn authority_key_id(&self) -> Option<&[u8]> {
        self.authority_key_id.as_deref()
    }

    /// Whether basicConstraints say cA and key usage, where there is one, allows keyCertSign.
    pub fn is_ca(&self) -> bool {
        self.is_ca
    }

    /// pathLenConstraint.
    pub fn path_length(&self) -> Option<u8> {
        self.path_length
    }

    /// The URL in CRLDistributionPoints, if it is one alone.
    pub fn crl_url(&self) -> Option<&str> {
        self.crl_url.as_deref()
    }

    /// What it allows the names of certificates below it to be; `None` without the extension.
    pub fn name_constraints(&self) -> Option<&NameConstraints> {
        self.name_constraints.as_ref()
    }

    /// SHA-256 over the DER.
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(digest::digest(&digest::SHA256, &self.der).as_ref());
        fingerprint
    }

    /// Verifies this certificate's signature under `issuer`, that `issuer` is a CA, and that names
    /// and key ids match. A missing AKI matches only where issuer and subject are one name
    /// (RFC 5280 section 4.2.1.1). Says nothing about dates, constraints or revocation.
    pub fn verify_issued_by(&self, issuer: &Self) -> bool {
        let key_ids_match = match self.authority_key_id() {
            Some(id) => issuer.subject_key_id() == Some(id),
            None => self.issuer_der == self.subject_der,
        };
        key_ids_match
            && issuer.is_ca
            && self.issuer_der == issuer.subject_der
            && issuer.key.verify(self.algorithm, self.tbs(), &self.signature)
    }
}

/// The one URI of the one distribution point.
fn only_url(points: CrlDistributionPoints) -> Option<String> {
    match points.0.as_slice() {
        [point] => match &point.distribution_point {
            Some(DistributionPointName::FullName(names)) => match names.as_slice() {
                [GeneralName::UniformResourceIdentifier(url)] => Some(url.to_string()),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    }
}

/// The instant an X.509 Time names.
pub(super) fn instant(time: &Time) -> Timestamp {
    Timestamp::from_unix_seconds(time.to_unix_duration().as_secs())
}

/// The identifier a SAN entry holds, if it is one we issue for, canonical or not.
pub(super) fn identifier(name: &GeneralName) -> Option<Identifier> {
    match name {
        GeneralName::DnsName(name) => DnsName::parse(name.as_str()).ok().map(Identifier::Dns),
        GeneralName::IpAddress(octets) => {
            let octets = octets.as_bytes();
            let address = <[u8; 4]>::try_from(octets)
                .map(IpAddr::from)
                .or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from))
                .ok()?;
            (address.to_canonical() == address).then_some(Identifier::Ip(address))
        }
        _ => None,
    }
}

fn extension<'a, T>(tbs: &'a TbsCertificateInner<Raw>) -> Result<Option<T>, NotACertificate>
where
    T: Decode<'a, Error = der::Error> + AssociatedOid,
{
    match tbs.get_extension::<T>() {
        Ok(found) => Ok(found.map(|(_, value)| value)),
        Err(error) => Err(NotACertificate(format!("extension {}: {error}", T::OID))),
    }
}
