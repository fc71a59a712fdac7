//! PKCS#10 requests (RFC 2986): the key and the names they ask for, and nothing else of them.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use const_oid::ObjectIdentifier;
use const_oid::db::{rfc4519, rfc5280, rfc5912};
use der::{Decode, Reader, SliceReader, Tag, TagNumber};

use super::key::{NotAKey, PublicKey, SignatureAlgorithm, WeakKey};
use super::name::{DnsName, Identifier};

/// A request whose self-signature verified over its original bytes.
///
/// Of all it may ask for, only the key and the names are kept: what else a certificate holds is
/// for the profile to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Csr {
    key: PublicKey,
    identifiers: BTreeSet<Identifier>,
}

/// Why a CSR is refused; `Display` is fit for a `badCSR` problem document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CsrError {
    /// More than [`Csr::MAX_DER`] octets, or more attributes, extensions or names than anyone needs.
    TooLarge,
    /// Not a DER CertificationRequest, or one that contradicts itself.
    Malformed(&'static str),
    /// The public key is not one we know.
    Key(NotAKey),
    /// The public key is too weak.
    WeakKey(WeakKey),
    /// The signature does not verify, or was not made with a SHA-2 hash.
    Signature,
    /// A name that this CA cannot put in a certificate; the text says which and why.
    Name(String),
    /// The subject's common name is not among the subjectAltNames.
    CommonNameNotInSan,
    /// basicConstraints with CA:true.
    AsksForCa,
}

impl Csr {
    /// At most this many octets of DER.
    pub const MAX_DER: usize = 16 * 1024;

    /// Parses, verifies the signature (SHA-2 family only), checks key strength, collects SAN ∪ CN.
    ///
    /// A common name must repeat a SAN where there are SANs, and be a DNS name where there are
    /// none. SANs other than DNS names and addresses are refused, other extensions ignored. A
    /// request without any name parses: the order says which names it needs.
    pub fn parse(der: &[u8]) -> Result<Self, CsrError> {
        if der.len() > Self::MAX_DER {
            return Err(CsrError::TooLarge);
        }
        let request = Request::read(der)?;
        let key = PublicKey::from_spki(request.spki).map_err(CsrError::Key)?;
        key.check_strength().map_err(CsrError::WeakKey)?;
        let algorithm = SignatureAlgorithm::from_identifier_der(request.algorithm)
            .ok_or(CsrError::Signature)?;
        if !key.verify(algorithm, request.info, request.signature) {
            return Err(CsrError::Signature);
        }
        let mut wanted = Wanted::default();
        wanted.read_attributes(request.attributes)?;
        wanted.read_subject(request.subject)?;
        Ok(Self { key, identifiers: wanted.identifiers })
    }

    /// The key to certify.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// DNS names and addresses of the SAN, and of a CN that repeats one.
    pub fn identifiers(&self) -> &BTreeSet<Identifier> {
        &self.identifiers
    }
}

impl fmt::Display for CsrError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => f.write_str("the CSR is too large"),
            Self::Malformed(what) => write!(f, "the CSR is malformed: {what}"),
            Self::Key(why) => write!(f, "the CSR's public key is refused: {why}"),
            Self::WeakKey(why) => write!(f, "the CSR's public key is too weak: {why}"),
            Self::Signature => {
                f.write_str("the CSR's signature does not verify with a supported SHA-2 algorithm")
            }
            Self::Name(what) => write!(f, "the CSR asks for a name that is refused: {what}"),
            Self::CommonNameNotInSan => {
                f.write_str("the CSR's common name is not among its subject alternative names")
            }
            Self::AsksForCa => f.write_str("the CSR asks for a CA certificate"),
        }
    }
}

impl std::error::Error for CsrError {}

/// The parts of a CertificationRequest, as slices of its bytes.
struct Request<'a> {
    /// The whole CertificationRequestInfo: what is signed.
    info: &'a [u8],
    /// The content of the subject's SEQUENCE.
    subject: &'a [u8],
    /// The whole SubjectPublicKeyInfo.
    spki: &'a [u8],
    /// The content of the attributes' SET.
    attributes: &'a [u8],
    /// The whole signature AlgorithmIdentifier.
    algorithm: &'a [u8],
    /// The octets of the signature.
    signature: &'a [u8],
}

impl<'a> Request<'a> {
    fn read(der: &'a [u8]) -> Result<Self, CsrError> {
        let mut outer = Elements::of(der);
        let mut request = Elements::of(outer.only(Tag::Sequence)?.content);
        let info = request.next(Tag::Sequence)?;
        let algorithm = request.next(Tag::Sequence)?;
        let signature = request.next(Tag::BitString)?;
        request.end()?;

        let mut fields = Elements::of(info.content);
        if fields.next(Tag::Integer)?.content != [0] {
            return Err(CsrError::Malformed("its version is not 1"));
        }
        let subject = fields.next(Tag::Sequence)?;
        let spki = fields.next(Tag::Sequence)?;
        let attributes =
            fields.next(Tag::ContextSpecific { constructed: true, number: TagNumber(0) })?;
        fields.end()?;
        let Some((0, signature)) = signature.content.split_first() else {
            return Err(CsrError::Malformed("its signature is not whole octets"));
        };
        Ok(Self {
            info: info.whole,
            subject: subject.content,
            spki: spki.whole,
            attributes: attributes.content,
            algorithm: algorithm.whole,
            signature,
        })
    }
}

/// What the request asks for, as it is collected.
#[derive(Default)]
struct Wanted {
    identifiers: BTreeSet<Identifier>,
    has_san: bool,
}

impl Wanted {
    /// `attributes` is the content of `[0] IMPLICIT SET OF Attribute`.
    fn read_attributes(&mut self, attributes: &[u8]) -> Result<(), CsrError> {
        let mut attributes = Elements::of(attributes);
        let mut seen = Vec::new();
        while let Some(attribute) = attributes.try_next(MAX_ATTRIBUTES)? {
            let mut fields = Elements::of(attribute.is(Tag::Sequence)?.content);
            let kind = fields.oid()?;
            let values = fields.next(Tag::Set)?;
            fields.end()?;
            if seen.contains(&kind) {
                return Err(CsrError::Malformed("an attribute stands twice"));
            }
            seen.push(kind);
            if kind == rfc5912::ID_EXTENSION_REQ || kind == MS_EXTENSION_REQUEST {
                let mut values = Elements::of(values.content);
                self.read_extensions(values.only(Tag::Sequence)?.content)?;
            }
        }
        Ok(())
    }

    /// `extensions` is the content of `SEQUENCE OF Extension`.
    fn read_extensions(&mut self, extensions: &[u8]) -> Result<(), CsrError> {
        let mut extensions = Elements::of(extensions);
        let mut seen = Vec::new();
        while let Some(extension) = extensions.try_next(MAX_EXTENSIONS)? {
            let mut fields = Elements::of(extension.is(Tag::Sequence)?.content);
            let kind = fields.oid()?;
            let mut value = fields.any()?;
            if value.tag == Tag::Boolean {
                value = fields.any()?;
            }
            let value = value.is(Tag::OctetString)?.content;
            fields.end()?;
            if seen.contains(&kind) {
                return Err(CsrError::Malformed("an extension stands twice"));
            }
            seen.push(kind);
            match kind {
                rfc5280::ID_CE_SUBJECT_ALT_NAME => self.read_san(value)?,
                rfc5280::ID_CE_BASIC_CONSTRAINTS => refuse_ca(value)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// `value` is the DER of GeneralNames.
    fn read_san(&mut self, value: &[u8]) -> Result<(), CsrError> {
        self.has_san = true;
        let mut names = Elements::of(Elements::of(value).only(Tag::Sequence)?.content);
        while let Some(name) = names.try_next(MAX_NAMES)? {
            let identifier = match name.tag {
                DNS_NAME => {
                    let text = ascii(name.content)?;
                    Identifier::Dns(parse_name(text)?)
                }
                IP_ADDRESS => {
                    let address = match name.content.len() {
                        4 => <[u8; 4]>::try_from(name.content).map(IpAddr::from),
                        _ => <[u8; 16]>::try_from(name.content).map(IpAddr::from),
                    };
                    let address = address
                        .map_err(|_| CsrError::Name("an address of odd length".to_owned()))?;
                    Identifier::address(address)
                        .map_err(|why| CsrError::Name(format!("{address}: {why}")))?
                }
                _ => {
                    return Err(CsrError::Name(
                        "only DNS names and IP addresses may be subject alternative names"
                            .to_owned(),
                    ));
                }
            };
            self.identifiers.insert(identifier);
        }
        Ok(())
    }

    /// `subject` is the content of an RDNSequence. After the SANs, since a CN must repeat one.
    fn read_subject(&mut self, subject: &[u8]) -> Result<(), CsrError> {
        let mut rdns = Elements::of(subject);
        while let Some(rdn) = rdns.try_next(MAX_ATTRIBUTES)? {
            let mut pairs = Elements::of(rdn.is(Tag::Set)?.content);
            while let Some(pair) = pairs.try_next(MAX_ATTRIBUTES)? {
                let mut fields = Elements::of(pair.is(Tag::Sequence)?.content);
                let kind = fields.oid()?;
                let value = fields.any()?;
                fields.end()?;
                if kind == rfc4519::CN && !value.content.is_empty() {
                    self.read_common_name(&value)?;
                }
            }
        }
        Ok(())
    }

    fn read_common_name(&mut self, value: &Element<'_>) -> Result<(), CsrError> {
        let text = match value.tag {
            Tag::Utf8String | Tag::PrintableString | Tag::Ia5String | Tag::TeletexString => {
                std::str::from_utf8(value.content).unwrap_or_default()
            }
            _ => "",
        };
        if let Ok(address) = text.parse::<IpAddr>() {
            return if self.identifiers.contains(&Identifier::Ip(address)) {
                Ok(())
            } else if self.has_san {
                Err(CsrError::CommonNameNotInSan)
            } else {
                Err(CsrError::Name("an IP address belongs among the alternative names".to_owned()))
            };
        }
        if self.has_san {
            let repeated = DnsName::parse(text)
                .is_ok_and(|name| self.identifiers.contains(&Identifier::Dns(name)));
            return if repeated { Ok(()) } else { Err(CsrError::CommonNameNotInSan) };
        }
        self.identifiers.insert(Identifier::Dns(parse_name(text)?));
        Ok(())
    }
}

/// `value` is the DER of BasicConstraints. A `cA` of FALSE may be written out: clients do.
fn refuse_ca(value: &[u8]) -> Result<(), CsrError> {
    let mut fields = Elements::of(Elements::of(value).only(Tag::Sequence)?.content);
    match fields.try_next(2)? {
        Some(element) if element.tag == Tag::Boolean && element.content != [0] => {
            Err(CsrError::AsksForCa)
        }
        // A pathLenConstraint without cA is nonsense, and for a CA certificate alone.
        Some(element) if element.tag != Tag::Boolean => Err(CsrError::AsksForCa),
        _ => Ok(()),
    }
}

fn ascii(octets: &[u8]) -> Result<&str, CsrError> {
    std::str::from_utf8(octets)
        .ok()
        .filter(|text| text.is_ascii())
        .ok_or_else(|| CsrError::Name("a DNS name that is not ASCII".to_owned()))
}

/// The name is repeated in the refusal only where it is harmless to print.
fn parse_name(text: &str) -> Result<DnsName, CsrError> {
    DnsName::parse(text).map_err(|why| {
        let printable = text.len() <= 253 && text.bytes().all(|b| b.is_ascii_graphic());
        CsrError::Name(if printable { format!("{text}: {why}") } else { why.to_string() })
    })
}

/// One DER element: its tag, its content, and all of it.
struct Element<'a> {
    tag: Tag,
    content: &'a [u8],
    whole: &'a [u8],
}

impl<'a> Element<'a> {
    fn is(self, tag: Tag) -> Result<Self, CsrError> {
        if self.tag == tag { Ok(self) } else { Err(SHAPE) }
    }
}

/// Steps through elements that follow one another.
struct Elements<'a> {
    rest: &'a [u8],
    taken: usize,
}

impl<'a> Elements<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, taken: 0 }
    }

    /// The next element, `None` at the end; more than `most` are too many.
    fn try_next(&mut self, most: usize) -> Result<Option<Element<'a>>, CsrError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        if self.taken == most {
            return Err(CsrError::TooLarge);
        }
        self.any().map(Some)
    }

    fn any(&mut self) -> Result<Element<'a>, CsrError> {
        let mut reader = SliceReader::new(self.rest).map_err(|_| SHAPE)?;
        let header = der::Header::decode(&mut reader).map_err(|_| SHAPE)?;
        let content = reader.read_slice(header.length()).map_err(|_| SHAPE)?;
        let end = usize::try_from(u32::from(reader.position())).map_err(|_| SHAPE)?;
        let (whole, rest) = self.rest.split_at_checked(end).ok_or(SHAPE)?;
        self.rest = rest;
        self.taken += 1;
        Ok(Element { tag: header.tag(), content, whole })
    }

    fn next(&mut self, tag: Tag) -> Result<Element<'a>, CsrError> {
        self.any()?.is(tag)
    }

    /// The next element, which must also be the last.
    fn only(&mut self, tag: Tag) -> Result<Element<'a>, CsrError> {
        let element = self.next(tag)?;
        self.end()?;
        Ok(element)
    }

    fn oid(&mut self) -> Result<ObjectIdentifier, CsrError> {
        let element = self.next(Tag::ObjectIdentifier)?;
        ObjectIdentifier::from_bytes(element.content).map_err(|_| SHAPE)
    }

    fn end(&self) -> Result<(), CsrError> {
        if self.rest.is_empty() { Ok(()) } else { Err(SHAPE) }
    }
}

const SHAPE: CsrError = CsrError::Malformed("not a DER CertificationRequest");

/// Microsoft's name for the attribute, from before PKCS#9 had one.
const MS_EXTENSION_REQUEST: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.2.1.14");

const DNS_NAME: Tag = Tag::ContextSpecific { constructed: false, number: TagNumber(2) };
const IP_ADDRESS: Tag = Tag::ContextSpecific { constructed: false, number: TagNumber(7) };

const MAX_ATTRIBUTES: usize = 32;
const MAX_EXTENSIONS: usize = 32;
const MAX_NAMES: usize = 256;

#[cfg(test)]
mod tests;
