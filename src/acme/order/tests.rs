//! Tables of statuses, refusals of newOrder, and orders driven by random events.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::acme::challenge::{ChallengeType, RetryRule};
use crate::acme::jws::Thumbprint;
use crate::id::ChallengeId;
use crate::pki::profile::Profile;

const NOW: Timestamp = Timestamp(1_795_305_599_000);
const HOUR: Duration = Duration::from_secs(3600);
const RULE: RetryRule = RetryRule { attempts: 1, first: HOUR, longest: HOUR };
const ACCOUNT: AccountId = AccountId([1; 16]);

fn profile(name: &str) -> Profile {
    Profile {
        name: name.into(),
        description: String::new(),
        lifetime_hours: 24,
        backdate_minutes: 60,
        usages: Vec::new(),
        keys: Vec::new(),
        max_names: 3,
        ..Profile::server()
    }
}

fn id(name: &str) -> Identifier {
    let kind = if name.parse::<std::net::IpAddr>().is_ok() { "ip" } else { "dns" };
    Identifier::parse(kind, name).unwrap()
}

fn new_order(names: &[&str]) -> NewOrder {
    NewOrder {
        identifiers: names.iter().copied().map(id).collect(),
        ancestors: BTreeMap::new(),
        not_before: None,
        not_after: None,
        profile: None,
        replaces: None,
    }
}

fn place_with(
    request: NewOrder,
    challenges: &[ChallengeType],
    reusable: &[Authorization],
) -> Result<Placed, Problem> {
    let long = Profile { lifetime_hours: 48, ..profile("long") };
    let profiles = [profile("server"), profile("device"), long];
    let terms = Terms {
        profiles: &profiles,
        default_profile: "server",
        challenges,
        permits: &|identifier| match identifier.value().ends_with("denied.lan") {
            true => Err("not here".into()),
            false => Ok(()),
        },
        subdomains: true,
        lifetime: 10 * HOUR,
        issuer_ends: &|_| NOW.plus(30 * HOUR),
    };
    let mut next = 0u8;
    let mut random = || {
        next += 1;
        [next; 16]
    };
    request.place(ACCOUNT, &terms, reusable, &mut random, NOW)
}

fn place(names: &[&str]) -> Placed {
    place_with(new_order(names), &[ChallengeType::Http01, ChallengeType::Dns01], &[]).unwrap()
}

fn answer(authz: &mut Authorization) -> ChallengeId {
    let id = authz.challenges[0].id;
    authz.respond(id, Thumbprint([3; 32]), RULE, NOW).unwrap();
    id
}

fn prove(authz: &mut Authorization, lifetime: Duration) {
    let id = answer(authz);
    assert!(authz.succeeded(id, lifetime, NOW));
}

fn issued(at: Timestamp) -> Outcome {
    Outcome::Issued { at, serial: Serial::from_random([9; 16]), leaf: 4, certificate: vec![0x30] }
}

fn parse_kind(payload: &str) -> ProblemType {
    NewOrder::parse(payload.as_bytes()).unwrap_err().kind
}

#[test]
fn new_order_payloads() {
    let parsed = NewOrder::parse(
        br#"{"identifiers":[{"type":"dns","value":"A.lan"},{"type":"ip","value":"10.0.0.1"},
            {"type":"dns","value":"a.lan","x":1}],"notBefore":"2026-11-22T00:00:00Z",
            "notAfter":"2026-11-23T00:00:00Z","profile":"server",
            "replaces":"aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE","unknown":[]}"#,
    )
    .unwrap();
    assert_eq!(
        parsed,
        NewOrder {
            not_before: Some(Timestamp(1_795_305_600_000)),
            not_after: Some(Timestamp(1_795_392_000_000)),
            profile: Some("server".into()),
            replaces: Some("aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE".into()),
            ..new_order(&["a.lan", "10.0.0.1"])
        }
    );
    let one = r#""identifiers":[{"type":"dns","value":"a.lan"}]"#;
    let zero = r#""notBefore":"0001-01-01T00:00:00Z","notAfter":"0001-01-01T00:00:00Z""#;
    let from_go = NewOrder::parse(format!("{{{one},{zero}}}").as_bytes());
    assert_eq!(from_go.unwrap(), new_order(&["a.lan"]), "Go's zero time is no time");
    let many = vec![json!({"type": "dns", "value": "a.lan"}); 101];
    for malformed in [
        "{}".to_owned(),
        r#"{"identifiers":[]}"#.into(),
        r#"{"identifiers":[["dns","a.lan"]]}"#.into(),
        r#"{"identifiers":[{"type":"dns"}]}"#.into(),
        r#"{"identifiers":[{"type":"dns","value":"a..lan"}]}"#.into(),
        r#"{"identifiers":[{"type":"dns","value":"10.0.0.1"}]}"#.into(),
        r#"{"identifiers":[{"type":"ip","value":"a.lan"}]}"#.into(),
        json!({"identifiers": many}).to_string(),
        format!(r#"{{{one},"notAfter":"tomorrow"}}"#),
        format!(r#"{{{one},"replaces":"x"}}"#),
        format!(r#"{{{one},"replaces":"a.b.c"}}"#),
        format!(r#"{{{one},"auto-renewal":{{}}}}"#),
        format!(r#"{{{one},{one}}}"#),
    ] {
        assert_eq!(parse_kind(&malformed), ProblemType::Malformed, "{malformed}");
    }
}

#[test]
fn each_bad_identifier_has_its_subproblem() {
    let long = "x".repeat(10_000);
    let payload = json!({"identifiers": [
        {"type": "dns", "value": "good.lan"},
        {"type": "email", "value": "a@b"},
        {"type": "dns", "value": long},
    ]});
    let problem = NewOrder::parse(payload.to_string().as_bytes()).unwrap_err();
    assert_eq!(problem.kind, ProblemType::Compound);
    let kinds: Vec<_> = problem.subproblems.iter().map(|part| part.kind).collect();
    assert_eq!(kinds, [ProblemType::UnsupportedIdentifier, ProblemType::Malformed]);
    assert_eq!(problem.subproblems[0].identifier.as_ref().unwrap().value, "a@b");
    assert!(problem.to_json().len() < 1000);
}

#[test]
fn an_order_is_placed() {
    let Placed { order, made } = place(&["a.lan", "*.a.lan", "10.0.0.1"]);
    assert_eq!(order.profile, "server");
    assert_eq!(order.expires, NOW.plus(10 * HOUR));
    assert_eq!(order.authorizations, made.iter().map(|authz| authz.id).collect::<Vec<_>>());
    let offered: Vec<Vec<_>> =
        made.iter().map(|authz| authz.challenges.iter().map(|c| c.kind).collect()).collect();
    assert_eq!(
        offered,
        [
            vec![ChallengeType::Http01, ChallengeType::Dns01],
            vec![ChallengeType::Dns01],
            vec![ChallengeType::Http01],
        ]
    );
    assert_eq!((made[1].wildcard, &made[1].identifier), (true, &id("a.lan")));
    let mut ids: Vec<[u8; 16]> = vec![order.id.0];
    ids.extend(made.iter().map(|authz| authz.id.0));
    ids.extend(made.iter().flat_map(|authz| &authz.challenges).map(|c| c.id.0));
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 8, "no id twice");
}

#[test]
fn orders_that_are_refused() {
    let http = [ChallengeType::Http01];
    let kind = |request| place_with(request, &http, &[]).unwrap_err().kind;
    assert_eq!(kind(new_order(&["*.a.lan"])), ProblemType::RejectedIdentifier);
    assert_eq!(kind(new_order(&["a.lan", "x.denied.lan"])), ProblemType::RejectedIdentifier);
    assert_eq!(kind(new_order(&["a", "b", "c", "d"])), ProblemType::Malformed);
    let other = NewOrder { profile: Some("none".into()), ..new_order(&["a.lan"]) };
    assert_eq!(kind(other), ProblemType::InvalidProfile);
    let times = |before: Option<u64>, after: Option<u64>| NewOrder {
        not_before: before.map(Timestamp),
        not_after: after.map(Timestamp),
        ..new_order(&["a.lan"])
    };
    // In milliseconds; a whole second.
    let hours = |hours: i64| NOW.0.saturating_add_signed(hours * 3_600_000);
    for (before, after, good) in [
        (None, Some(hours(23) - 1_000), true),
        (Some(hours(0)), Some(hours(24) - 1_000), true),
        (Some(hours(-1)), Some(hours(22)), true),
        (Some(hours(24)), None, true),
        (None, Some(hours(23)), false),
        (Some(hours(0)), Some(hours(24)), false),
        (Some(hours(-2)), None, false),
        (Some(hours(25)), None, false),
        (None, Some(hours(0)), false),
        (Some(hours(3)), Some(hours(3)), false),
        (None, Some(hours(20) - 1), false),
        (Some(hours(20)), Some(hours(31)), false),
    ] {
        let placed = place_with(times(before, after), &http, &[]);
        assert_eq!(placed.is_ok(), good, "{before:?} {after:?}");
    }
    // Nothing outlives the issuer.
    for (after, good) in [(hours(30), true), (hours(30) + 1_000, false)] {
        let long = NewOrder { profile: Some("long".into()), ..times(None, Some(after)) };
        assert_eq!(place_with(long, &http, &[]).is_ok(), good, "{after}");
    }
    // An order lasts while its dates can be met.
    let expires =
        |before, after| place_with(times(before, after), &http, &[]).unwrap().order.expires.0;
    assert_eq!(expires(None, None), hours(10));
    assert_eq!(expires(Some(hours(0)), Some(hours(9))), hours(9));
    assert_eq!(expires(None, Some(hours(11))), hours(10));
    let device = NewOrder { profile: Some("device".into()), ..new_order(&["a.lan"]) };
    assert_eq!(place_with(device, &http, &[]).unwrap().order.profile, "device");
}

#[test]
fn valid_authorizations_are_reused() {
    let mut valid = place(&["a.lan"]).made.remove(0);
    valid.id = AuthzId([77; 16]);
    prove(&mut valid, 5 * HOUR);
    let http = [ChallengeType::Http01];
    let placed = place_with(new_order(&["a.lan", "b.lan"]), &http, &[valid.clone()]).unwrap();
    assert_eq!(placed.order.authorizations[0], valid.id);
    assert_eq!(placed.made.len(), 1);
    assert_eq!(placed.order.expires, valid.expires, "it cannot outlive what it rests on");

    let foreign = Authorization { account: AccountId([2; 16]), ..valid.clone() };
    let ending = Authorization { expires: NOW.plus(HOUR), ..valid.clone() };
    let given_up = Authorization { deactivated: Some(NOW), ..valid.clone() };
    let wildcard = Authorization { wildcard: true, ..valid };
    for unfit in [foreign, ending, given_up, wildcard] {
        let placed = place_with(new_order(&["a.lan"]), &http, &[unfit]).unwrap();
        assert_eq!(placed.made.len(), 1);
    }
}

#[test]
fn statuses() {
    let Placed { mut order, mut made } = place(&["a.lan", "b.lan"]);
    let late = NOW.plus(10 * HOUR);
    assert_eq!(order.status(&made, NOW), OrderStatus::Pending);
    assert_eq!(order.status(&made, late), OrderStatus::Invalid);
    prove(&mut made[0], 5 * HOUR);
    assert_eq!(order.status(&made, NOW), OrderStatus::Pending);
    prove(&mut made[1], 20 * HOUR);
    assert_eq!(order.status(&made, NOW), OrderStatus::Ready);
    assert_eq!(order.status(&made[1..], NOW), OrderStatus::Invalid, "one is missing");
    assert_eq!(order.status(&made, NOW.plus(5 * HOUR)), OrderStatus::Invalid, "one expired");
    assert_eq!(order.status(&made, late), OrderStatus::Invalid);
    assert!(!order.settle(issued(NOW)), "not finalized");
    assert!(order.accept(vec![1], NOW));
    assert!(!order.accept(vec![2], NOW));
    assert_eq!(order.finalize.as_ref().map(|f| f.jws.as_slice()), Some(&[1][..]));
    assert_eq!(order.status(&made, late), OrderStatus::Processing);
    assert_eq!(order.ends(), None);
    assert!(order.settle(issued(late)));
    assert_eq!(order.status(&[], late), OrderStatus::Valid);
    let problem = Problem::new(ProblemType::ServerInternal, "");
    assert!(!order.settle(Outcome::Failed { at: late, problem }));
    assert_eq!(order.ends(), Some(late));
}

#[test]
fn order_objects() {
    let urls = Urls::new("https://ca.lan").unwrap();
    let Placed { mut order, mut made } = place(&["a.lan", "*.b.lan"]);
    let object = |order: &Order, made: &[Authorization], now| -> Value {
        serde_json::from_str(&order.to_json(made, now, &urls)).unwrap()
    };
    let base = format!("https://ca.lan/acme/order/{}", order.id);
    let mut expected = json!({
        "status": "pending",
        "expires": "2026-11-22T09:59:59Z",
        "identifiers": [{"type": "dns", "value": "a.lan"}, {"type": "dns", "value": "*.b.lan"}],
        "profile": "server",
        "authorizations": [
            format!("https://ca.lan/acme/authz/{}", made[0].id),
            format!("https://ca.lan/acme/authz/{}", made[1].id),
        ],
        "finalize": format!("{base}/finalize"),
    });
    assert_eq!(object(&order, &made, NOW), expected);

    let expired = object(&order, &made, NOW.plus(10 * HOUR));
    assert_eq!(expired["status"], "invalid");
    assert!(expired["error"]["detail"].is_string());

    let mut failing = made.clone();
    let challenge = answer(&mut failing[0]);
    let refused = Problem::new(ProblemType::Connection, "refused");
    failing[0].failed(challenge, refused, RULE, NOW);
    let failed = object(&order, &failing, NOW);
    assert_eq!(failed["error"]["type"], ProblemType::Connection.urn());
    assert_eq!(failed["error"]["subproblems"][0]["identifier"]["value"], "a.lan");

    for authz in &mut made {
        prove(authz, 20 * HOUR);
    }
    order.not_after = Some(NOW);
    order.replaces = Some("a.b".into());
    order.accept(vec![1], NOW);
    order.settle(issued(NOW));
    expected["status"] = "valid".into();
    expected["notAfter"] = "2026-11-21T23:59:59Z".into();
    expected["replaces"] = "a.b".into();
    expected["certificate"] = format!("{base}/certificate").into();
    expected["https://c2sp.org/tlog-proof@v1"] = json!({
        "index": 4,
        "proof": "https://ca.lan/proof/49090909090909090909090909090909.tlog-proof",
    });
    assert_eq!(object(&order, &made, NOW), expected);
}

#[test]
fn finalize_payloads() {
    assert_eq!(Order::parse_finalize(b"{}").unwrap_err().kind, ProblemType::Malformed);
    let padded = Order::parse_finalize(br#"{"csr":"MAA="}"#).unwrap_err();
    assert_eq!(padded.kind, ProblemType::Malformed);
    let large = format!(r#"{{"csr":"{}"}}"#, "A".repeat(30_000));
    assert_eq!(Order::parse_finalize(large.as_bytes()).unwrap_err().kind, ProblemType::BadCsr);
}

fn finalize_payload(names: &[&str]) -> String {
    use base64ct::{Base64UrlUnpadded, Encoding};
    let key = rcgen::KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = rcgen::CertificateParams::new(names).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let request = params.serialize_request(&key).unwrap();
    json!({"csr": Base64UrlUnpadded::encode_string(request.der())}).to_string()
}

#[test]
fn finalize_wants_a_ready_order_and_exactly_its_names() {
    let Placed { mut order, mut made } = place(&["a.lan", "10.0.0.1"]);
    let csr = |names| Order::parse_finalize(finalize_payload(names).as_bytes()).unwrap();
    let good = csr(&["10.0.0.1", "a.lan"]);
    let refused = order.finalize(&made, &good, NOW).unwrap_err();
    assert_eq!((refused.kind, refused.status), (ProblemType::OrderNotReady, 403));
    made.iter_mut().for_each(|authz| prove(authz, 20 * HOUR));
    for names in [&["a.lan"][..], &["a.lan", "10.0.0.1", "b.lan"], &["a.lan", "10.0.0.2"]] {
        let refused = order.finalize(&made, &csr(names), NOW).unwrap_err();
        assert_eq!(refused.kind, ProblemType::BadCsr);
        assert_eq!(order.status(&made, NOW), OrderStatus::Ready, "it stays ready");
    }
    assert_eq!(order.finalize(&made, &good, NOW), Ok(FinalizeDecision::Accept));
    order.accept(vec![1], NOW);
    let again = order.finalize(&made, &good, NOW);
    assert_eq!(again, Ok(FinalizeDecision::AlreadyProcessing));
    order.settle(issued(NOW));
    let later = order.finalize(&made, &good, NOW.plus(50 * HOUR));
    assert_eq!(later, Ok(FinalizeDecision::AlreadyProcessing));
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Prove(usize),
    Fail(usize),
    GiveUp(usize),
    Finalize,
    Issue,
    Refuse,
    Wait,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0..2usize).prop_map(Event::Prove),
        1 => (0..2usize).prop_map(Event::Fail),
        1 => (0..2usize).prop_map(Event::GiveUp),
        2 => Just(Event::Finalize),
        2 => Just(Event::Issue),
        1 => Just(Event::Refuse),
        1 => Just(Event::Wait),
    ]
}

proptest! {
    /// pending → ready → processing → valid, invalid from anywhere but valid; never back; valid only
    /// when a certificate was issued.
    #[test]
    fn status_never_goes_back(events in proptest::collection::vec((event(), 0..9_000u64), 0..25)) {
        let Placed { mut order, mut made } = place(&["a.lan", "b.lan"]);
        let mut now = NOW;
        let mut before = OrderStatus::Pending;
        for (event, seconds) in events {
            now = now.plus(Duration::from_secs(seconds));
            match event {
                Event::Prove(which) => {
                    let id = made[which].challenges[0].id;
                    let _ = made[which].respond(id, Thumbprint([3; 32]), RULE, now);
                    made[which].succeeded(id, 3 * HOUR, now);
                }
                Event::Fail(which) => {
                    let id = made[which].challenges[0].id;
                    let _ = made[which].respond(id, Thumbprint([3; 32]), RULE, now);
                    let problem = Problem::new(ProblemType::Dns, "");
                    made[which].failed(id, problem, RULE, now);
                }
                Event::GiveUp(which) => { made[which].deactivate(now); }
                Event::Finalize => {
                    if order.status(&made, now) == OrderStatus::Ready {
                        prop_assert!(order.accept(vec![1], now));
                    }
                }
                Event::Issue => { order.settle(issued(now)); }
                Event::Refuse => {
                    if order.is_processing() {
                        let problem = Problem::new(ProblemType::ServerInternal, "");
                        order.settle(Outcome::Failed { at: now, problem });
                    }
                }
                Event::Wait => now = now.plus(HOUR),
            }
            let after = order.status(&made, now);
            let rank = |status| match status {
                OrderStatus::Pending => 0,
                OrderStatus::Ready => 1,
                OrderStatus::Processing => 2,
                OrderStatus::Valid => 3,
                OrderStatus::Invalid => 4,
            };
            prop_assert!(rank(after) >= rank(before), "{:?} to {:?}", before, after);
            prop_assert!(before != OrderStatus::Valid || after == OrderStatus::Valid);
            prop_assert_eq!(
                after == OrderStatus::Valid,
                matches!(order.outcome, Some(Outcome::Issued { .. }))
            );
            prop_assert_eq!(after == OrderStatus::Processing, order.is_processing());
            before = after;
        }
    }

    #[test]
    fn new_orders_never_panic(payload in "\\PC{0,120}") {
        let _ = NewOrder::parse(payload.as_bytes());
    }
}
