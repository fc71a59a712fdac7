//! Orders (RFC 8555 section 7.1.3): facts, the status computed from them, and what finalize decides.

mod new_order;
mod replaced;
mod terms;

use serde::{Deserialize, Serialize};

pub(super) use new_order::parse_named;
pub use new_order::{NewOrder, Placed};
pub use replaced::Replaced;
pub use terms::Terms;

use super::authz::{Authorization, AuthzStatus};
use super::challenge::ProblemDocument;
use super::directory::{Resource, Urls};
use super::json;
use super::problem::{NamedIdentifier, Problem, ProblemType, Subproblem};
use crate::id::{AccountId, AuthzId, OrderId, Serial, Timestamp};
use crate::pki::csr::Csr;
use crate::pki::name::Identifier;

/// The stored facts of an order. The arrays never change after creation.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Order {
    pub id: OrderId,
    pub account: AccountId,
    pub identifiers: Vec<Identifier>,
    /// What has to be valid before it can be finalized, each once, in the order of `identifiers`; an
    /// authorization may serve several identifiers and several orders.
    pub authorizations: Vec<AuthzId>,
    pub profile: String,
    pub not_before: Option<Timestamp>,
    pub not_after: Option<Timestamp>,
    /// RFC 9773: the certificate this one replaces, as the client named it.
    pub replaces: Option<String>,
    pub created: Timestamp,
    pub expires: Timestamp,
    /// The finalize request, verbatim: its presence is `processing`.
    pub finalize: Option<Finalize>,
    pub outcome: Option<Outcome>,
}

/// A finalize request that was accepted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Finalize {
    pub at: Timestamp,
    /// The flattened JWS as it arrived; the issuer verifies it again.
    #[serde(with = "serde_bytes")]
    pub jws: Vec<u8>,
}

/// How it ended. Order is stored by postcard: append only.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Outcome {
    Issued {
        at: Timestamp,
        serial: Serial,
        leaf: u64,
        #[serde(with = "serde_bytes")]
        certificate: Vec<u8>,
    },
    Failed {
        at: Timestamp,
        problem: Problem,
    },
}

/// RFC 8555 section 7.1.6.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OrderStatus {
    Pending,
    Ready,
    Processing,
    Valid,
    Invalid,
}

/// What an accepted or refused finalize is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FinalizeDecision {
    /// Store `Finalize` and ask the issuer.
    Accept,
    /// Already finalized: answer with the order as it is, if this is the same request again.
    AlreadyProcessing,
}

impl Order {
    /// Computed from the facts of the order and of all its authorizations; never stored. Once a
    /// finalize was accepted only its outcome matters.
    pub fn status(&self, authorizations: &[Authorization], now: Timestamp) -> OrderStatus {
        match (&self.outcome, &self.finalize) {
            (Some(Outcome::Issued { .. }), _) => return OrderStatus::Valid,
            (Some(Outcome::Failed { .. }), _) => return OrderStatus::Invalid,
            (None, Some(_)) => return OrderStatus::Processing,
            (None, None) if now >= self.expires => return OrderStatus::Invalid,
            (None, None) => {}
        }
        let mut status = OrderStatus::Ready;
        for id in &self.authorizations {
            let found = authorizations.iter().find(|authz| authz.id == *id);
            match found.map(|authz| authz.status(now)) {
                Some(AuthzStatus::Valid) => {}
                Some(AuthzStatus::Pending) => status = OrderStatus::Pending,
                // Failed, given up, lapsed or swept: it will never be ready.
                _ => return OrderStatus::Invalid,
            }
        }
        status
    }

    /// RFC 8555 section 7.4: `orderNotReady` unless ready; `badCSR` unless the CSR's identifiers
    /// are exactly the order's. Changes nothing. Whether the CSR's key is some account's key is for the
    /// caller to ask a store.
    pub fn finalize(
        &self,
        authorizations: &[Authorization],
        csr: &Csr,
        now: Timestamp,
    ) -> Result<FinalizeDecision, Problem> {
        let status = self.status(authorizations, now);
        match status {
            OrderStatus::Processing | OrderStatus::Valid => {
                return Ok(FinalizeDecision::AlreadyProcessing);
            }
            OrderStatus::Pending | OrderStatus::Invalid => {
                let detail = format!("this order is {}, not ready", status.name());
                return Err(Problem::new(ProblemType::OrderNotReady, detail));
            }
            OrderStatus::Ready => {}
        }
        let asked = csr.identifiers();
        let refused = |detail| Err(Problem::new(ProblemType::BadCsr, detail));
        if let Some(missing) = self.identifiers.iter().find(|ordered| !asked.contains(ordered)) {
            return refused(format!("the CSR lacks {missing}, which was ordered"));
        }
        if let Some(extra) = asked.iter().find(|asked| !self.identifiers.contains(asked)) {
            return refused(format!("the CSR asks for {extra}, which was not ordered"));
        }
        Ok(FinalizeDecision::Accept)
    }

    /// When its certificate was issued, if it has one.
    pub fn issued(&self) -> Option<Timestamp> {
        match &self.outcome {
            Some(Outcome::Issued { at, .. }) => Some(*at),
            _ => None,
        }
    }

    /// Records an accepted finalize request. Returns whether anything changed: a second one changes nothing.
    pub fn accept(&mut self, jws: Vec<u8>, now: Timestamp) -> bool {
        let first = self.finalize.is_none() && self.outcome.is_none();
        if first {
            self.finalize = Some(Finalize { at: now, jws });
        }
        first
    }

    /// Records how it ended. Returns whether anything changed: what ended stays as it is, and nothing is
    /// issued that was not finalized.
    pub fn settle(&mut self, outcome: Outcome) -> bool {
        let may = self.outcome.is_none()
            && (self.finalize.is_some() || matches!(outcome, Outcome::Failed { .. }));
        if may {
            self.outcome = Some(outcome);
        }
        may
    }

    /// When it ended, or lapses by itself; `None` while it is processing.
    pub fn ends(&self) -> Option<Timestamp> {
        match (&self.outcome, &self.finalize) {
            (Some(Outcome::Issued { at, .. } | Outcome::Failed { at, .. }), _) => Some(*at),
            (None, Some(_)) => None,
            (None, None) => Some(self.expires),
        }
    }

    /// Whether it was finalized and has no outcome yet.
    pub fn is_processing(&self) -> bool {
        self.finalize.is_some() && self.outcome.is_none()
    }

    /// The order object.
    pub fn to_json(&self, authorizations: &[Authorization], now: Timestamp, urls: &Urls) -> String {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct OrderObject<'a> {
            status: &'static str,
            expires: String,
            identifiers: Vec<NamedIdentifier>,
            profile: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            not_before: Option<String>,
            #[serde(skip_serializing_if = "Option::is_none")]
            not_after: Option<String>,
            #[serde(skip_serializing_if = "Option::is_none")]
            replaces: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            error: Option<ProblemDocument>,
            authorizations: Vec<String>,
            finalize: String,
            #[serde(skip_serializing_if = "Option::is_none")]
            certificate: Option<String>,
            #[serde(rename = "https://c2sp.org/tlog-proof@v1")]
            #[serde(skip_serializing_if = "Option::is_none")]
            logged: Option<Logged>,
        }

        /// Where the log has the signature. No registered member: clients ignore those they do not know (RFC 8555
        /// section 7.1), and a URI as its name keeps it apart from any that will be registered.
        #[derive(Serialize)]
        struct Logged {
            index: u64,
            proof: String,
        }

        let status = self.status(authorizations, now);
        json::text(&OrderObject {
            status: status.name(),
            expires: self.expires.to_string(),
            identifiers: self.identifiers.iter().map(NamedIdentifier::from).collect(),
            profile: &self.profile,
            not_before: self.not_before.map(|at| at.to_string()),
            not_after: self.not_after.map(|at| at.to_string()),
            replaces: self.replaces.as_deref(),
            error: (status == OrderStatus::Invalid)
                .then(|| ProblemDocument(self.error(authorizations, now))),
            authorizations: self
                .authorizations
                .iter()
                .map(|id| urls.url(Resource::Authz(*id)))
                .collect(),
            finalize: urls.url(Resource::Finalize(self.id)),
            certificate: (status == OrderStatus::Valid)
                .then(|| urls.url(Resource::Certificate(self.id))),
            logged: match &self.outcome {
                Some(Outcome::Issued { leaf, serial, .. }) => {
                    Some(Logged { index: *leaf, proof: urls.proof(*serial) })
                }
                _ => None,
            },
        })
    }

    /// Why it is invalid.
    fn error(&self, authorizations: &[Authorization], now: Timestamp) -> Problem {
        if let Some(Outcome::Failed { problem, .. }) = &self.outcome {
            return problem.clone();
        }
        let failed: Vec<Subproblem> = authorizations
            .iter()
            .filter(|authz| self.authorizations.contains(&authz.id))
            .filter_map(|authz| {
                let status = authz.status(now);
                if matches!(status, AuthzStatus::Valid | AuthzStatus::Pending) {
                    return None;
                }
                let error = authz.challenges.iter().find_map(|challenge| challenge.error());
                let (kind, detail) = error.map_or_else(
                    || {
                        let detail = format!("the authorization is {}", status.name());
                        (ProblemType::Unauthorized, detail)
                    },
                    |problem| (problem.kind, problem.detail),
                );
                Some(Subproblem::of(kind, detail, &authz.identifier))
            })
            .collect();
        if failed.is_empty() {
            return Problem::malformed("the order expired before it was finalized");
        }
        Problem::compound(failed)
    }

    /// Parses a finalize payload `{"csr": base64url(DER)}`.
    pub fn parse_finalize(payload: &[u8]) -> Result<Csr, Problem> {
        use base64ct::{Base64UrlUnpadded, Encoding};

        #[derive(Deserialize)]
        struct Members {
            csr: String,
        }

        let Members { csr } = json::object(payload)
            .map_err(|_| Problem::malformed("the payload is not an object with a csr"))?;
        // Four characters for three octets.
        if csr.len() > Csr::MAX_DER.div_ceil(3) * 4 {
            return Err(Problem::new(ProblemType::BadCsr, "the CSR is too large"));
        }
        let der = Base64UrlUnpadded::decode_vec(&csr).map_err(|_| {
            Problem::malformed("csr is not base64url; it carries DER, without PEM's lines")
        })?;
        Csr::parse(&der).map_err(|why| Problem::new(ProblemType::BadCsr, why.to_string()))
    }
}

impl OrderStatus {
    /// The word of RFC 8555.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Ready => "ready",
            Self::Processing => "processing",
            Self::Valid => "valid",
            Self::Invalid => "invalid",
        }
    }
}

#[cfg(test)]
mod tests;
