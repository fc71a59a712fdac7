//! Writes the TBSCertificate that the HSM will be asked to sign, without any key: rcgen writes it
//! under the issuer's name and key id, x509-cert reads it back, the lints judge that reading.

mod author;

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::certificate::Certificate;
use super::constraint::{NameConstraints, parse_suffix};
use super::key::PublicKey;
use super::lint::{self, Expected};
use super::name::Identifier;
use super::policy::Network;
use super::profile::Profile;
use super::tlv;
use crate::id::{Serial, Timestamp};

/// The exact bytes of a TBSCertificate that passed every lint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tbs {
    der: Vec<u8>,
    serial: Serial,
    not_before: Timestamp,
    not_after: Timestamp,
}

impl Tbs {
    pub fn der(&self) -> &[u8] {
        &self.der
    }
    pub fn serial(&self) -> Serial {
        self.serial
    }
    pub fn validity(&self) -> (Timestamp, Timestamp) {
        (self.not_before, self.not_after)
    }
}

/// Everything a leaf is made of.
#[derive(Clone, Debug)]
pub struct Leaf<'a> {
    pub profile: &'a Profile,
    pub identifiers: &'a [Identifier],
    pub key: &'a PublicKey,
    pub serial: Serial,
    pub now: Timestamp,
    /// The order's notBefore and notAfter, already within the profile, if it named them.
    pub not_before: Option<Timestamp>,
    pub not_after: Option<Timestamp>,
    pub issuer: &'a Certificate,
    /// `http://` URL of the issuing certificate (DER), for AIA caIssuers.
    pub aia_url: &'a str,
    /// `http://` URL of the CRL, for the CDP.
    pub crl_url: &'a str,
}

/// A CA certificate as a ceremony file describes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct CaTemplate {
    /// CN of the subject.
    pub common_name: String,
    /// O of the subject, if any.
    pub organization: Option<String>,
    pub lifetime_days: u32,
    /// Absent on roots; 0 on issuing CAs.
    pub path_length: Option<u8>,
    /// Permitted DNS suffixes (no leading dot) and networks; both empty on a root means no constraint.
    /// On an issuing CA whatever kind has no permitted entry is excluded as a whole
    /// (dNSName, iPAddress v4 and v6, rfc822Name, URI; directoryName is left to the subject rules).
    #[serde(default)]
    pub permitted_names: Vec<String>,
    #[serde(default)]
    pub permitted_networks: Vec<String>,
}

/// A CA certificate to rehearse. Self-signed when `issuer` is `None`.
#[derive(Clone, Debug)]
pub struct Ca<'a> {
    pub template: &'a CaTemplate,
    pub key: &'a PublicKey,
    pub serial: Serial,
    pub now: Timestamp,
    pub issuer: Option<&'a Certificate>,
    pub aia_url: Option<&'a str>,
    pub crl_url: Option<&'a str>,
}

/// Why no TBSCertificate came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RehearsalError {
    /// The certificate would outlive its issuer or begin before it; the text says both dates.
    Validity(String),
    /// The request is outside the profile.
    Profile(String),
    /// A lint refused what was written: a bug here, never the client's fault.
    Lint(Vec<lint::Finding>),
    /// rcgen could not write or x509-cert could not read it.
    Encoding(String),
}

impl fmt::Display for RehearsalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Validity(why) | Self::Profile(why) => f.write_str(why),
            Self::Encoding(why) => write!(f, "cannot be encoded: {why}"),
            Self::Lint(findings) => {
                f.write_str("refused by lint")?;
                findings.iter().try_for_each(|finding| write!(f, "; {finding}"))
            }
        }
    }
}

impl std::error::Error for RehearsalError {}

/// A leaf that the issuer's own end would cut short is still issued while this much of it remains;
/// with less, the issuer is due for renewal and the leaf is refused. Half the lifetime if that is less.
pub const LEAST_REMAINING: Duration = Duration::from_secs(24 * 3600);

/// How far in the past a notBefore may lie that the order asked for.
pub const MAX_ASKED_BACKDATE: Duration = Duration::from_secs(48 * 3600);

/// How far CA certificates are backdated, for devices whose clock is behind.
pub const CA_BACKDATE: Duration = Duration::from_secs(3600);

/// The longest lifetime of a CA certificate, in days.
pub const MAX_CA_DAYS: u32 = 100 * 366;

/// ub-common-name and ub-organization-name (RFC 5280 appendix A), in characters.
pub(super) const MAX_ATTRIBUTE: usize = 64;

/// Rehearses a leaf.
///
/// Extensions: AKI, SAN (critical when the subject is empty), KU critical digitalSignature, EKU of
/// the profile, CDP (or noRevAvail instead), SKI, basicConstraints critical with cA FALSE, AIA. The
/// subject is empty or one CN.
///
/// Without dates in the order: notBefore is `now` less the profile's backdating, in whole seconds,
/// but not before the issuer's; notAfter is notBefore + lifetime − 1 s, cut to the issuer's while
/// `LEAST_REMAINING` is left. Dates that the order names are kept or refused, never moved.
pub fn leaf(leaf: &Leaf<'_>) -> Result<Tbs, RehearsalError> {
    check_leaf(leaf)?;
    let validity = leaf_validity(leaf)?;
    let expected = Expected::Leaf(leaf);
    let der = author::leaf(leaf, subject_common_name(leaf), validity)?;
    judged(der, expected)
}

/// Rehearses a root or issuing certificate.
///
/// notBefore is `now` less `CA_BACKDATE`, but not before the issuer's; notAfter is notBefore +
/// lifetime − 1 s and never cut: a template that would outlive its issuer is refused. An issuing
/// certificate always carries critical name constraints that leave no form of name open; a root
/// does when its template permits anything by name.
pub fn ca(ca: &Ca<'_>) -> Result<Tbs, RehearsalError> {
    let constraints = ca.constraints()?;
    check_ca(ca)?;
    let validity = ca_validity(ca)?;
    let der = author::ca(ca, constraints.as_ref(), validity)?;
    judged(der, Expected::Ca(ca))
}

impl Ca<'_> {
    /// The name constraints its template asks for.
    pub(super) fn constraints(&self) -> Result<Option<NameConstraints>, RehearsalError> {
        let template = self.template;
        let refuse = |what: &str, entry: &String| {
            RehearsalError::Profile(format!("{entry:?} is not {what} to permit"))
        };
        let names = template
            .permitted_names
            .iter()
            .map(|entry| parse_suffix(entry).ok_or_else(|| refuse("a DNS suffix", entry)))
            .collect::<Result<Vec<_>, _>>()?;
        let networks = template
            .permitted_networks
            .iter()
            .map(|entry| Network::parse(entry).ok_or_else(|| refuse("a network", entry)))
            .collect::<Result<Vec<_>, _>>()?;
        let wanted = self.issuer.is_some() || !names.is_empty() || !networks.is_empty();
        Ok(wanted.then(|| NameConstraints::closing(names, networks)))
    }
}

/// Judges what was written and keeps its bytes.
fn judged(der: Vec<u8>, expected: Expected<'_>) -> Result<Tbs, RehearsalError> {
    let draft = lint::Draft::read(&der, expected)
        .map_err(|error| RehearsalError::Encoding(error.to_string()))?;
    let findings = draft.findings();
    if !findings.is_empty() {
        return Err(RehearsalError::Lint(findings));
    }
    let serial = draft.serial().ok_or_else(|| RehearsalError::Encoding("serial".to_owned()))?;
    let (not_before, not_after) = draft.validity();
    Ok(Tbs { der, serial, not_before, not_after })
}

fn check_leaf(leaf: &Leaf<'_>) -> Result<(), RehearsalError> {
    let profile = leaf.profile;
    let refuse = |why: String| Err(RehearsalError::Profile(why));
    profile.check().map_err(RehearsalError::Profile)?;
    let count = leaf.identifiers.len();
    if count == 0 || count > profile.max_names {
        return refuse(format!("{count} names, where 1 to {} may stand", profile.max_names));
    }
    if let Some(twice) =
        (1..count).map(|i| &leaf.identifiers[i]).zip(1..).find_map(|(identifier, i)| {
            leaf.identifiers[..i].contains(identifier).then_some(identifier)
        })
    {
        return refuse(format!("{} is named twice", twice.value()));
    }
    if !profile.accepts(leaf.key.kind()) {
        return refuse(format!("the profile takes no key of kind {:?}", leaf.key.kind()));
    }
    leaf.identifiers
        .iter()
        .try_for_each(|identifier| profile.permits(identifier))
        .map_err(|why| RehearsalError::Profile(why.to_string()))
}

/// The first DNS name that fits a CN, if the profile wants one. Never an address: OpenSSL would
/// judge it as a DNS name under the issuer's constraints.
fn subject_common_name<'a>(leaf: &Leaf<'a>) -> Option<&'a str> {
    leaf.identifiers.iter().filter(|_| leaf.profile.common_name).find_map(|identifier| {
        match identifier {
            Identifier::Dns(name) => Some(name.as_str()).filter(|name| name.len() <= MAX_ATTRIBUTE),
            Identifier::Ip(_) => None,
        }
    })
}

fn leaf_validity(leaf: &Leaf<'_>) -> Result<(Timestamp, Timestamp), RehearsalError> {
    let refuse = |why: String| Err(RehearsalError::Validity(why));
    let second = Duration::from_secs(1);
    let now = whole_seconds(leaf.now);
    let (issuer_from, issuer_until) = leaf.issuer.validity();
    let lifetime = leaf.profile.lifetime();
    if now < issuer_from || now > issuer_until {
        return refuse(format!(
            "it is {now}; the issuer is valid from {issuer_from} to {issuer_until}"
        ));
    }

    let not_before = match (leaf.not_before, leaf.not_after) {
        (Some(asked), _) => {
            let asked = whole_seconds(asked);
            if asked < now.minus(MAX_ASKED_BACKDATE) {
                return refuse(format!("notBefore {asked} lies too far before {now}"));
            }
            if asked < issuer_from {
                return refuse(format!("notBefore {asked} lies before the issuer's {issuer_from}"));
            }
            asked
        }
        // Asked for an end alone, a full lifetime from now fits only if backdating gives way.
        (None, Some(until)) => now
            .minus(leaf.profile.backdate())
            .max(whole_seconds(until).plus(second).minus(lifetime))
            .max(issuer_from)
            .min(now),
        (None, None) => now.minus(leaf.profile.backdate()).max(issuer_from),
    };

    // One that begins later does not end later for it.
    let longest = not_before.min(now).plus(lifetime).minus(second);
    let not_after = match leaf.not_after {
        Some(asked) => {
            let asked = whole_seconds(asked);
            if asked > issuer_until {
                return refuse(format!("notAfter {asked} lies after the issuer's {issuer_until}"));
            }
            if asked > longest {
                return refuse(format!("notAfter {asked} is beyond the profile's lifetime"));
            }
            asked
        }
        None if longest <= issuer_until => longest,
        None => {
            let remains = issuer_until.since(now);
            if remains < LEAST_REMAINING.min(lifetime / 2) {
                return refuse(format!(
                    "{longest} lies after the issuer's {issuer_until}, and too little is left"
                ));
            }
            issuer_until
        }
    };
    if not_after < not_before || not_after < now {
        return refuse(format!("from {not_before} to {not_after} is no time at all"));
    }
    Ok((not_before, not_after))
}

fn check_ca(ca: &Ca<'_>) -> Result<(), RehearsalError> {
    let refuse = |why: String| Err(RehearsalError::Profile(why));
    let template = ca.template;
    let organization = template.organization.as_deref().map(|text| ("organization", text));
    for (key, text) in
        [("common-name", template.common_name.as_str())].into_iter().chain(organization)
    {
        if text.trim() != text
            || !(1..=MAX_ATTRIBUTE).contains(&text.chars().count())
            || text.chars().any(char::is_control)
        {
            return refuse(format!("{key}: 1 to {MAX_ATTRIBUTE} characters, no space around them"));
        }
    }
    if !(1..=MAX_CA_DAYS).contains(&template.lifetime_days) {
        return refuse(format!("lifetime-days: 1 to {MAX_CA_DAYS}"));
    }
    let Some(issuer) = ca.issuer else { return Ok(()) };
    if !issuer.is_ca() {
        return refuse(format!("{} is not a CA", issuer.subject()));
    }
    match (issuer.path_length(), template.path_length) {
        (Some(0), _) => refuse(format!("{} may not issue CA certificates", issuer.subject())),
        (Some(above), own) if own.is_none_or(|own| own >= above) => {
            refuse(format!("path-length: less than the issuer's {above}"))
        }
        _ => Ok(()),
    }
}

fn ca_validity(ca: &Ca<'_>) -> Result<(Timestamp, Timestamp), RehearsalError> {
    let refuse = |why: String| Err(RehearsalError::Validity(why));
    let now = whole_seconds(ca.now);
    let mut not_before = now.minus(CA_BACKDATE);
    let lifetime = ca.lifetime();
    if let Some(issuer) = ca.issuer {
        let (from, until) = issuer.validity();
        if now < from || now > until {
            return refuse(format!("it is {now}; the issuer is valid from {from} to {until}"));
        }
        not_before = not_before.max(from);
        let not_after = not_before.plus(lifetime).minus(Duration::from_secs(1));
        if not_after > until {
            return refuse(format!("{not_after} lies after the issuer's {until}"));
        }
    }
    let not_after = not_before.plus(lifetime).minus(Duration::from_secs(1));
    if not_after.unix_seconds() > tlv::LAST_SECOND {
        return refuse(format!("{not_after} lies beyond the year 9999"));
    }
    Ok((not_before, not_after))
}

impl Ca<'_> {
    pub(super) fn lifetime(&self) -> Duration {
        Duration::from_secs(u64::from(self.template.lifetime_days) * 86_400)
    }
}

fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_unix_seconds(at.unix_seconds())
}
