//! The root's next CRL: made where the root key is, taken in where the issuing key is. Both may be one box.
//!
//! What was revoked stays revoked, numbers rise, and nothing is taken that does not verify. Whoever serves it records it:
//! the issuer, when it finds the file in `ca/`.

use std::collections::BTreeMap;

use super::CeremonyError;
use super::certificates::{NextCrl, sign_root_crl};
use super::execute::Outcome;
use super::keys::Keys;
use super::later::{refused, unchanged};
use super::plan::{Plan, Scope, Urls, published_as};
use super::state::{Place, RootRecord, Tokens, token};
use super::transcript::{CertificateLine, CrlLine, Title, Transcript};
use crate::id::{Serial, Timestamp, hex};
use crate::pki::authority::{Authority, KeyRecord};
use crate::pki::certificate::Certificate;
use crate::pki::crl::{self, Crl, RevokedEntry};

/// A certificate of the root that shall be trusted no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    pub serial: Serial,
    /// CRLReason (RFC 5280 section 5.3.1); never certificateHold or removeFromCRL.
    pub reason: Option<u8>,
    /// The certificate itself, where `ca/` does not know it.
    pub certificate: Option<Certificate>,
}

/// Reasons for which a root revokes, by their names in RFC 5280.
pub const REASONS: &[(&str, u8)] = &[
    ("unspecified", 0),
    ("keyCompromise", 1),
    ("cACompromise", 2),
    ("affiliationChanged", 3),
    ("superseded", 4),
    ("cessationOfOperation", 5),
    ("privilegeWithdrawn", 9),
];

/// A root of this box.
struct Root {
    name: String,
    certificate: Certificate,
    key: Option<KeyRecord>,
    url: String,
}

/// Signs the next CRL with the root key of this box and puts it in place; `Outcome::crl` travels to the box that
/// serves, if that is another.
pub fn sign(
    plan: &Plan,
    tokens: &Tokens,
    place: &Place,
    revocation: Option<&Revocation>,
) -> Result<(Outcome, Vec<u8>), CeremonyError> {
    if plan.scope == Scope::Online {
        return Err(refused(
            "CHY-CEREMONY-FILE: this file has no root key; sign where the root is, then use import-root-crl here",
        ));
    }
    let mut roots = roots(place)?;
    let at = roots.iter().position(|root| root.url == plan.document.urls.root_crl);
    let at = at.ok_or_else(|| {
        refused("CHY-CEREMONY-FILE: urls.root-crl is not what the ceremony fixed")
    })?;
    let root = roots.swap_remove(at);
    let record = root.key.as_ref().ok_or_else(|| {
        refused("CHY-CA-ABSENT: the root key of this CA is on another box; sign there, then use import-root-crl here")
    })?;
    let now = place.clock.now();
    let before = before(place, &root)?;
    if let Some((last, _)) = before.as_ref().filter(|(last, _)| last.this_update > now) {
        return Err(refused(&format!(
            "CHY-CLOCK-BACK: this machine's clock shows {now}, but the root's last CRL is of {}; set the clock",
            last.this_update
        )));
    }
    let mut revoked = before.as_ref().map_or_else(Vec::new, |(last, _)| last.revoked.clone());
    if let Some(new) = revocation {
        known(place, &root.certificate, new)?;
        if revoked.iter().any(|entry| entry.serial == new.serial) {
            return Err(refused(&format!(
                "CHY-ROOT-REVOKED: the root has revoked {} already; nothing was signed",
                new.serial
            )));
        }
        let at = Timestamp::from_unix_seconds(now.unix_seconds());
        revoked.push(RevokedEntry { serial: new.serial, at, reason: new.reason });
    }
    // Time is in it: it rises also over what a lost disk has forgotten.
    let last = before.as_ref().map_or(0, |(last, _)| last.number);
    let days = plan.document.root_crl_days.unwrap_or_default();
    let next = NextCrl { number: last.saturating_add(1).max(now.0), days, revoked };

    let id = record.id().map_err(|why| broken(place, &format!("the root key: {why}")))?;
    let role = plan.keys.iter().find(|key| key.name == "root");
    let role = role.ok_or_else(|| refused("CHY-CEREMONY-FILE: this file has no root key"))?;
    let public =
        record.public_key().map_err(|why| broken(place, &format!("the root key: {why}")))?;
    if public.spki() != root.certificate.public_key().spki() {
        return Err(broken(place, "the root key is not the root certificate's"));
    }
    let direct = token(tokens, &role.token)?;
    let said = |why: crate::hsm::token::TokenError| refused(&why.to_string());
    let signer = direct.key("root", &id, public).map_err(said)?;
    let signed = sign_root_crl(&next, now, &signer, &root.certificate).map_err(unchanged)?;

    let mut transcript = Transcript::begin(plan, tokens, &Keys(BTreeMap::new()), "root-crl", now);
    transcript.certificates.push(CertificateLine::of("root", &root.certificate));
    transcript.root_crl = Some(signed.line);
    let outcome = put(place, transcript, &root, &signed.der)?;
    Ok((outcome, signed.der))
}

/// Takes in a CRL that the root signed elsewhere.
pub fn import(place: &Place, der: &[u8]) -> Result<Outcome, CeremonyError> {
    let now = place.clock.now();
    let (root, list) = judged(place, der, now)?;
    let title = Title {
        ceremony: "root-crl",
        description: "The root's CRL, signed elsewhere",
        understood: der.to_vec(),
        origin: "",
        urls: Urls { aia: String::new(), crl: String::new(), root_crl: root.url.clone() },
    };
    let nothing = Keys(BTreeMap::new());
    let mut transcript = Transcript::of(title, &Tokens::new(), &nothing, "import-root-crl", now);
    transcript.certificates.push(CertificateLine::of("root", &root.certificate));
    transcript.root_crl = Some(CrlLine::of(&list, der));
    put(place, transcript, &root, der)
}

/// Whether a CRL may take the place of the one that is here; what it says.
pub fn judge(place: &Place, der: &[u8], now: Timestamp) -> Result<Crl, CeremonyError> {
    judged(place, der, now).map(|(_, list)| list)
}

/// Which root's it is, too.
fn judged(place: &Place, der: &[u8], now: Timestamp) -> Result<(Root, Crl), CeremonyError> {
    let refuse = |why: &str| refused(&format!("CHY-CEREMONY-IMPORT: the root's CRL: {why}"));
    let mut verified = Err("there is no root".to_owned());
    for root in roots(place)? {
        match crl::parse_verified(der, &root.certificate) {
            Ok(list) => {
                verified = Ok((root, list));
                break;
            }
            Err(why) => verified = Err(why),
        }
    }
    let (root, list) = verified.map_err(|why| refuse(&format!("it does not stand: {why}")))?;
    if list.shard.is_some() {
        return Err(refuse("it is a part, not the whole"));
    }
    if list.next_update <= now {
        return Err(refuse("it has ended"));
    }
    if list.this_update > now.plus(SKEW) {
        return Err(refuse(&format!(
            "it is of {}, and this machine's clock shows {now}; one of two clocks is wrong",
            list.this_update
        )));
    }
    if let Some((last, _)) = before(place, &root)? {
        if list.number <= last.number || list.this_update < last.this_update {
            return Err(refuse(&format!(
                "its number {} of {} does not follow the present {} of {}",
                list.number, list.this_update, last.number, last.this_update
            )));
        }
        let kept = |old: &RevokedEntry| list.revoked.contains(old);
        if let Some(lost) = last.revoked.iter().find(|old| !kept(old)) {
            return Err(refuse(&format!("it revokes {} no more as before", lost.serial)));
        }
    }
    Ok((root, list))
}

/// Whether the list revokes an issuing certificate that this box issues by.
pub fn revokes_own(place: &Place, list: &Crl) -> bool {
    let Ok(Some(authority)) = place.authority() else { return false };
    let newest = authority.issuers().filter(|issuing| {
        authority.newest_of(issuing.line).is_some_and(|newest| newest.name == issuing.name)
    });
    let serials = newest.filter_map(|own| Certificate::parse_pem(own.certificate?).ok()?.serial());
    serials.into_iter().any(|own| list.revoked.iter().any(|entry| entry.serial == own))
}

/// The transcript, the file in `ca/`, and what everyone sees.
fn put(
    place: &Place,
    mut transcript: Transcript,
    root: &Root,
    der: &[u8],
) -> Result<Outcome, CeremonyError> {
    let sha256 = transcript.store(place).map_err(unchanged)?;
    place.write(&place.crl_path(&root.name), der).map_err(unchanged)?;
    if let Some(file) = published_as(&root.url) {
        // What is kept counts: the issuer publishes it again from there.
        place.write(&place.public.join(file), der).map_err(unchanged)?;
    }
    Ok(Outcome { transcript, transcript_sha256: sha256, carry: None })
}

/// Those that this box knows, oldest first.
fn roots(place: &Place) -> Result<Vec<Root>, CeremonyError> {
    let read = |name: &str, pem: &str, key: Option<&KeyRecord>, url: &str| {
        let certificate = Certificate::parse_pem(pem).map_err(|why| broken(place, &why.0))?;
        Ok(Root { name: name.into(), certificate, key: key.cloned(), url: url.into() })
    };
    if let Some(authority) = place.authority()? {
        let roots = authority.roots();
        return roots.map(|r| read(r.name, r.certificate, r.key, r.crl_url)).collect();
    }
    match place.read_json::<RootRecord>(&place.root_path())? {
        Some(own) => {
            let name = Authority::FIRST_ROOT;
            Ok(vec![read(name, &own.root, Some(&own.root_key), &own.root_crl_url)?])
        }
        None => Err(refused(&format!(
            "CHY-CA-ABSENT: {} holds neither a CA nor a root; hold its ceremony first",
            place.ca.display()
        ))),
    }
}

/// The root's CRL that is here, and its octets.
fn before(place: &Place, root: &Root) -> Result<Option<(Crl, Vec<u8>)>, CeremonyError> {
    let (path, root) = (place.crl_path(&root.name), &root.certificate);
    match place.disk.read(&path, crl::MAX_DER as u64) {
        Ok(der) => crl::parse_verified(&der, root).map(|list| Some((list, der))).map_err(|why| {
            refused(&format!("CHY-CA-BROKEN: {}: {why}; restore it from a backup", path.display()))
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(refused(&format!("CHY-STATE-DIR: {}: {error}", path.display()))),
    }
}

/// A mistyped serial would revoke nothing, and nobody would notice: it must be one that this root has certified.
fn known(place: &Place, root: &Certificate, new: &Revocation) -> Result<(), CeremonyError> {
    if let Some(given) = &new.certificate {
        if given.serial() == Some(new.serial) && given.verify_issued_by(root) {
            return Ok(());
        }
        return Err(refused(
            "CHY-ROOT-REVOKE: the certificate that was given is not the root's, or has another serial number",
        ));
    }
    let authority = place.authority()?;
    let own = authority.iter().flat_map(|authority| authority.issuers());
    let own = own.filter_map(|own| Certificate::parse_pem(own.certificate?).ok()?.serial());
    let own: Vec<Serial> = own.collect();
    let hex = hex(new.serial.octets());
    let said = |name: &String| {
        name.starts_with("transcript-")
            && name.ends_with(".json")
            && place.read_json::<Transcript>(&place.ca.join(name)).is_ok_and(|read| {
                read.is_some_and(|transcript| {
                    transcript
                        .certificates
                        .iter()
                        .any(|line| line.serial == hex && line.what.starts_with("issuing"))
                })
            })
    };
    let names = place.disk.list(&place.ca).unwrap_or_default();
    if own.contains(&new.serial) || names.iter().any(said) {
        return Ok(());
    }
    Err(refused(&format!(
        "CHY-ROOT-REVOKE: no transcript in {} names an issuing certificate with the serial number {}; check it, or give \
         the certificate with --certificate",
        place.ca.display(),
        new.serial
    )))
}

fn broken(place: &Place, why: &str) -> CeremonyError {
    refused(&format!("CHY-CA-BROKEN: {}: {why}", place.ca.display()))
}

/// By how much the clocks of two boxes may differ.
const SKEW: std::time::Duration = std::time::Duration::from_secs(86_400);
