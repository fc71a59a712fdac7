//! Problem documents (RFC 7807, RFC 8555 section 6.7): the client's half of every refusal.

use std::fmt;

use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};

use super::json;
use super::jws::Algorithm;
use crate::pki::name::Identifier;

/// The registered error types. Order is stored by postcard (problems live in orders and
/// challenges): append only.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
pub enum ProblemType {
    AccountDoesNotExist,
    AlreadyRevoked,
    BadCsr,
    BadNonce,
    BadPublicKey,
    BadRevocationReason,
    BadSignatureAlgorithm,
    Caa,
    Compound,
    Connection,
    Dns,
    ExternalAccountRequired,
    IncorrectResponse,
    InvalidContact,
    Malformed,
    OrderNotReady,
    RateLimited,
    RejectedIdentifier,
    ServerInternal,
    Tls,
    Unauthorized,
    UnsupportedContact,
    UnsupportedIdentifier,
    UserActionRequired,
    AlreadyReplaced,
    InvalidProfile,
    BadAttestationStatement,
}

/// One problem. `detail` is written for the client and holds nothing internal.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Problem {
    pub kind: ProblemType,
    pub detail: String,
    /// HTTP status when it answers a request.
    pub status: u16,
    pub subproblems: Vec<Subproblem>,
    /// RFC 7807 `instance`: for userActionRequired, the URL a person has to visit.
    pub instance: Option<String>,
}

/// A part of a problem, mostly one identifier's (RFC 8555 section 6.7.1).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Subproblem {
    pub kind: ProblemType,
    pub detail: String,
    pub identifier: Option<NamedIdentifier>,
}

/// An identifier as it was named in a request: its type may be unknown here and its value no name.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NamedIdentifier {
    #[serde(rename = "type")]
    pub kind: String,
    pub value: String,
}

impl ProblemType {
    /// `urn:ietf:params:acme:error:…`.
    pub fn urn(self) -> &'static str {
        macro_rules! urn {
            ($name:literal) => {
                concat!("urn:ietf:params:acme:error:", $name)
            };
        }
        match self {
            Self::AccountDoesNotExist => urn!("accountDoesNotExist"),
            Self::AlreadyRevoked => urn!("alreadyRevoked"),
            Self::BadCsr => urn!("badCSR"),
            Self::BadNonce => urn!("badNonce"),
            Self::BadPublicKey => urn!("badPublicKey"),
            Self::BadRevocationReason => urn!("badRevocationReason"),
            Self::BadSignatureAlgorithm => urn!("badSignatureAlgorithm"),
            Self::Caa => urn!("caa"),
            Self::Compound => urn!("compound"),
            Self::Connection => urn!("connection"),
            Self::Dns => urn!("dns"),
            Self::ExternalAccountRequired => urn!("externalAccountRequired"),
            Self::IncorrectResponse => urn!("incorrectResponse"),
            Self::InvalidContact => urn!("invalidContact"),
            Self::Malformed => urn!("malformed"),
            Self::OrderNotReady => urn!("orderNotReady"),
            Self::RateLimited => urn!("rateLimited"),
            Self::RejectedIdentifier => urn!("rejectedIdentifier"),
            Self::ServerInternal => urn!("serverInternal"),
            Self::Tls => urn!("tls"),
            Self::Unauthorized => urn!("unauthorized"),
            Self::UnsupportedContact => urn!("unsupportedContact"),
            Self::UnsupportedIdentifier => urn!("unsupportedIdentifier"),
            Self::UserActionRequired => urn!("userActionRequired"),
            Self::AlreadyReplaced => urn!("alreadyReplaced"),
            Self::InvalidProfile => urn!("invalidProfile"),
            Self::BadAttestationStatement => urn!("badAttestationStatement"),
        }
    }

    /// The status RFC 8555 or custom gives it. A deactivated account's 401 (section 7.3.6) and a
    /// key in use's 409 (section 7.3.5) are the flow's to set.
    pub fn default_status(self) -> u16 {
        match self {
            Self::Caa
            | Self::ExternalAccountRequired
            | Self::IncorrectResponse
            | Self::OrderNotReady
            | Self::RejectedIdentifier
            | Self::Unauthorized
            | Self::UserActionRequired => 403,
            Self::AlreadyReplaced => 409,
            Self::RateLimited => 429,
            Self::ServerInternal => 500,
            Self::AccountDoesNotExist
            | Self::AlreadyRevoked
            | Self::BadCsr
            | Self::BadNonce
            | Self::BadPublicKey
            | Self::BadRevocationReason
            | Self::BadSignatureAlgorithm
            | Self::Compound
            | Self::Connection
            | Self::Dns
            | Self::InvalidContact
            | Self::Malformed
            | Self::Tls
            | Self::UnsupportedContact
            | Self::UnsupportedIdentifier
            | Self::InvalidProfile
            | Self::BadAttestationStatement => 400,
        }
    }
}

impl fmt::Display for ProblemType {
    /// The URN.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.urn())
    }
}

impl Problem {
    /// A problem with the status its type usually has.
    pub fn new(kind: ProblemType, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            status: kind.default_status(),
            subproblems: Vec::new(),
            instance: None,
        }
    }

    /// `malformed`, 400.
    pub fn malformed(detail: impl Into<String>) -> Self {
        Self::new(ProblemType::Malformed, detail)
    }

    /// The same with another HTTP status.
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// One problem out of one or more parts: their type where they agree, else `compound`.
    /// A single part's detail becomes the whole's.
    pub fn compound(subproblems: Vec<Subproblem>) -> Self {
        let kind = match subproblems.split_first() {
            Some((first, rest)) if rest.iter().all(|part| part.kind == first.kind) => first.kind,
            _ => ProblemType::Compound,
        };
        let detail = match subproblems.as_slice() {
            [only] => only.detail.clone(),
            parts => format!("{} parts of the request were refused", parts.len()),
        };
        Self { subproblems, ..Self::new(kind, detail) }
    }

    /// The JSON object; `algorithms` is added for badSignatureAlgorithm (RFC 8555 section 6.2).
    pub fn to_json(&self) -> String {
        json::text(&self.document())
    }

    /// The same as a member of another object, such as a challenge's `error`.
    pub(super) fn document(&self) -> Document<'_> {
        Document(self)
    }
}

impl Subproblem {
    /// A problem of one identifier.
    pub fn of(kind: ProblemType, detail: impl Into<String>, identifier: &Identifier) -> Self {
        Self { kind, detail: detail.into(), identifier: Some(identifier.into()) }
    }
}

impl From<&Identifier> for NamedIdentifier {
    fn from(identifier: &Identifier) -> Self {
        Self { kind: identifier.kind().to_owned(), value: identifier.value() }
    }
}

/// A problem's JSON form. `Problem`'s own `Serialize` is its stored form.
#[derive(Clone, Copy, Debug)]
pub(super) struct Document<'a>(&'a Problem);

impl Serialize for Document<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Part<'a> {
            r#type: &'static str,
            detail: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            identifier: Option<&'a NamedIdentifier>,
        }

        let Problem { kind, detail, status, subproblems, instance } = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", kind.urn())?;
        map.serialize_entry("detail", detail)?;
        map.serialize_entry("status", status)?;
        if let Some(instance) = instance {
            map.serialize_entry("instance", instance)?;
        }
        if *kind == ProblemType::BadSignatureAlgorithm {
            map.serialize_entry("algorithms", Algorithm::NAMES)?;
        }
        if !subproblems.is_empty() {
            let parts: Vec<Part<'_>> = subproblems
                .iter()
                .map(|part| Part {
                    r#type: part.kind.urn(),
                    detail: &part.detail,
                    identifier: part.identifier.as_ref(),
                })
                .collect();
            map.serialize_entry("subproblems", &parts)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn value(problem: &Problem) -> Value {
        serde_json::from_str(&problem.to_json()).unwrap()
    }

    #[test]
    fn a_problem_is_what_rfc_8555_shows() {
        assert_eq!(
            value(&Problem::new(ProblemType::BadNonce, "the nonce was used")),
            json!({
                "type": "urn:ietf:params:acme:error:badNonce",
                "detail": "the nonce was used",
                "status": 400,
            })
        );
    }

    #[test]
    fn bad_signature_algorithm_lists_the_good_ones() {
        let problem = Problem::new(ProblemType::BadSignatureAlgorithm, "no");
        assert_eq!(value(&problem)["algorithms"], json!(Algorithm::NAMES));
        let other = Problem::new(ProblemType::BadPublicKey, "no");
        assert_eq!(value(&other).get("algorithms"), None);
    }

    #[test]
    fn identifiers_appear_in_subproblems_only() {
        let part = |kind, name: &str| Subproblem {
            kind,
            detail: format!("not {name}"),
            identifier: Some(NamedIdentifier { kind: "dns".into(), value: name.into() }),
        };
        let problem = Problem::compound(vec![
            part(ProblemType::Caa, "a.example"),
            part(ProblemType::RejectedIdentifier, "b.example"),
        ]);
        let value = value(&problem);
        assert_eq!(value["type"], ProblemType::Compound.urn());
        assert_eq!(value.get("identifier"), None);
        assert_eq!(
            value["subproblems"][1],
            json!({
                "type": ProblemType::RejectedIdentifier.urn(),
                "detail": "not b.example",
                "identifier": {"type": "dns", "value": "b.example"},
            })
        );
        let agreeing = vec![part(ProblemType::Caa, "a"), part(ProblemType::Caa, "b")];
        assert_eq!(Problem::compound(agreeing).kind, ProblemType::Caa);
    }
}
