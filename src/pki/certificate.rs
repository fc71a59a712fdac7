//! A certificate as bytes plus what x509-cert read from them; assembly of TBS and signature.

use super::key::{PublicKey, SignatureAlgorithm};
use super::name::Identifier;
use crate::id::{Serial, Timestamp};

/// A parsed certificate. Parsing verifies no signature.
#[derive(Clone, Debug)]
pub struct Certificate {
    der: Vec<u8>,
}

/// The bytes are not one DER certificate with a supported key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotACertificate(pub String);

impl Certificate {
    pub fn parse(der: &[u8]) -> Result<Self, NotACertificate> {
        todo!()
    }
    /// Exactly one `CERTIFICATE` block, nothing else but white space.
    pub fn parse_pem(pem: &str) -> Result<Self, NotACertificate> {
        todo!()
    }
    /// `SEQUENCE { tbs, algorithm, BIT STRING signature }`, byte for byte around `tbs`.
    pub fn assemble(
        tbs: &[u8],
        algorithm: SignatureAlgorithm,
        signature: &[u8],
    ) -> Result<Self, NotACertificate> {
        todo!()
    }
    pub fn der(&self) -> &[u8] {
        &self.der
    }
    /// One PEM block with LF line ends.
    pub fn pem(&self) -> String {
        todo!()
    }
    /// The TBSCertificate bytes as they stand in the certificate.
    pub fn tbs(&self) -> &[u8] {
        todo!()
    }
    /// The outer signature.
    pub fn signature(&self) -> (SignatureAlgorithm, &[u8]) {
        todo!()
    }
    pub fn public_key(&self) -> &PublicKey {
        todo!()
    }
    /// `None` for serials this server cannot have chosen.
    pub fn serial(&self) -> Option<Serial> {
        todo!()
    }
    /// (notBefore, notAfter), both inclusive.
    pub fn validity(&self) -> (Timestamp, Timestamp) {
        todo!()
    }
    /// DER of the subject Name.
    pub fn subject_der(&self) -> &[u8] {
        todo!()
    }
    /// RFC 4514 text of the subject, for people.
    pub fn subject(&self) -> String {
        todo!()
    }
    /// DNS names and addresses of the SAN, in order.
    pub fn identifiers(&self) -> Vec<Identifier> {
        todo!()
    }
    /// subjectKeyIdentifier.
    pub fn subject_key_id(&self) -> Option<&[u8]> {
        todo!()
    }
    /// authorityKeyIdentifier's keyIdentifier.
    pub fn authority_key_id(&self) -> Option<&[u8]> {
        todo!()
    }
    pub fn is_ca(&self) -> bool {
        todo!()
    }
    /// SHA-256 over the DER.
    pub fn fingerprint(&self) -> [u8; 32] {
        todo!()
    }
    /// Verifies this certificate's signature under `issuer`, and that names and key ids match.
    pub fn verify_issued_by(&self, issuer: &Self) -> bool {
        todo!()
    }
}
