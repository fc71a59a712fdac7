//! Root and issuing certificate and the root's CRL: rehearsed, signed, verified.

use std::time::Duration;

use super::CeremonyError;
use super::keys::sign_error;
use super::plan::Plan;
use super::state::Place;
use super::transcript::CrlLine;
use crate::env::random_16;
use crate::hsm::Signer;
use crate::hsm::direct::DirectKey;
use crate::id::{Serial, Timestamp};
use crate::pki::certificate::Certificate;
use crate::pki::crl::{self, RevokedEntry};
use crate::pki::key::PublicKey;
use crate::pki::rehearse::{self, Ca, CaTemplate, Tbs};

/// Writes both CA certificates for a key that nobody has, so that a template which no lint lets through is
/// refused before a key exists.
pub(super) fn dress_rehearsal(plan: &Plan, now: Timestamp) -> Result<(), CeremonyError> {
    let key = PublicKey::from_spki(GENERATOR)
        .map_err(|why| CeremonyError::Refused(format!("CHY-INTERNAL: {}", why.0)))?;
    let refused = |why: rehearse::RehearsalError| {
        CeremonyError::Refused(format!(
            "CHY-CEREMONY-FILE: such a certificate cannot be made: {why}"
        ))
    };
    let mut ca = Ca {
        template: template(plan.document.root.as_ref())?,
        key: &key,
        serial: Serial::from_random([1; 16]),
        now,
        issuer: None,
        aia_url: None,
        crl_url: None,
    };
    let tbs = rehearse::ca(&ca).map_err(refused)?;
    let root = Certificate::assemble(tbs.der(), key.preferred_algorithm(), FILLER)
        .map_err(|why| CeremonyError::Refused(format!("CHY-INTERNAL: {}", why.0)))?;
    ca.template = template(plan.document.issuing.as_ref())?;
    ca.serial = Serial::from_random([2; 16]);
    ca.issuer = Some(&root);
    ca.crl_url = Some(&plan.document.urls.root_crl);
    rehearse::ca(&ca).map(|_| ()).map_err(refused)
}

/// The certificate of a CA below `issuer` as it would be for a key that nobody has, so that a template which makes none
/// is refused before a key exists.
pub(super) fn dressed(
    template: &CaTemplate,
    issuer: &Certificate,
    crl_url: &str,
    now: Timestamp,
) -> Result<Certificate, CeremonyError> {
    dress(template, Some(issuer), Some(crl_url), now)
}

fn dress(
    template: &CaTemplate,
    issuer: Option<&Certificate>,
    crl_url: Option<&str>,
    now: Timestamp,
) -> Result<Certificate, CeremonyError> {
    let internal = |why: String| CeremonyError::Refused(format!("CHY-INTERNAL: {why}"));
    let key = PublicKey::from_spki(GENERATOR).map_err(|why| internal(why.0.to_owned()))?;
    let tbs = rehearse::ca(&Ca {
        template,
        key: &key,
        serial: Serial::from_random([1; 16]),
        now,
        issuer,
        aia_url: None,
        crl_url,
    })
    .map_err(|why| {
        CeremonyError::Refused(format!(
            "CHY-CEREMONY-FILE: such a certificate cannot be made: {why}"
        ))
    })?;
    Certificate::of_tbs(tbs.der()).map_err(|why| internal(why.0))
}

/// The certificate of a root as it would be for a key that nobody has.
pub(super) fn dressed_root(
    template: &CaTemplate,
    now: Timestamp,
) -> Result<Certificate, CeremonyError> {
    dress(template, None, None, now)
}

pub(super) struct Subordinate<'a> {
    pub(super) issuer: &'a Certificate,
    pub(super) key: &'a PublicKey,
    pub(super) crl_url: &'a str,
}

/// Rehearses, signs and verifies one CA certificate.
pub(super) fn certify(
    place: &Place,
    now: Timestamp,
    template: &CaTemplate,
    signer: &DirectKey,
    subordinate: Option<Subordinate<'_>>,
) -> Result<Certificate, CeremonyError> {
    let unfinished = |why: String| CeremonyError::Unfinished(why);
    let issuer =
        subordinate.as_ref().map(|s| s.issuer.clone().whose_key_signs_as(signer.public_key()));
    let tbs: Tbs = rehearse::ca(&Ca {
        template,
        key: subordinate.as_ref().map_or_else(|| signer.public_key(), |s| s.key),
        serial: Serial::from_random(random_16(&*place.rng)),
        now,
        issuer: issuer.as_ref(),
        aia_url: None,
        crl_url: subordinate.as_ref().map(|s| s.crl_url),
    })
    .map_err(|why| unfinished(format!("CHY-CEREMONY-FILE: {:?}: {why}", template.common_name)))?;
    let signature = signer.sign(tbs.der()).map_err(|why| unfinished(sign_error(why)))?;
    let algorithm = signer.public_key().preferred_algorithm();
    let certificate = Certificate::assemble(tbs.der(), algorithm, &signature).map_err(|why| {
        unfinished(format!("CHY-INTERNAL: the certificate does not parse: {}", why.0))
    })?;
    let verified = match &subordinate {
        Some(s) => certificate.verify_issued_by(s.issuer),
        None => certificate.verify_issued_by(&certificate),
    };
    if !verified {
        return Err(unfinished(format!(
            "CHY-KEY-MISMATCH: the certificate {:?} does not verify under its issuer",
            template.common_name
        )));
    }
    Ok(certificate)
}

/// What a CRL of the root shall say.
pub(super) struct NextCrl {
    pub(super) number: u64,
    pub(super) days: u32,
    pub(super) revoked: Vec<RevokedEntry>,
}

pub(super) struct RootCrl {
    pub(super) der: Vec<u8>,
    pub(super) line: CrlLine,
}

pub(super) fn sign_root_crl(
    next: &NextCrl,
    now: Timestamp,
    signer: &DirectKey,
    root: &Certificate,
) -> Result<RootCrl, CeremonyError> {
    let unfinished = |why: String| CeremonyError::Unfinished(why);
    // Whole seconds, as the CRL will say.
    let now = Timestamp::from_unix_seconds(now.unix_seconds());
    let (_, root_ends) = root.validity();
    let next_update = now.plus(Duration::from_secs(u64::from(next.days) * 86_400)).min(root_ends);
    let root = &root.clone().whose_key_signs_as(signer.public_key());
    let tbs = crl::tbs(root, next.number, now, next_update, &next.revoked);
    let signature = signer.sign(&tbs).map_err(|why| unfinished(sign_error(why)))?;
    let der = crl::assemble(&tbs, signer.public_key().preferred_algorithm(), &signature);
    let read = crl::parse_verified(&der, root).map_err(|why| {
        unfinished(format!("CHY-INTERNAL: the root's CRL does not verify: {why}"))
    })?;
    let line = CrlLine::of(&read, &der);
    Ok(RootCrl { der, line })
}

pub(super) fn template(template: Option<&CaTemplate>) -> Result<&CaTemplate, CeremonyError> {
    template.ok_or_else(|| {
        CeremonyError::Refused("CHY-CEREMONY-FILE: [root] or [issuing] is missing".to_owned())
    })
}

/// A P-256 key that is nobody's: the generator of the curve.
const GENERATOR: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04, 0x6b, 0x17, 0xd1, 0xf2, 0xe1,
    0x2c, 0x42, 0x47, 0xf8, 0xbc, 0xe6, 0xe5, 0x63, 0xa4, 0x40, 0xf2, 0x77, 0x03, 0x7d, 0x81, 0x2d,
    0xeb, 0x33, 0xa0, 0xf4, 0xa1, 0x39, 0x45, 0xd8, 0x98, 0xc2, 0x96, 0x4f, 0xe3, 0x42, 0xe2, 0xfe,
    0x1a, 0x7f, 0x9b, 0x8e, 0xe7, 0xeb, 0x4a, 0x7c, 0x0f, 0x9e, 0x16, 0x2b, 0xce, 0x33, 0x57, 0x6b,
    0x31, 0x5e, 0xce, 0xcb, 0xb6, 0x40, 0x68, 0x37, 0xbf, 0x51, 0xf5,
];

/// In a signature's place where none is made.
const FILLER: &[u8] = &[0x30, 0x06, 0x02, 0x01, 0x01, 0x02, 0x01, 0x01];
