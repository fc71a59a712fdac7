//! revokeCert (RFC 8555 section 7.6): the payload, and which reasons a subscriber may give.

use base64ct::{Base64UrlUnpadded, Encoding};
use serde::Deserialize;

use super::json;
use super::problem::{Problem, ProblemType};
use crate::pki::certificate::Certificate;

/// A revokeCert payload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RevokeCert {
    pub certificate: Certificate,
    /// CRLReason; `None` if none was given.
    pub reason: Option<u8>,
}

/// CRLReasons (RFC 5280 section 5.3.1) that are a subscriber's to give: unspecified, keyCompromise,
/// affiliationChanged, superseded, cessationOfOperation, privilegeWithdrawn.
pub const SUBSCRIBER_REASONS: [u8; 6] = [0, 1, 3, 4, 5, 9];

/// keyCompromise.
pub const KEY_COMPROMISE: u8 = 1;

impl RevokeCert {
    /// `malformed` or `badRevocationReason`. Whose certificate it is, is not asked here.
    pub fn parse(payload: &[u8]) -> Result<Self, Problem> {
        #[derive(Deserialize)]
        struct Members {
            certificate: String,
            #[serde(default)]
            reason: Option<i64>,
        }
        let members: Members = json::object(payload)
            .map_err(|_| Problem::malformed("the payload is not a revokeCert object"))?;
        let der = Base64UrlUnpadded::decode_vec(&members.certificate)
            .map_err(|_| Problem::malformed("\"certificate\" is not base64url without padding"))?;
        let certificate = Certificate::parse(&der)
            .map_err(|_| Problem::malformed("\"certificate\" is not one certificate in DER"))?;
        let reason = members.reason.map(allowed).transpose()?;
        Ok(Self { certificate, reason })
    }
}

fn allowed(reason: i64) -> Result<u8, Problem> {
    let known = SUBSCRIBER_REASONS.into_iter().find(|known| i64::from(*known) == reason);
    known.ok_or_else(|| {
        Problem::new(
            ProblemType::BadRevocationReason,
            format!("reason {reason} is not a subscriber's to give: it may be absent or one of 0, 1, 3, 4, 5, 9"),
        )
    })
}

/// A CRLReason in words, as RFC 5280 writes it.
pub fn reason_name(reason: u8) -> &'static str {
    match reason {
        0 => "unspecified",
        1 => "keyCompromise",
        2 => "cACompromise",
        3 => "affiliationChanged",
        4 => "superseded",
        5 => "cessationOfOperation",
        6 => "certificateHold",
        8 => "removeFromCRL",
        9 => "privilegeWithdrawn",
        10 => "aACompromise",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kind(payload: &str) -> ProblemType {
        RevokeCert::parse(payload.as_bytes()).unwrap_err().kind
    }

    #[test]
    fn what_is_no_certificate_is_malformed() {
        for payload in [
            "",
            "[]",
            "{}",
            r#"{"certificate":7}"#,
            r#"{"certificate":"AA=="}"#,
            r#"{"certificate":"MAA"}"#,
            r#"{"certificate":"MAA","reason":"1"}"#,
        ] {
            assert_eq!(kind(payload), ProblemType::Malformed, "{payload}");
        }
    }

    #[test]
    fn a_subscriber_gives_some_reasons_and_no_others() {
        for reason in -3..300i64 {
            let may = u8::try_from(reason).is_ok_and(|r| SUBSCRIBER_REASONS.contains(&r));
            match allowed(reason) {
                Ok(known) => assert!(may && i64::from(known) == reason),
                Err(problem) => {
                    assert!(!may, "{reason}");
                    assert_eq!(problem.kind, ProblemType::BadRevocationReason);
                }
            }
        }
        assert!(allowed(i64::MAX).is_err() && allowed(257).is_err());
    }

    proptest! {
        #[test]
        fn any_octets_parse_or_are_refused(payload in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = RevokeCert::parse(&payload);
        }
    }
}
