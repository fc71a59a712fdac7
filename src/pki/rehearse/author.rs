//! rcgen's part: it writes a certificate and asks for a signature; what it asks to have signed is
//! the TBSCertificate. No key is involved, and nothing here judges what was written.

use std::cell::RefCell;
use std::time::Duration;

use der::asn1::AnyRef;
use der::{Decode, Reader, SliceReader, Tag};
use rcgen::string::{BmpString, Ia5String, PrintableString, TeletexString};
use rcgen::{
    BasicConstraints, CertificateParams, CrlDistributionPoint, CustomExtension, DistinguishedName,
    DnType, DnValue, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyUsagePurpose,
    PublicKeyData, SanType, SerialNumber, SigningKey, date_time_ymd,
};
use x509_cert::name::Name;

use super::{Ca, Leaf, RehearsalError};
use crate::id::{Serial, Timestamp};
use crate::pki::constraint::NameConstraints;
use crate::pki::key::{KeyKind, PublicKey, SignatureAlgorithm};
use crate::pki::name::Identifier;
use crate::pki::profile::ExtendedUsage;
use crate::pki::tlv;

/// id-pe-authorityInfoAccess.
const AUTHORITY_INFO_ACCESS: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 1, 1];
/// id-ce-noRevAvail (RFC 9608).
const NO_REV_AVAIL: &[u64] = &[2, 5, 29, 56];
/// id-ce-nameConstraints.
const NAME_CONSTRAINTS: &[u64] = &[2, 5, 29, 30];

type Validity = (Timestamp, Timestamp);

/// Writes a leaf; the bytes are those of its TBSCertificate.
pub(super) fn leaf(
    leaf: &Leaf<'_>,
    common_name: Option<&str>,
    validity: Validity,
) -> Result<Vec<u8>, RehearsalError> {
    let mut params = blank(leaf.serial, leaf.key, validity)?;
    if let Some(name) = common_name {
        params.distinguished_name.push(DnType::CommonName, utf8_or_printable(name));
    }
    params.subject_alt_names = leaf
        .identifiers
        .iter()
        .map(|identifier| match identifier {
            Identifier::Dns(name) => {
                Ok(SanType::DnsName(Ia5String::try_from(name.as_str()).map_err(encoding)?))
            }
            Identifier::Ip(address) => Ok(SanType::IpAddress(*address)),
        })
        .collect::<Result<_, _>>()?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = leaf
        .profile
        .usages
        .iter()
        .map(|usage| match usage {
            ExtendedUsage::Server => ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedUsage::Client => ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedUsage::CodeSigning => ExtendedKeyUsagePurpose::CodeSigning,
        })
        .collect();
    // Writes SKI and basicConstraints both.
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    let no_rev_avail = leaf.profile.no_rev_avail;
    point_to(&mut params, Some(leaf.aia_url), (!no_rev_avail).then_some(leaf.crl_url));
    if no_rev_avail {
        params
            .custom_extensions
            .push(CustomExtension::from_oid_content(NO_REV_AVAIL, tlv::NULL.to_vec()));
    }
    write(&params, leaf.key, &Above::certificate(leaf.issuer)?)
}

/// Writes a CA certificate; the bytes are those of its TBSCertificate.
pub(super) fn ca(
    ca: &Ca<'_>,
    constraints: Option<&NameConstraints>,
    validity: Validity,
) -> Result<Vec<u8>, RehearsalError> {
    let mut params = blank(ca.serial, ca.key, validity)?;
    let name = &mut params.distinguished_name;
    if let Some(organization) = &ca.template.organization {
        name.push(DnType::OrganizationName, utf8_or_printable(organization));
    }
    name.push(DnType::CommonName, utf8_or_printable(&ca.template.common_name));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.is_ca = IsCa::Ca(match ca.template.path_length {
        None => BasicConstraints::Unconstrained,
        Some(length) => BasicConstraints::Constrained(length),
    });
    // RFC 5280 section 4.2.1.1 lets self-signed certificates omit it.
    params.use_authority_key_identifier_extension = ca.issuer.is_some();
    point_to(&mut params, ca.aia_url, ca.crl_url);
    if let Some(constraints) = constraints {
        // By hand: rcgen's own name constraints cannot speak of URIs.
        let mut extension =
            CustomExtension::from_oid_content(NAME_CONSTRAINTS, constraints.to_der());
        extension.set_criticality(true);
        params.custom_extensions.push(extension);
    }
    let above = match ca.issuer {
        Some(issuer) => Above::certificate(issuer)?,
        None => Above {
            name: params.distinguished_name.clone(),
            key_id: ca.key.key_id().to_vec(),
            key: ca.key,
        },
    };
    write(&params, ca.key, &above)
}

/// What a certificate takes from the one above it.
struct Above<'a> {
    name: DistinguishedName,
    key_id: Vec<u8>,
    key: &'a PublicKey,
}

impl<'a> Above<'a> {
    fn certificate(
        issuer: &'a crate::pki::certificate::Certificate,
    ) -> Result<Self, RehearsalError> {
        let key_id = issuer.subject_key_id().ok_or_else(|| {
            RehearsalError::Encoding("the issuer has no subjectKeyIdentifier".to_owned())
        })?;
        Ok(Self {
            name: distinguished_name(issuer.subject_der())?,
            key_id: key_id.to_vec(),
            key: issuer.public_key(),
        })
    }
}

fn blank(
    serial: Serial,
    key: &PublicKey,
    (not_before, not_after): Validity,
) -> Result<CertificateParams, RehearsalError> {
    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from_slice(serial.octets()));
    if not_before.max(not_after).unix_seconds() > tlv::LAST_SECOND {
        return Err(RehearsalError::Encoding(format!("{not_after} has no place in DER")));
    }
    let moment = |at: Timestamp| date_time_ymd(1970, 1, 1) + Duration::from_secs(at.unix_seconds());
    params.not_before = moment(not_before);
    params.not_after = moment(not_after);
    params.distinguished_name = DistinguishedName::new();
    params.key_identifier_method = KeyIdMethod::PreSpecified(key.key_id().to_vec());
    Ok(params)
}

fn point_to(params: &mut CertificateParams, aia_url: Option<&str>, crl_url: Option<&str>) {
    if let Some(url) = aia_url {
        let location = tlv::element(0x86, &[url.as_bytes()]);
        let content = tlv::sequence(&[&tlv::sequence(&[&tlv::OID_CA_ISSUERS, &location])]);
        params
            .custom_extensions
            .push(CustomExtension::from_oid_content(AUTHORITY_INFO_ACCESS, content));
    }
    if let Some(url) = crl_url {
        params.crl_distribution_points.push(CrlDistributionPoint { uris: vec![url.to_owned()] });
    }
}

fn write(
    params: &CertificateParams,
    key: &PublicKey,
    above: &Above<'_>,
) -> Result<Vec<u8>, RehearsalError> {
    let mut issuer = CertificateParams::default();
    issuer.distinguished_name = above.name.clone();
    issuer.key_identifier_method = KeyIdMethod::PreSpecified(above.key_id.clone());
    let algorithm = above.key.preferred_algorithm();
    let listener = Listener {
        algorithm: signature_algorithm(algorithm),
        key_bits: above.key.key_bits(),
        heard: RefCell::new(Vec::new()),
    };
    let subject = Subject { algorithm: key_algorithm(key.kind()), key_bits: key.key_bits() };
    let issuer = Issuer::from_params(&issuer, &listener);
    let certificate = params.signed_by(&subject, &issuer).map_err(encoding)?;
    let heard = listener.heard.take();
    match tlv::signed_body(certificate.der()) {
        Some(written) if certificate.der()[written.clone()] == heard => {
            with_algorithm(heard, algorithm)
        }
        _ => Err(RehearsalError::Encoding(
            "what was to be signed is not what the certificate holds".to_owned(),
        )),
    }
}

/// A TBSCertificate whose `signature` is `algorithm`'s identifier, whichever rcgen wrote there.
fn with_algorithm(tbs: Vec<u8>, algorithm: SignatureAlgorithm) -> Result<Vec<u8>, RehearsalError> {
    let odd = |_: der::Error| RehearsalError::Encoding("rcgen's TBSCertificate".to_owned());
    let body = AnyRef::from_der(&tbs).map_err(odd)?.value();
    let mut reader = SliceReader::new(body).map_err(odd)?;
    // RFC 5280 section 4.1: version, serialNumber, signature.
    let (version, serial) = (reader.tlv_bytes().map_err(odd)?, reader.tlv_bytes().map_err(odd)?);
    if reader.tlv_bytes().map_err(odd)? == algorithm.identifier_der() {
        return Ok(tbs);
    }
    let rest = reader.read_slice(reader.remaining_len()).map_err(odd)?;
    Ok(tlv::sequence(&[version, serial, algorithm.identifier_der(), rest]))
}

/// A key to be certified.
struct Subject<'a> {
    algorithm: &'static rcgen::SignatureAlgorithm,
    key_bits: &'a [u8],
}

impl PublicKeyData for Subject<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.key_bits
    }
    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        self.algorithm
    }
}

/// A signer without a key: keeps the message and answers with filler.
struct Listener<'a> {
    algorithm: &'static rcgen::SignatureAlgorithm,
    key_bits: &'a [u8],
    heard: RefCell<Vec<u8>>,
}

impl PublicKeyData for Listener<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.key_bits
    }
    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        self.algorithm
    }
}

impl SigningKey for Listener<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        *self.heard.borrow_mut() = message.to_vec();
        Ok(vec![0; 64])
    }
}

/// rcgen knows a key's algorithm by a signature algorithm that such a key can make.
fn key_algorithm(kind: KeyKind) -> &'static rcgen::SignatureAlgorithm {
    match kind {
        KeyKind::EcP256 => &rcgen::PKCS_ECDSA_P256_SHA256,
        KeyKind::EcP384 => &rcgen::PKCS_ECDSA_P384_SHA384,
        KeyKind::EcP521 => &rcgen::PKCS_ECDSA_P521_SHA512,
        KeyKind::Rsa(_) => &rcgen::PKCS_RSA_SHA256,
        KeyKind::Ed25519 => &rcgen::PKCS_ED25519,
        KeyKind::MlDsa44 => &rcgen::PKCS_ML_DSA_44,
        KeyKind::MlDsa65 => &rcgen::PKCS_ML_DSA_65,
        KeyKind::MlDsa87 => &rcgen::PKCS_ML_DSA_87,
    }
}

/// rcgen's algorithms are tied to curves; as AlgorithmIdentifier they are not (RFC 5758). RSASSA-PSS it does not
/// know: another stands in, and `write` puts the right one in its place.
fn signature_algorithm(algorithm: SignatureAlgorithm) -> &'static rcgen::SignatureAlgorithm {
    match algorithm {
        SignatureAlgorithm::EcdsaSha256 => &rcgen::PKCS_ECDSA_P256_SHA256,
        SignatureAlgorithm::EcdsaSha384 => &rcgen::PKCS_ECDSA_P384_SHA384,
        SignatureAlgorithm::EcdsaSha512 => &rcgen::PKCS_ECDSA_P521_SHA512,
        SignatureAlgorithm::RsaSha256 => &rcgen::PKCS_RSA_SHA256,
        SignatureAlgorithm::RsaSha384 => &rcgen::PKCS_RSA_SHA384,
        SignatureAlgorithm::RsaSha512 => &rcgen::PKCS_RSA_SHA512,
        SignatureAlgorithm::Ed25519 => &rcgen::PKCS_ED25519,
        SignatureAlgorithm::RsaPssSha256 | SignatureAlgorithm::RsaPssSha384 => {
            &rcgen::PKCS_RSA_SHA256
        }
        SignatureAlgorithm::MlDsa44 => &rcgen::PKCS_ML_DSA_44,
        SignatureAlgorithm::MlDsa65 => &rcgen::PKCS_ML_DSA_65,
        SignatureAlgorithm::MlDsa87 => &rcgen::PKCS_ML_DSA_87,
    }
}

/// The issuer's name in rcgen's words. It holds one value of each attribute type and one attribute
/// in each RDN; a lint compares the bytes that come out with those that went in.
fn distinguished_name(der: &[u8]) -> Result<DistinguishedName, RehearsalError> {
    let name = Name::from_der(der).map_err(|error| RehearsalError::Encoding(error.to_string()))?;
    let mut written = DistinguishedName::new();
    for rdn in name.iter_rdn() {
        for attribute in rdn.iter() {
            let arcs: Vec<u64> = attribute.oid.arcs().map(u64::from).collect();
            let octets = attribute.value.value();
            let text = || {
                std::str::from_utf8(octets)
                    .map_err(|_| RehearsalError::Encoding("an issuer name not in UTF-8".to_owned()))
            };
            let value = match der::Tagged::tag(&attribute.value) {
                Tag::Utf8String => DnValue::Utf8String(text()?.to_owned()),
                Tag::PrintableString => {
                    DnValue::PrintableString(PrintableString::try_from(text()?).map_err(encoding)?)
                }
                Tag::Ia5String => {
                    DnValue::Ia5String(Ia5String::try_from(text()?).map_err(encoding)?)
                }
                Tag::TeletexString => {
                    DnValue::TeletexString(TeletexString::try_from(text()?).map_err(encoding)?)
                }
                Tag::BmpString => {
                    DnValue::BmpString(BmpString::from_utf16be(octets.to_vec()).map_err(encoding)?)
                }
                other => {
                    return Err(RehearsalError::Encoding(format!("an issuer name with {other}")));
                }
            };
            let kind = DnType::from_oid(&arcs);
            if rdn.len() != 1 || written.get(&kind).is_some() {
                return Err(RehearsalError::Encoding(
                    "an issuer name with several values of one kind or in one RDN".to_owned(),
                ));
            }
            written.push(kind, value);
        }
    }
    Ok(written)
}

/// PrintableString where it suffices, else UTF8String: the two that RFC 5280 section 4.1.2.4 allows.
fn utf8_or_printable(text: &str) -> DnValue {
    match PrintableString::try_from(text) {
        Ok(printable) => DnValue::PrintableString(printable),
        Err(_) => DnValue::Utf8String(text.to_owned()),
    }
}

fn encoding(error: impl std::fmt::Display) -> RehearsalError {
    RehearsalError::Encoding(error.to_string())
}
