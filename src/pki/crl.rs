//! Certificate revocation lists, built directly as TbsCertList (RFC 5280 section 5).

use super::certificate::Certificate;
use super::key::SignatureAlgorithm;
use crate::id::{Serial, Timestamp};

/// One revoked certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevokedEntry {
    pub serial: Serial,
    pub at: Timestamp,
    pub reason: Option<u8>,
}

/// The TbsCertList to sign: v2, AKI (the issuer's SKI), CRLNumber; revokedCertificates absent when empty.
pub fn tbs(
    issuer: &Certificate,
    number: u64,
    this_update: Timestamp,
    next_update: Timestamp,
    revoked: &[RevokedEntry],
) -> Vec<u8> {
    todo!()
}

/// `SEQUENCE { tbs, algorithm, BIT STRING signature }`.
pub fn assemble(tbs: &[u8], algorithm: SignatureAlgorithm, signature: &[u8]) -> Vec<u8> {
    todo!()
}

/// What a CRL says, as x509-cert read it; its signature verified under `issuer`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crl {
    pub number: u64,
    pub this_update: Timestamp,
    pub next_update: Timestamp,
    pub revoked: Vec<RevokedEntry>,
}

/// Parses and verifies.
pub fn parse_verified(der: &[u8], issuer: &Certificate) -> Result<Crl, String> {
    todo!()
}
