use std::sync::Arc;

use super::*;
use crate::env::simulated::{SimulatedDialer, SimulatedResolver};
use crate::validate::Settings;

const ACCOUNT: &str = "https://ca.lan/acme/acct/1";

fn property(critical: bool, tag: &str, value: &str) -> CaaRecord {
    CaaRecord { critical, tag: tag.to_owned(), value: value.as_bytes().to_vec() }
}

fn issue(value: &str) -> CaaRecord {
    property(false, "issue", value)
}

fn question(name: &str) -> CaaQuestion {
    let identifier = Identifier::parse("dns", name).unwrap();
    CaaQuestion {
        identifier: identifier.base(),
        wildcard: identifier.is_wildcard(),
        account_url: ACCOUNT.to_owned(),
        method: Some(ChallengeType::Dns01),
    }
}

fn judged(records: &[CaaRecord], name: &str) -> Result<(), String> {
    judge(records, &["ca.lan".to_owned(), "pki.lan".to_owned()], &question(name))
}

#[test]
fn any_property_that_names_this_server_is_enough() {
    for records in [
        vec![issue("ca.lan")],
        vec![issue("other.example"), issue("PKI.lan")],
        vec![issue(";"), issue("ca.lan; unknown=x")],
        vec![property(false, "ISSUE", "ca.lan")],
        // Without a restricting property nothing is restricted.
        vec![property(false, "iodef", "mailto:a@lan")],
        vec![property(true, "iodef", "mailto:a@lan")],
        vec![property(false, "future", "x")],
        vec![property(false, "issuewild", ";")],
    ] {
        assert_eq!(judged(&records, "a.lan"), Ok(()), "{records:?}");
    }
}

#[test]
fn what_names_another_or_nobody_forbids() {
    for records in [
        vec![issue(";")],
        vec![issue("")],
        vec![issue("other.example")],
        vec![issue("ca.lan %%")],
        vec![issue("ca.lan; =")],
        // Critical and unknown, even beside one that permits.
        vec![issue("ca.lan"), property(true, "future", "x")],
    ] {
        assert!(judged(&records, "a.lan").is_err(), "{records:?}");
    }
}

#[test]
fn issuewild_is_for_wildcards_and_goes_before_issue() {
    let both = [issue("other.example"), property(false, "issuewild", "ca.lan")];
    assert_eq!(judged(&both, "*.a.lan"), Ok(()));
    assert!(judged(&both, "a.lan").is_err());
    let none = [issue("ca.lan"), property(false, "issuewild", ";")];
    assert!(judged(&none, "*.a.lan").is_err());
    assert_eq!(judged(&none, "a.lan"), Ok(()));
    assert_eq!(judged(&[issue("ca.lan")], "*.a.lan"), Ok(()));
}

#[test]
fn account_and_method_are_bound_where_a_property_says_so() {
    let with = |parameters: &str| judged(&[issue(&format!("ca.lan; {parameters}"))], "a.lan");
    assert_eq!(with(&format!("accounturi={ACCOUNT}")), Ok(()));
    assert_eq!(with("validationmethods=http-01,dns-01"), Ok(()));
    assert_eq!(with(&format!("validationmethods=dns-01; accounturi={ACCOUNT}")), Ok(()));
    for (parameters, says) in [
        ("accounturi=https://ca.lan/acme/acct/2", "another account"),
        ("accounturi=https://ca.lan/acme/acct/1/", "another account"),
        ("accounturi=", "another account"),
        ("validationmethods=http-01", "not with dns-01"),
        ("validationmethods=DNS-01", "not with dns-01"),
        ("validationmethods=", "not with dns-01"),
        ("validationmethods=dns-01; validationmethods=dns-01", "twice"),
    ] {
        let why = with(parameters).unwrap_err();
        assert!(why.contains(says), "{parameters}: {why}");
    }
    // What one property lacks another may have.
    let two = [issue("ca.lan; accounturi=x"), issue("pki.lan")];
    assert_eq!(judged(&two, "a.lan"), Ok(()));
    let granted = CaaQuestion { method: None, ..question("a.lan") };
    let bound = [issue("ca.lan; validationmethods=dns-01")];
    assert!(judge(&bound, &["ca.lan".to_owned()], &granted).is_err());
}

struct World {
    resolver: Arc<SimulatedResolver>,
    validator: Validator,
}

fn world(zones: &[&str]) -> World {
    let resolver = Arc::<SimulatedResolver>::default();
    let settings = Settings {
        caa_zones: zones.iter().map(|zone| (*zone).to_owned()).collect(),
        caa_identities: vec!["ca.lan".to_owned()],
        ..Settings::default()
    };
    let dialer = Arc::new(SimulatedDialer::new());
    World {
        resolver: resolver.clone(),
        validator: Validator::new(settings, resolver, dialer).unwrap(),
    }
}

impl World {
    async fn check(&self, name: &str) -> Result<(), (ProblemType, String)> {
        let checked = self.validator.check_caa(&question(name)).await;
        checked.map_err(|problem| (problem.kind, problem.detail))
    }
}

#[tokio::test]
async fn the_closest_ancestor_with_records_decides() {
    let world = world(&["."]);
    world.resolver.answer_caa("lan", Ok(vec![issue("ca.lan")]));
    world.resolver.answer_caa("b.lan", Ok(vec![]));
    assert_eq!(world.check("a.b.lan").await, Ok(()));
    assert_eq!(world.resolver.asked(), ["a.b.lan", "b.lan", "lan"]);
    world.resolver.answer_caa("x.lan", Ok(vec![issue(";")]));
    let (kind, detail) = world.check("*.a.x.lan").await.unwrap_err();
    assert_eq!(kind, ProblemType::Caa);
    assert!(detail.contains("records of x.lan do not permit this server (ca.lan)"), "{detail}");
    assert_eq!(world.check("a.home.arpa").await, Ok(()), "none anywhere");
}

#[tokio::test]
async fn what_cannot_be_looked_up_forbids() {
    for error in [
        ResolveError::Failed("SERVFAIL".to_owned()),
        ResolveError::Timeout,
        ResolveError::TooManyRecords,
        ResolveError::TooManyAliases,
    ] {
        let world = world(&["."]);
        world.resolver.answer_caa("lan", Err(error));
        let (kind, detail) = world.check("a.lan").await.unwrap_err();
        assert_eq!(kind, ProblemType::Caa);
        assert!(detail.contains("records of lan failed") && !detail.contains("SERVFAIL"));
    }
}

#[tokio::test]
async fn it_is_obeyed_in_the_zones_that_are_told_and_for_names_alone() {
    let world = world(&["b.lan"]);
    for name in ["lan", "a.lan", "b.lan"] {
        world.resolver.answer_caa(name, Ok(vec![issue(";")]));
    }
    assert_eq!(world.check("a.lan").await, Ok(()));
    assert!(world.resolver.asked().is_empty());
    assert!(world.check("x.b.lan").await.is_err());
    let address = CaaQuestion {
        identifier: Identifier::parse("ip", "10.0.0.1").unwrap(),
        ..question("a.lan")
    };
    assert_eq!(world.validator.check_caa(&address).await, Ok(()));
}
