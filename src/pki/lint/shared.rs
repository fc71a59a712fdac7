//! Rules for every certificate.

use std::time::Duration;

use const_oid::AssociatedOid;
use const_oid::db::rfc5280::ID_AD_CA_ISSUERS;
use const_oid::db::rfc5912::ID_CE_NO_REV_AVAIL;
use der::{Decode, Encode};
use x509_cert::certificate::Version;
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::name::{DistributionPointName, GeneralName};
use x509_cert::ext::pkix::{
    AuthorityInfoAccessSyntax, AuthorityKeyIdentifier, BasicConstraints, CrlDistributionPoints,
    ExtendedKeyUsage, KeyUsage, NameConstraints, SubjectAltName, SubjectKeyIdentifier,
};
use x509_cert::time::Time;

use super::{Draft, Expected, Lint, Verdict, encoded, ensure};
use crate::id::{Timestamp, hex};
use crate::pki::certificate::Certificate;
use crate::pki::rehearse::{CA_BACKDATE, MAX_ASKED_BACKDATE};

/// The longest TBSCertificate, in octets: a log record holds it and more in 65,535.
pub(super) const MAX_TBS: usize = 30_000;

/// GeneralizedTime begins with 2050-01-01T00:00:00Z.
const GENERALIZED_FROM: u64 = 2_524_608_000;

pub(super) const VERSION: Lint = Lint {
    name: "version",
    rule: "RFC 5280 section 4.1.2.1",
    check: |draft| {
        let version = draft.tbs.version();
        ensure(version == Version::V3, || format!("{version:?}"))
    },
};

pub(super) const SERIAL: Lint = Lint {
    name: "serial-number",
    rule: "RFC 5280 section 4.1.2.2: positive, at most 20 octets; here 16 with 126 random bits",
    check: |draft| {
        let due = match draft.expected {
            Expected::Leaf(leaf) => leaf.serial,
            Expected::Ca(ca) => ca.serial,
        };
        let found = draft.tbs.serial_number().as_bytes();
        ensure(draft.serial() == Some(due), || hex(found))
    },
};

pub(super) const SIGNATURE_ALGORITHM: Lint = Lint {
    name: "signature-algorithm",
    rule: "RFC 5280 section 4.1.2.3: the algorithm the issuer's key signs with, its parameters exact (RFC 4055 sections 2.1, 3.1 and 5; RFC 9881 section 2)",
    check: |draft| {
        let key = draft.issuer().map_or_else(|| draft.key(), Certificate::public_key);
        let due = key.preferred_algorithm().identifier_der();
        let found = encoded(draft.tbs.signature())?;
        ensure(found == due, || draft.tbs.signature().oid.to_string())
    },
};

pub(super) const ISSUER_NAME: Lint = Lint {
    name: "issuer-name",
    rule: "RFC 5280 section 4.1.2.4: byte for byte the issuing certificate's subject",
    check: |draft| {
        let found = encoded(draft.tbs.issuer())?;
        let same = match draft.issuer() {
            Some(issuer) => found == issuer.subject_der(),
            None => found == encoded(draft.tbs.subject())?,
        };
        ensure(same, || draft.tbs.issuer().to_string())
    },
};

pub(super) const ISSUER_IS_CA: Lint = Lint {
    name: "issuer-is-ca",
    rule: "RFC 5280 sections 4.2.1.3 and 4.2.1.9",
    check: |draft| {
        let Some(issuer) = draft.issuer() else { return Ok(()) };
        ensure(issuer.is_ca(), || format!("{} is not a CA", issuer.subject()))
    },
};

pub(super) const TIME_ENCODING: Lint = Lint {
    name: "time-encoding",
    rule: "RFC 5280 section 4.1.2.5: UTCTime through 2049, GeneralizedTime after",
    check: |draft| {
        let validity = draft.tbs.validity();
        for time in [validity.not_before, validity.not_after] {
            let late = time.to_unix_duration().as_secs() >= GENERALIZED_FROM;
            ensure(matches!(time, Time::GeneralTime(_)) == late, || format!("{time:?}"))?;
        }
        Ok(())
    },
};

pub(super) const VALIDITY_ORDER: Lint = Lint {
    name: "validity-order",
    rule: "a certificate begins before it ends and has not ended yet",
    check: |draft| {
        let (from, until) = draft.validity();
        ensure(from <= until && until.unix_seconds() >= draft.now().unix_seconds(), || {
            format!("from {from} to {until}, and it is {}", draft.now())
        })
    },
};

pub(super) const VALIDITY_START: Lint = Lint {
    name: "validity-start",
    rule: "backdated as the profile says, by 48 hours where the order names a date; not ahead unasked",
    check: |draft| {
        let (from, _) = draft.validity();
        let now = Timestamp::from_unix_seconds(draft.now().unix_seconds());
        let (backdate, latest) = match draft.expected {
            Expected::Ca(_) => (CA_BACKDATE, now),
            Expected::Leaf(leaf) => match leaf.not_before {
                None => (leaf.profile.backdate(), now),
                Some(asked) => (MAX_ASKED_BACKDATE, asked.max(now)),
            },
        };
        ensure(from >= now.minus(backdate) && from <= latest, || format!("{from}, and it is {now}"))
    },
};

pub(super) const VALIDITY_LIFETIME: Lint = Lint {
    name: "validity-lifetime",
    rule: "no longer than the profile or template says, both ends counted, nor beyond it from now",
    check: |draft| {
        let (from, until) = draft.validity();
        let lifetime = match draft.expected {
            Expected::Leaf(leaf) => leaf.profile.lifetime(),
            Expected::Ca(ca) => ca.lifetime(),
        };
        let inclusive = until.plus(Duration::from_secs(1));
        ensure(
            inclusive.since(from) <= lifetime && inclusive.since(draft.now()) <= lifetime,
            || format!("from {from} to {until}"),
        )
    },
};

pub(super) const VALIDITY_WITHIN_ISSUER: Lint = Lint {
    name: "validity-within-issuer",
    rule: "a certificate neither outlives its issuer nor begins before it",
    check: |draft| {
        let Some(issuer) = draft.issuer() else { return Ok(()) };
        let (from, until) = draft.validity();
        let (issuer_from, issuer_until) = issuer.validity();
        ensure(issuer_from <= from && until <= issuer_until, || {
            format!("{from} to {until}, the issuer {issuer_from} to {issuer_until}")
        })
    },
};

pub(super) const SUBJECT_KEY: Lint = Lint {
    name: "subject-key",
    rule: "RFC 5280 section 4.1.2.7: byte for byte the key that was asked for",
    check: |draft| {
        let found = draft.tbs.subject_public_key_info();
        ensure(encoded(found)? == draft.key().spki(), || {
            format!("another key, of algorithm {}", found.algorithm.oid)
        })
    },
};

pub(super) const UNIQUE_IDS: Lint = Lint {
    name: "unique-ids",
    rule: "RFC 5280 section 4.1.2.8: never written",
    check: |draft| {
        let absent =
            draft.tbs.issuer_unique_id().is_none() && draft.tbs.subject_unique_id().is_none();
        ensure(absent, || "present".to_owned())
    },
};

pub(super) const CANONICAL_DER: Lint = Lint {
    name: "canonical-der",
    rule: "X.690 section 10: the certificate and each extension encode to what was read",
    check: |draft| {
        ensure(encoded(&draft.tbs)? == draft.der, || "TBSCertificate".to_owned())?;
        draft.extensions().iter().try_for_each(canonical_extension)
    },
};

fn canonical_extension(extension: &Extension) -> Verdict {
    fn same<'a, T>(der: &'a [u8]) -> bool
    where
        T: Decode<'a, Error = der::Error> + Encode,
    {
        // What does not parse is another lint's finding.
        T::from_der(der).map_or(true, |value| value.to_der().as_deref() == Ok(der))
    }
    let der = extension.extn_value.as_bytes();
    let canonical = match extension.extn_id {
        AuthorityKeyIdentifier::OID => same::<AuthorityKeyIdentifier>(der),
        SubjectKeyIdentifier::OID => same::<SubjectKeyIdentifier>(der),
        SubjectAltName::OID => same::<SubjectAltName>(der),
        KeyUsage::OID => same::<KeyUsage>(der),
        ExtendedKeyUsage::OID => same::<ExtendedKeyUsage>(der),
        BasicConstraints::OID => same::<BasicConstraints>(der),
        NameConstraints::OID => same::<NameConstraints>(der),
        CrlDistributionPoints::OID => same::<CrlDistributionPoints>(der),
        AuthorityInfoAccessSyntax::OID => same::<AuthorityInfoAccessSyntax>(der),
        _ => true,
    };
    ensure(canonical, || format!("extension {}", extension.extn_id))
}

pub(super) const SIZE: Lint = Lint {
    name: "size",
    rule: "a log record holds it",
    check: |draft| ensure(draft.der.len() <= MAX_TBS, || format!("{} octets", draft.der.len())),
};

pub(super) const EXTENSIONS_KNOWN: Lint = Lint {
    name: "extensions-known",
    rule: "only what a profile or template can ask for",
    check: |draft| {
        let always = [
            AuthorityKeyIdentifier::OID,
            SubjectKeyIdentifier::OID,
            KeyUsage::OID,
            BasicConstraints::OID,
            CrlDistributionPoints::OID,
            AuthorityInfoAccessSyntax::OID,
        ];
        let more = match draft.expected {
            Expected::Leaf(_) => {
                [SubjectAltName::OID, ExtendedKeyUsage::OID, ID_CE_NO_REV_AVAIL].as_slice()
            }
            Expected::Ca(_) => &[NameConstraints::OID],
        };
        draft.extensions().iter().map(|extension| extension.extn_id).try_for_each(|oid| {
            ensure(always.contains(&oid) || more.contains(&oid), || oid.to_string())
        })
    },
};

pub(super) const EXTENSIONS_ONCE: Lint = Lint {
    name: "extensions-once",
    rule: "RFC 5280 section 4.2: no extension twice",
    check: |draft| {
        let oids: Vec<_> = draft.extensions().iter().map(|extension| extension.extn_id).collect();
        (0..oids.len())
            .try_for_each(|i| ensure(!oids[..i].contains(&oids[i]), || oids[i].to_string()))
    },
};

pub(super) const AUTHORITY_KEY_ID: Lint = Lint {
    name: "authority-key-id",
    rule: "RFC 5280 section 4.2.1.1: the issuer's key id alone, absent on roots, not critical",
    check: |draft| {
        let Some(issuer) = draft.issuer() else {
            let found = draft.extension::<AuthorityKeyIdentifier>()?;
            return ensure(found.is_none(), || "present on a root".to_owned());
        };
        let found: AuthorityKeyIdentifier = draft.required(false)?;
        let id = found.key_identifier.as_ref().map(|id| id.as_bytes());
        ensure(
            id.is_some()
                && id == issuer.subject_key_id()
                && found.authority_cert_issuer.is_none()
                && found.authority_cert_serial_number.is_none(),
            || format!("{found:?}"),
        )
    },
};

pub(super) const SUBJECT_KEY_ID: Lint = Lint {
    name: "subject-key-id",
    rule: "RFC 5280 section 4.2.1.2 by RFC 7093 method 1, not critical",
    check: |draft| {
        let found: SubjectKeyIdentifier = draft.required(false)?;
        let found = found.0.as_bytes();
        ensure(found == draft.key().key_id(), || hex(found))
    },
};

pub(super) const AUTHORITY_INFO_ACCESS: Lint = Lint {
    name: "authority-info-access",
    rule: "RFC 5280 section 4.2.2.1: caIssuers at the given URL alone, not critical",
    check: |draft| {
        let Some(due) = urls(draft).0 else {
            let found = draft.extension::<AuthorityInfoAccessSyntax>()?;
            return ensure(found.is_none(), || "present, where none is due".to_owned());
        };
        let found: AuthorityInfoAccessSyntax = draft.required(false)?;
        let good = match found.0.as_slice() {
            [only] => only.access_method == ID_AD_CA_ISSUERS && is_url(&only.access_location, due),
            _ => false,
        };
        ensure(good, || format!("{found:?}"))
    },
};

pub(super) const CRL_DISTRIBUTION_POINTS: Lint = Lint {
    name: "crl-distribution-points",
    rule: "RFC 5280 section 4.2.1.13: one full name at the given URL, not critical",
    check: |draft| {
        let Some(due) = urls(draft).1 else {
            let found = draft.extension::<CrlDistributionPoints>()?;
            return ensure(found.is_none(), || "present, where none is due".to_owned());
        };
        let found: CrlDistributionPoints = draft.required(false)?;
        let good = match found.0.as_slice() {
            [point] if point.reasons.is_none() && point.crl_issuer.is_none() => {
                match &point.distribution_point {
                    Some(DistributionPointName::FullName(names)) => {
                        matches!(names.as_slice(), [only] if is_url(only, due))
                    }
                    _ => false,
                }
            }
            _ => false,
        };
        ensure(good, || format!("{found:?}"))
    },
};

pub(super) const PLAIN_HTTP: Lint = Lint {
    name: "plain-http",
    rule: "RFC 5280 sections 4.2.1.13, 4.2.2.1 and 8: https here could need itself to be verified",
    check: |draft| {
        let (aia, crl) = urls(draft);
        aia.into_iter().chain(crl).try_for_each(|url| {
            let host = url.strip_prefix("http://").unwrap_or_default();
            let whole = !host.is_empty() && !host.starts_with('/');
            ensure(whole && url.bytes().all(|b| b.is_ascii_graphic()), || url.to_owned())
        })
    },
};

/// The URLs for AIA and for the CRL; what is never revoked names no CRL (RFC 9608 section 4).
fn urls<'a>(draft: &Draft<'a>) -> (Option<&'a str>, Option<&'a str>) {
    match draft.expected {
        Expected::Leaf(leaf) => {
            (Some(leaf.aia_url), (!leaf.profile.no_rev_avail).then_some(leaf.crl_url))
        }
        Expected::Ca(ca) => (ca.aia_url, ca.crl_url),
    }
}

fn is_url(name: &GeneralName, url: &str) -> bool {
    matches!(name, GeneralName::UniformResourceIdentifier(found) if found.as_str() == url)
}
