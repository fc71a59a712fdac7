//! Rules for leaves alone.

use const_oid::db::rfc4519::COMMON_NAME;
use const_oid::db::rfc5912::ID_CE_NO_REV_AVAIL;
use der::{Tag, Tagged};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{
    BasicConstraints, ExtendedKeyUsage, KeyUsage, KeyUsages, SubjectAltName,
};

use super::{Draft, Expected, Lint, criticality, ensure};
use crate::pki::certificate::identifier;
use crate::pki::name::{DnsName, Identifier};
use crate::pki::profile::OutOfProfile;
use crate::pki::rehearse::{Leaf, MAX_ATTRIBUTE};
use crate::pki::tlv;

pub(super) const KEY_KIND: Lint = Lint {
    name: "key-kind",
    rule: "the profile accepts keys of this kind",
    check: |draft| {
        let kind = draft.key().kind();
        ensure(leaf(draft)?.profile.accepts(kind), || format!("{kind:?}"))
    },
};

pub(super) const SAN_CRITICALITY: Lint = Lint {
    name: "san-criticality",
    rule: "RFC 5280 section 4.2.1.6: critical when the subject is empty, else not",
    check: |draft| match draft.extension::<SubjectAltName>() {
        Ok(Some((critical, _))) => {
            ensure(critical == draft.tbs.subject().is_empty(), || criticality(critical))
        }
        // Its absence is the finding of san-names.
        _ => Ok(()),
    },
};

pub(super) const SAN_CANONICAL: Lint = Lint {
    name: "san-canonical",
    rule: "RFC 5280 section 4.2.1.6, RFC 8555 section 7.1.3: DNS names in their one spelling here",
    check: |draft| {
        names(draft).unwrap_or_default().iter().try_for_each(|name| match name {
            GeneralName::DnsName(text) => {
                let canonical = DnsName::parse(text.as_str());
                ensure(canonical.is_ok_and(|name| name.as_str() == text.as_str()), || {
                    text.as_str().to_owned()
                })
            }
            _ => Ok(()),
        })
    },
};

pub(super) const SAN_NAMES: Lint = Lint {
    name: "san-names",
    rule: "RFC 8555 section 7.4: exactly the order's identifiers, dNSName and iPAddress only",
    check: |draft| {
        let names = names(draft)?;
        let found: Option<Vec<Identifier>> = names.iter().map(identifier).collect();
        let due = leaf(draft)?.identifiers;
        ensure(found.as_deref() == Some(due), || format!("{names:?}"))
    },
};

pub(super) const SAN_COUNT: Lint = Lint {
    name: "san-count",
    rule: "no more names than the profile allows",
    check: |draft| {
        let count = names(draft).unwrap_or_default().len();
        ensure(count <= leaf(draft)?.profile.max_names, || format!("{count} names"))
    },
};

pub(super) const SAN_WITHIN_ISSUER: Lint = Lint {
    name: "san-within-issuer",
    rule: "RFC 5280 section 4.2.1.10: the issuing certificate's name constraints",
    check: |draft| {
        let Some(constraints) = leaf(draft)?.issuer.name_constraints() else { return Ok(()) };
        names(draft)
            .unwrap_or_default()
            .iter()
            .filter_map(identifier)
            .try_for_each(|name| ensure(constraints.permits(&name), || name.value()))
    },
};

pub(super) const SAN_WITHIN_PROFILE: Lint = Lint {
    name: "san-within-profile",
    rule: "the profile's own suffixes and networks, where it has any",
    check: |draft| {
        let profile = leaf(draft)?.profile;
        names(draft).unwrap_or_default().iter().filter_map(identifier).try_for_each(|name| {
            match profile.permits(&name) {
                // What a wildcard names is the next lint's to judge.
                Ok(()) | Err(OutOfProfile::Wildcard { .. }) => Ok(()),
                Err(OutOfProfile::NotAllowed { .. }) => Err(name.value()),
            }
        })
    },
};

pub(super) const WILDCARD: Lint = Lint {
    name: "wildcard",
    rule: "RFC 9525 section 6.3: a wildcard names servers and nothing else",
    check: |draft| {
        let servers_only = leaf(draft)?.profile.is_for_servers_alone();
        names(draft)
            .unwrap_or_default()
            .iter()
            .filter_map(identifier)
            .try_for_each(|name| ensure(servers_only || !name.is_wildcard(), || name.value()))
    },
};

pub(super) const SUBJECT_SHAPE: Lint = Lint {
    name: "subject-shape",
    rule: "the subject is empty, or one CN where the profile wants it",
    check: |draft| {
        let subject = draft.tbs.subject();
        let good = match (subject.len(), subject.iter().next()) {
            (0, _) => true,
            (1, Some(only)) => {
                leaf(draft)?.profile.common_name
                    && subject.iter().count() == 1
                    && only.oid == COMMON_NAME
                    && matches!(only.value.tag(), Tag::Utf8String | Tag::PrintableString)
            }
            _ => false,
        };
        ensure(good, || subject.to_string())
    },
};

pub(super) const COMMON_NAME_IN_SAN: Lint = Lint {
    name: "common-name-in-san",
    rule: "RFC 9525 section 2: a CN only repeats a DNS name of the SAN",
    check: |draft| {
        let names = names(draft).unwrap_or_default();
        common_names(draft).try_for_each(|cn| {
            let repeated = names.iter().any(
                |name| matches!(name, GeneralName::DnsName(text) if text.as_str().as_bytes() == cn),
            );
            ensure(repeated, || String::from_utf8_lossy(cn).into_owned())
        })
    },
};

pub(super) const COMMON_NAME_LENGTH: Lint = Lint {
    name: "common-name-length",
    rule: "RFC 5280 appendix A: ub-common-name, 64 characters",
    check: |draft| {
        common_names(draft)
            .try_for_each(|cn| ensure(cn.len() <= MAX_ATTRIBUTE, || format!("{} octets", cn.len())))
    },
};

pub(super) const KEY_USAGE: Lint = Lint {
    name: "key-usage",
    rule: "RFC 5280 section 4.2.1.3: critical, digitalSignature and nothing else, which suits every kind of key (RFC 8410 section 5, RFC 9881 section 5)",
    check: |draft| {
        let found: KeyUsage = draft.required(true)?;
        ensure(found.0 == KeyUsages::DigitalSignature, || format!("{:?}", found.0))
    },
};

pub(super) const EXTENDED_KEY_USAGE: Lint = Lint {
    name: "extended-key-usage",
    rule: "RFC 5280 section 4.2.1.12: the profile's purposes, not critical",
    check: |draft| {
        let found: ExtendedKeyUsage = draft.required(false)?;
        let found: Vec<String> = found.0.iter().map(ToString::to_string).collect();
        let due: Vec<&str> = leaf(draft)?.profile.usages.iter().map(|usage| usage.oid()).collect();
        ensure(found == due, || found.join(", "))
    },
};

pub(super) const BASIC_CONSTRAINTS: Lint = Lint {
    name: "basic-constraints",
    rule: "RFC 5280 section 4.2.1.9: not a CA, said critically",
    check: |draft| {
        let found: BasicConstraints = draft.required(true)?;
        ensure(!found.ca && found.path_len_constraint.is_none(), || format!("{found:?}"))
    },
};

pub(super) const NO_REV_AVAIL: Lint = Lint {
    name: "no-rev-avail",
    rule: "RFC 9608 section 2: NULL, not critical, where the profile says so and nowhere else",
    check: |draft| {
        let mut found = draft.extensions().iter().filter(|e| e.extn_id == ID_CE_NO_REV_AVAIL);
        match (leaf(draft)?.profile.no_rev_avail, found.next()) {
            (false, None) => Ok(()),
            (false, Some(_)) => Err("present, where none is due".to_owned()),
            (true, None) => Err("absent".to_owned()),
            (true, Some(extension)) if extension.critical => Err(criticality(true)),
            (true, Some(extension)) => {
                let value = extension.extn_value.as_bytes();
                ensure(value == tlv::NULL, || format!("{value:02x?}"))
            }
        }
    },
};

fn leaf<'a>(draft: &Draft<'a>) -> Result<&'a Leaf<'a>, String> {
    match draft.expected {
        Expected::Leaf(leaf) => Ok(leaf),
        Expected::Ca(_) => Err("not a leaf".to_owned()),
    }
}

fn names(draft: &Draft<'_>) -> Result<Vec<GeneralName>, String> {
    match draft.extension::<SubjectAltName>()? {
        Some((_, names)) => Ok(names.0),
        None => Err("absent".to_owned()),
    }
}

fn common_names<'d>(draft: &'d Draft<'_>) -> impl Iterator<Item = &'d [u8]> {
    draft
        .tbs
        .subject()
        .iter()
        .filter(|attribute| attribute.oid == COMMON_NAME)
        .map(|attribute| attribute.value.value())
}
