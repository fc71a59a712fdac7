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

#[tokio::test]
async fn a_type_nobody_offers_is_a_problem_not_a_panic() {
    for kind in [ChallengeType::Dns01, ChallengeType::TlsAlpn01, ChallengeType::DeviceAttest01] {
        let attempt = Attempt {
            kind,
            identifier: Identifier::parse("dns", "a.lan").unwrap(),
            token: "token".to_owned(),
            key_authorization: "token.thumbprint".to_owned(),
        };
        let Observation::Failed(problem) = validator(|_| ()).unwrap().attempt(attempt).await else {
            panic!("matched");
        };
        assert_eq!(problem.kind, ProblemType::ServerInternal);
    }
}

#[test]
fn an_attempt_does_not_print_what_it_looks_for() {
    let attempt = Attempt {
        kind: ChallengeType::Http01,
        identifier: Identifier::parse("dns", "a.lan").unwrap(),
        token: "tttt".to_owned(),
        key_authorization: "kkkk".to_owned(),
    };
    let text = format!("{attempt:?}");
    assert!(text.contains("a.lan") && !text.contains("tttt") && !text.contains("kkkk"));
}
