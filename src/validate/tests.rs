use super::*;
use crate::env::simulated::{SimulatedDialer, SimulatedResolver};

fn validator(change: impl FnOnce(&mut Settings)) -> Result<Validator, String> {
    let mut settings = Settings::default();
    change(&mut settings);
    Validator::new(settings, Arc::new(SimulatedResolver::new()), Arc::new(SimulatedDialer::new()))
}

#[test]
fn settings_that_cannot_work_are_refused_by_key() {
    for (change, key) in [
        ((|s| s.http_port = 0) as fn(&mut Settings), "http-port"),
        (|s| s.total_timeout_seconds = 0, "total-timeout-seconds"),
        (|s| s.connect_timeout_seconds = 0, "connect-timeout-seconds"),
        (|s| s.attempts = 0, "attempts"),
        (|s| s.concurrency = 0, "concurrency"),
        (|s| s.allow_networks = vec!["all".to_owned()], "allow-networks"),
        (|s| s.challenges.clear(), "challenges"),
        (|s| s.challenges.push("dns-01".to_owned()), "challenges"),
        (|s| s.challenges.push("device-attest-01".to_owned()), "challenges"),
        (|s| s.challenges.push("dns-persist-01".to_owned()), "caa-identities"),
        (|s| s.caa_zones.push("lan".to_owned()), "caa-identities"),
        (|s| s.caa_identities.push("CA.lan".to_owned()), "caa-identities"),
        (|s| s.caa_identities = (0..11).map(|n| format!("ca{n}.lan")).collect(), "caa-identities"),
        (
            |s| {
                s.caa_identities.push("ca.lan".to_owned());
                s.caa_zones.push("*.lan".to_owned());
            },
            "caa-zones",
        ),
    ] {
        let error = validator(change).err().unwrap();
        assert!(error.starts_with("CHY-CONFIG-VALUE: ") && error.contains(key), "{error}");
    }
}

#[test]
fn the_retry_rule_follows_the_settings() {
    let rule = validator(|s| (s.attempts, s.retry_seconds) = (3, 7)).unwrap().retry_rule();
    assert_eq!((rule.attempts, rule.first), (3, Duration::from_secs(7)));
    assert!(rule.longest >= rule.first);
    let slow = validator(|s| s.retry_seconds = 600).unwrap().retry_rule();
    assert_eq!(slow.longest, Duration::from_secs(600));
}

/// An attempt by the account of `[7; 16]`.
pub(super) fn attempt(kind: ChallengeType, identifier: (&str, &str)) -> Attempt {
    let identifier = Identifier::parse(identifier.0, identifier.1).unwrap();
    Attempt {
        kind,
        identifier: identifier.base(),
        wildcard: identifier.is_wildcard(),
        subdomains: false,
        token: "token".to_owned(),
        key_authorization: "token.thumbprint".to_owned(),
        asker: Asker {
            id: AccountId([7; 16]),
            url: "https://ca.lan/acme/acct/7".to_owned(),
            thumbprints: vec![Thumbprint([1; 32]), Thumbprint([2; 32])],
            hash_prefix: "https://ca.lan/acme/account-hash/".to_owned(),
        },
        now: Timestamp(1_795_305_599_000),
    }
}

#[tokio::test]
async fn a_type_nobody_offers_is_a_problem_not_a_panic() {
    let only_http = |s: &mut Settings| s.challenges = vec!["http-01".to_owned()];
    for kind in [ChallengeType::Dns01, ChallengeType::TlsAlpn01, ChallengeType::DeviceAttest01] {
        let attempt = attempt(kind, ("dns", "a.lan"));
        let observed = validator(only_http).unwrap().attempt(attempt).await;
        let Observation::Failed(problem) = observed else {
            panic!("matched");
        };
        assert_eq!(problem.kind, ProblemType::Unauthorized);
    }
}

#[test]
fn an_attempt_does_not_print_what_it_looks_for() {
    let attempt = Attempt {
        token: "tttt".to_owned(),
        key_authorization: "kkkk".to_owned(),
        ..attempt(ChallengeType::Http01, ("dns", "a.lan"))
    };
    let text = format!("{attempt:?}");
    assert!(text.contains("a.lan") && !text.contains("tttt") && !text.contains("kkkk"));
}
