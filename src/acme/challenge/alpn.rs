//! The certificate that answers tls-alpn-01 (RFC 8737 section 3, RFC 8738 section 6).

use std::net::IpAddr;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use const_oid::ObjectIdentifier;
use const_oid::db::rfc5280::ID_CE_SUBJECT_ALT_NAME;
use der::asn1::OctetStringRef;
use der::{Decode, Encode};
use x509_cert::certificate::{CertificateInner, Raw};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use crate::pki::name::Identifier;

/// The protocol that is negotiated, and nothing else with it.
pub const PROTOCOL: &[u8] = b"acme-tls/1";

/// A certificate as far as this challenge reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlpnCertificate {
    /// The SubjectPublicKeyInfo's algorithm, as the content of its SEQUENCE, and its key.
    pub key_algorithm: Vec<u8>,
    pub key: Vec<u8>,
    /// What the signature covers, its algorithm like the key's, and the signature.
    pub signed: Vec<u8>,
    pub signature_algorithm: Vec<u8>,
    pub signature: Vec<u8>,
    subject_is_issuer: bool,
    extensions: Vec<Extension>,
}

/// Why a certificate is no answer. The text is fit for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mismatch(pub &'static str);

impl AlpnCertificate {
    /// Reads it; nothing is judged yet.
    pub fn parse(der: &[u8]) -> Result<Self, Mismatch> {
        let unreadable = Mismatch("it is no X.509 certificate");
        if der.len() > MAX_DER {
            return Err(Mismatch("it is larger than any certificate for this protocol"));
        }
        let certificate = CertificateInner::<Raw>::from_der(der).map_err(|_| unreadable)?;
        let tbs = certificate.tbs_certificate();
        let spki = tbs.subject_public_key_info();
        let content = |algorithm: &spki::AlgorithmIdentifierOwned| -> der::Result<Vec<u8>> {
            let mut content = algorithm.oid.to_der()?;
            if let Some(parameters) = &algorithm.parameters {
                content.extend(parameters.to_der()?);
            }
            Ok(content)
        };
        let read = || -> der::Result<Self> {
            Ok(Self {
                key_algorithm: content(&spki.algorithm)?,
                key: spki.subject_public_key.raw_bytes().to_vec(),
                signed: tbs.to_der()?,
                signature_algorithm: content(certificate.signature_algorithm())?,
                signature: certificate.signature().raw_bytes().to_vec(),
                subject_is_issuer: tbs.subject() == tbs.issuer(),
                extensions: tbs.extensions().cloned().unwrap_or_default(),
            })
        };
        read().map_err(|_| unreadable)
    }

    /// Whether it answers for `identifier`: exactly that one name, the digest of the key authorization in
    /// a critical acmeIdentifier, issued by itself as far as its names say. The caller verifies its
    /// signature.
    pub fn judge(&self, identifier: &Identifier, key_authorization: &str) -> Result<(), Mismatch> {
        if !self.subject_is_issuer {
            return Err(Mismatch("it is not self-signed"));
        }
        self.judge_names(identifier)?;
        self.judge_digest(key_authorization)
    }

    fn judge_names(&self, identifier: &Identifier) -> Result<(), Mismatch> {
        let lacks = Mismatch("it needs exactly one subjectAltName extension");
        let names = self.only(ID_CE_SUBJECT_ALT_NAME).ok_or(lacks)?;
        let SubjectAltName(names) =
            SubjectAltName::from_der(names.extn_value.as_bytes()).map_err(|_| lacks)?;
        let [only] = names.as_slice() else {
            return Err(Mismatch("its subjectAltName must hold the one name and no other"));
        };
        let same = match (only, identifier) {
            (GeneralName::DnsName(name), Identifier::Dns(due)) => {
                name.as_str().eq_ignore_ascii_case(due.as_str())
            }
            (GeneralName::IpAddress(octets), Identifier::Ip(due)) => match due {
                IpAddr::V4(v4) => octets.as_bytes() == v4.octets(),
                IpAddr::V6(v6) => octets.as_bytes() == v6.octets(),
            },
            _ => false,
        };
        if same { Ok(()) } else { Err(Mismatch("its subjectAltName is another name")) }
    }

    fn judge_digest(&self, key_authorization: &str) -> Result<(), Mismatch> {
        let Some(extension) = self.only(ACME_IDENTIFIER) else {
            return Err(Mismatch(match self.only(OBSOLETE) {
                Some(_) => {
                    "its acmeIdentifier has the OID of an old draft; RFC 8737 has 1.3.6.1.5.5.7.1.31"
                }
                None => "it needs exactly one acmeIdentifier extension (1.3.6.1.5.5.7.1.31)",
            }));
        };
        if !extension.critical {
            return Err(Mismatch("its acmeIdentifier extension must be critical"));
        }
        let digest_in = <&OctetStringRef>::from_der(extension.extn_value.as_bytes())
            .map_err(|_| Mismatch("its acmeIdentifier must hold an OCTET STRING of 32 octets"))?;
        let due = digest(&SHA256, key_authorization.as_bytes());
        verify_slices_are_equal(digest_in.as_bytes(), due.as_ref())
            .map_err(|_| Mismatch("its acmeIdentifier is not the digest of the key authorization"))
    }

    /// The one extension of this kind.
    fn only(&self, oid: ObjectIdentifier) -> Option<&Extension> {
        let mut found = self.extensions.iter().filter(|extension| extension.extn_id == oid);
        found.next().filter(|_| found.next().is_none())
    }
}

/// The name that asks for an address (RFC 8738 section 6): SNI holds names alone.
pub fn server_name(identifier: &Identifier) -> String {
    match identifier {
        Identifier::Dns(name) => name.as_str().to_owned(),
        Identifier::Ip(IpAddr::V4(v4)) => {
            let [a, b, c, d] = v4.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        Identifier::Ip(IpAddr::V6(v6)) => {
            let mut name = String::with_capacity(72);
            for octet in v6.octets().iter().rev() {
                name.push_str(&format!("{:x}.{:x}.", octet & 15, octet >> 4));
            }
            name + "ip6.arpa"
        }
    }
}

/// id-pe-acmeIdentifier.
const ACME_IDENTIFIER: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.1.31");
/// What drafts before -05 used.
const OBSOLETE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.1.30.1");
const MAX_DER: usize = 16 * 1024;

#[cfg(test)]
mod tests;
