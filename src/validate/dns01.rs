//! The challenges that TXT records answer: dns-01 (RFC 8555 section 8.4), dns-account-01
//! (draft-ietf-acme-dns-account-label-03), dns-persist-01 (draft-ietf-acme-dns-persist-02).

use super::{Attempt, Validator, lookup_problem};
use crate::acme::challenge::{ChallengeType, dns, persist};
use crate::acme::problem::{Problem, ProblemType};
use crate::id::Timestamp;
use crate::pki::name::Identifier;

/// Looks the records up and judges them. The instant is that after which they prove nothing.
pub(super) async fn look(
    validator: &Validator,
    attempt: &Attempt,
) -> Result<Option<Timestamp>, Problem> {
    let Identifier::Dns(domain) = &attempt.identifier else {
        let detail = "an address cannot be proven by DNS records (RFC 8738 section 7)";
        return Err(Problem::new(ProblemType::Unauthorized, detail));
    };
    let asker = &attempt.asker;
    let name = match attempt.kind {
        ChallengeType::DnsPersist01 => persist::name(domain),
        ChallengeType::DnsAccount01 => dns::dns_account_01_name(domain, &asker.url),
        _ => dns::dns_01_name(domain),
    };
    // Whoever configures the record needs to know of which account its label is made.
    let told = |detail: String| match attempt.kind {
        ChallengeType::DnsAccount01 => format!("{detail} (the label is that of {})", asker.url),
        _ => detail,
    };
    let records = validator.resolver.txt(&name).await.map_err(|error| {
        let problem = lookup_problem(&name, error);
        Problem { detail: told(problem.detail), ..problem }
    })?;
    let problem = |kind, detail: String| Err(Problem::new(kind, told(detail)));
    if records.is_empty() {
        return problem(ProblemType::Dns, format!("DNS: {name} has no TXT records"));
    }
    if attempt.kind == ChallengeType::DnsPersist01 {
        return persist::judge(
            &records,
            &persist::PersistTerms {
                issuers: &validator.settings.caa_identities,
                prefix: &asker.hash_prefix,
                domain,
                wide: attempt.wildcard || attempt.subdomains,
                account_url: &asker.url,
                thumbprints: &asker.thumbprints,
                now: attempt.now,
            },
        );
    }
    if dns::any_matches(&records, &attempt.key_authorization) {
        return Ok(None);
    }
    let detail = format!(
        "DNS: {name} has TXT records, {} in number, and none is the digest of the key authorization",
        records.len()
    );
    problem(ProblemType::IncorrectResponse, detail)
}
