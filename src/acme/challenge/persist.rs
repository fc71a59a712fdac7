//! dns-persist-01 (draft-ietf-acme-dns-persist-02): a TXT record that names issuer and account, and stays.

use aws_lc_rs::digest::{SHA256, digest};
use base64ct::{Base64UrlUnpadded, Encoding};

use crate::acme::issue_value::IssueValue;
use crate::acme::jws::Thumbprint;
use crate::acme::problem::{Problem, ProblemType};
use crate::id::Timestamp;
use crate::pki::name::DnsName;

/// What records are judged against.
#[derive(Clone, Copy, Debug)]
pub struct PersistTerms<'a> {
    /// The names this server goes by; one of them stands in the record.
    pub issuers: &'a [String],
    /// `accountHashPrefix` of the directory.
    pub prefix: &'a str,
    /// What is proven, without `*.`.
    pub domain: &'a DnsName,
    /// Whether more than this one name is to be authorized: its wildcard, or the names below.
    pub wide: bool,
    pub account_url: &'a str,
    /// Of every key the account has or had, the current one first.
    pub thumbprints: &'a [Thumbprint],
    pub now: Timestamp,
}

/// Where the records are.
pub fn name(domain: &DnsName) -> String {
    format!("_validation-persist.{}", domain.base())
}

/// The hashed account URI (section 4.1) for one key. `domain` is the name the record stands at, or `*`.
pub fn account_uri(prefix: &str, domain: &str, key: &Thumbprint, account_url: &str) -> String {
    // A canonical name has at most 253 octets.
    let length = u8::try_from(domain.len()).unwrap_or(u8::MAX);
    let mut hashed = vec![length];
    for part in [domain, &key.to_string(), account_url] {
        hashed.extend_from_slice(part.as_bytes());
    }
    let hash = digest(&SHA256, &hashed);
    format!("{prefix}{ALGORITHM}{}", Base64UrlUnpadded::encode_string(hash.as_ref()))
}

/// The instant until which the records authorize the account, `None` inside for no end; or what is wrong
/// with the record that comes closest. Records for other issuers say nothing (section 4.3.2).
pub fn judge(records: &[Vec<u8>], terms: &PersistTerms<'_>) -> Result<Option<Timestamp>, Problem> {
    let place = name(terms.domain);
    let mut closest = None;
    let mut best: Option<Option<Timestamp>> = None;
    for record in records {
        match judge_one(record, terms) {
            Ok(until) => {
                best = Some(match (best, until) {
                    (None, until) => until,
                    (Some(None), _) | (_, None) => None,
                    (Some(Some(before)), Some(until)) => Some(before.max(until)),
                });
            }
            Err(flaw) => closest = closest.max(Some(flaw)),
        }
    }
    best.ok_or_else(|| {
        let (kind, what) = closest.unwrap_or(Flaw::OtherIssuer).told();
        Problem::new(kind, format!("DNS: no TXT record at {place} authorizes this account: {what}"))
    })
}

fn judge_one(record: &[u8], terms: &PersistTerms<'_>) -> Result<Option<Timestamp>, Flaw> {
    let value = IssueValue::parse(record).map_err(|_| Flaw::NotOurs)?;
    if !value.issuer.as_ref().is_some_and(|issuer| terms.issuers.contains(issuer)) {
        return Err(Flaw::OtherIssuer);
    }
    let parameter = |tag| value.parameter(tag).map_err(|_| Flaw::Malformed);
    let uri = parameter("accounturi")?.ok_or(Flaw::Malformed)?;
    let policy = parameter("policy")?;
    let until = match parameter("persistUntil")? {
        None => None,
        Some(digits) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
            // A later one than can be said is as good as the last that can.
            let seconds = digits.parse::<u64>().unwrap_or(u64::MAX);
            Some(Timestamp(seconds.saturating_mul(1000)))
        }
        Some(_) => return Err(Flaw::Malformed),
    };
    if uri.strip_prefix(terms.prefix).is_some_and(|rest| !rest.starts_with(ALGORITHM)) {
        return Err(Flaw::Malformed);
    }
    let domain = terms.domain.base();
    let ours = terms.thumbprints.iter().any(|key| {
        [domain, "*"].iter().any(|at| uri == account_uri(terms.prefix, at, key, terms.account_url))
    });
    if !ours {
        return Err(Flaw::OtherAccount);
    }
    if until.is_some_and(|until| until <= terms.now) {
        return Err(Flaw::Expired);
    }
    if terms.wide && !policy.is_some_and(|policy| policy.eq_ignore_ascii_case("wildcard")) {
        return Err(Flaw::NoWildcard);
    }
    Ok(until)
}

/// What a record lacks; the later, the closer it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Flaw {
    /// Not an issue-value: whose record it is cannot be told.
    NotOurs,
    OtherIssuer,
    OtherAccount,
    Malformed,
    Expired,
    NoWildcard,
}

impl Flaw {
    fn told(self) -> (ProblemType, &'static str) {
        match self {
            Self::NotOurs => (ProblemType::Malformed, "none is an issue-value of RFC 8659"),
            Self::OtherIssuer => (
                ProblemType::Unauthorized,
                "none names this issuer; the directory lists its issuerDomainNames",
            ),
            Self::OtherAccount => (
                ProblemType::Unauthorized,
                "its accounturi is not that of this account, this name and one of the account's keys",
            ),
            Self::Malformed => (
                ProblemType::Malformed,
                "it needs one accounturi of accountHashPrefix, `sha-256/` and a hash, and no parameter twice; \
                 persistUntil is a number",
            ),
            Self::Expired => (ProblemType::Unauthorized, "its persistUntil has passed"),
            Self::NoWildcard => (
                ProblemType::Unauthorized,
                "a wildcard, or the names below, need policy=wildcard in the record",
            ),
        }
    }
}

const ALGORITHM: &str = "sha-256/";

#[cfg(test)]
mod tests {
    use super::*;

    const PREFIX: &str = "https://ca.example/account-hash/";
    const ACCOUNT: &str = "https://ca.example/acct/123";
    const NOW: Timestamp = Timestamp(1_795_305_599_000);

    /// The key of the draft's vector.
    fn thumbprint() -> Thumbprint {
        let octets = Base64UrlUnpadded::decode_vec("NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
        Thumbprint(octets.unwrap().try_into().unwrap())
    }

    fn judged(records: &[&str], wide: bool) -> Result<Option<u64>, ProblemType> {
        let (issuers, domain) = (["authority.example".to_owned()], DnsName::parse("example.com"));
        let thumbprints = [Thumbprint([9; 32]), thumbprint()];
        let terms = PersistTerms {
            issuers: &issuers,
            prefix: PREFIX,
            domain: &domain.unwrap(),
            wide,
            account_url: ACCOUNT,
            thumbprints: &thumbprints,
            now: NOW,
        };
        let records: Vec<Vec<u8>> = records.iter().map(|r| r.as_bytes().to_vec()).collect();
        judge(&records, &terms)
            .map(|until| until.map(|until| until.unix_seconds()))
            .map_err(|problem| problem.kind)
    }

    const OURS: &str = "authority.example; accounturi=https://ca.example/account-hash/\
                        sha-256/5SQm7n6tPh2-PlLbCKGnViTXX5z19SCN4cPGQHSk-kw";
    const ANY_DOMAIN: &str = "authority.example; accounturi=https://ca.example/account-hash/\
                              sha-256/NpDnSwUthQK8zCgFdefYxAdAVPnygMLbs9US6oO-5ug";

    #[test]
    fn the_draft_s_vectors() {
        assert!(OURS.ends_with(&account_uri(PREFIX, "example.com", &thumbprint(), ACCOUNT)));
        assert!(ANY_DOMAIN.ends_with(&account_uri(PREFIX, "*", &thumbprint(), ACCOUNT)));
        assert_eq!(
            name(&DnsName::parse("example.com").unwrap()),
            "_validation-persist.example.com"
        );
    }

    #[test]
    fn a_record_of_a_former_key_counts_with_or_without_the_domain() {
        assert_eq!(judged(&[OURS], false), Ok(None));
        assert_eq!(judged(&[ANY_DOMAIN], false), Ok(None));
        let upper = OURS.replace("authority.example", "Authority.EXAMPLE");
        assert_eq!(judged(&[&format!("{upper}; unknown=x; POLICY=WildCard")], true), Ok(None));
        assert_eq!(judged(&["other.example", "garbage !", OURS], false), Ok(None));
    }

    #[test]
    fn the_latest_end_counts() {
        let until = |seconds: &str| format!("{OURS}; persistUntil={seconds}");
        assert_eq!(judged(&[&until("1795305600")], false), Ok(Some(1_795_305_600)));
        let two = [until("1795305700"), until("1795305600")];
        assert_eq!(judged(&[&two[0], &two[1]], false), Ok(Some(1_795_305_700)));
        assert_eq!(judged(&[&two[0], OURS], false), Ok(None));
        assert_eq!(judged(&[&until("1795305599")], false), Err(ProblemType::Unauthorized));
        // Beyond what a number holds: as late as can be said.
        assert!(judged(&[&until("99999999999999999999999")], false).is_ok());
        for bad in ["", "-1", "1e9", "soon"] {
            assert_eq!(judged(&[&until(bad)], false), Err(ProblemType::Malformed), "{bad}");
        }
    }

    #[test]
    fn what_does_not_authorize_says_why() {
        use ProblemType::{Malformed, Unauthorized};
        let cases: [(String, ProblemType); 7] = [
            (OURS.replace("authority", "another"), Unauthorized),
            (OURS.replace("5SQm", "6SQm"), Unauthorized),
            (OURS.replace("account-hash", "account"), Unauthorized),
            (OURS.replace("sha-256", "sha-512"), Malformed),
            (format!("{OURS}; accounturi=x"), Malformed),
            ("authority.example".to_owned(), Malformed),
            ("authority.example accounturi=x".to_owned(), Malformed),
        ];
        for (record, kind) in cases {
            assert_eq!(judged(&[&record], false), Err(kind), "{record}");
        }
        assert_eq!(judged(&[], false), Err(Unauthorized));
        assert_eq!(judged(&[OURS], true), Err(Unauthorized));
        assert_eq!(judged(&[&format!("{OURS}; policy=other")], true), Err(Unauthorized));
    }
}
