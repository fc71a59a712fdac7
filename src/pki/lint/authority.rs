//! Rules for root and issuing certificates alone.

use const_oid::ObjectIdentifier;
use const_oid::db::rfc4519::{COMMON_NAME, ORGANIZATION_NAME};
use der::flagset::FlagSet;
use der::{Tag, Tagged};
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage, KeyUsages, NameConstraints as Parsed};

use super::{Draft, Expected, Lint, ensure};
use crate::pki::constraint::NameConstraints;
use crate::pki::rehearse::Ca;

pub(super) const SUBJECT: Lint = Lint {
    name: "ca-subject",
    rule: "RFC 5280 section 4.1.2.6: the template's O and CN, not the issuer's own name",
    check: |draft| {
        let template = ca(draft)?.template;
        let subject = draft.tbs.subject();
        let due: Vec<(ObjectIdentifier, &[u8])> = template
            .organization
            .iter()
            .map(|text| (ORGANIZATION_NAME, text.as_bytes()))
            .chain([(COMMON_NAME, template.common_name.as_bytes())])
            .collect();
        let found: Vec<(ObjectIdentifier, &[u8])> =
            subject.iter().map(|attribute| (attribute.oid, attribute.value.value())).collect();
        let directory_string = subject.iter().all(|attribute| {
            matches!(attribute.value.tag(), Tag::Utf8String | Tag::PrintableString)
        });
        let own_name = match draft.issuer() {
            Some(issuer) => super::encoded(subject)? != issuer.subject_der(),
            None => true,
        };
        ensure(found == due && subject.len() == due.len() && directory_string && own_name, || {
            subject.to_string()
        })
    },
};

pub(super) const BASIC_CONSTRAINTS: Lint = Lint {
    name: "ca-basic-constraints",
    rule: "RFC 5280 section 4.2.1.9: critical, cA TRUE",
    check: |draft| {
        let found: BasicConstraints = draft.required(true)?;
        ensure(found.ca, || format!("{found:?}"))
    },
};

pub(super) const PATH_LENGTH: Lint = Lint {
    name: "ca-path-length",
    rule: "RFC 5280 section 4.2.1.9: pathLenConstraint as the template says",
    check: |draft| {
        let Ok(Some((_, found))) = draft.extension::<BasicConstraints>() else { return Ok(()) };
        ensure(found.path_len_constraint == ca(draft)?.template.path_length, || {
            format!("{:?}", found.path_len_constraint)
        })
    },
};

pub(super) const KEY_USAGE: Lint = Lint {
    name: "ca-key-usage",
    rule: "RFC 5280 section 4.2.1.3: critical, keyCertSign and cRLSign, nothing else, which suits every kind of key (RFC 8410 section 5, RFC 9881 section 5)",
    check: |draft| {
        let found: KeyUsage = draft.required(true)?;
        let due: FlagSet<KeyUsages> = KeyUsages::KeyCertSign | KeyUsages::CRLSign;
        ensure(found.0 == due, || format!("{:?}", found.0))
    },
};

pub(super) const NAME_CONSTRAINTS: Lint = Lint {
    name: "ca-name-constraints",
    rule: "RFC 5280 section 4.2.1.10: critical, permits what the template says and nothing else",
    check: |draft| {
        let due = ca(draft)?.constraints().map_err(|error| error.to_string())?;
        let Some(due) = due else {
            let found = draft.extension::<Parsed>()?;
            return ensure(found.is_none(), || "present, where none is due".to_owned());
        };
        draft.required::<Parsed>(true)?;
        let found = found(draft)?;
        ensure(
            found.permitted.names == due.permitted.names
                && found.permitted.networks == due.permitted.networks
                && found.permitted.other == 0,
            || format!("{:?}", found.permitted),
        )
    },
};

pub(super) const NAMES_CLOSED: Lint = Lint {
    name: "ca-names-closed",
    rule: "no form of name is left open by a CA that has name constraints",
    check: |draft| match found(draft) {
        Ok(found) => {
            let open = found.open_forms();
            ensure(open.is_empty(), || open.join(", "))
        }
        // Absent or unreadable is the finding of ca-name-constraints.
        Err(_) => Ok(()),
    },
};

fn ca<'a>(draft: &Draft<'a>) -> Result<&'a Ca<'a>, String> {
    match draft.expected {
        Expected::Ca(ca) => Ok(ca),
        Expected::Leaf(_) => Err("not a CA".to_owned()),
    }
}

fn found(draft: &Draft<'_>) -> Result<NameConstraints, String> {
    use const_oid::AssociatedOid;
    let extension = draft
        .extensions()
        .iter()
        .find(|extension| extension.extn_id == Parsed::OID)
        .ok_or("absent")?;
    NameConstraints::from_der(extension.extn_value.as_bytes())
}
