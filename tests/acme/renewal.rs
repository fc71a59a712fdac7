//! RFC 9773: renewal information, and orders that replace a certificate.

use std::sync::atomic::Ordering;
use std::time::Duration;

use chancery::acme::directory::CertId;
use chancery::acme::problem::{Problem, ProblemType};
use chancery::acme::renewal::Window;
use chancery::acme::rfc3339;
use chancery::env::Clock;
use chancery::env::system::SystemClock;
use chancery::id::{Serial, Timestamp};
use chancery::pki::certificate::Certificate;
use hyper::Method;
use serde_json::{Value, json};

use crate::support::raw::{Answer, csr};
use crate::support::{Ca, Client};

const HOUR: Duration = Duration::from_secs(3600);

/// Enrols, and names the certificate as RFC 9773 section 4.1 does.
async fn enrolled(ca: &Ca, client: &mut Client, name: &str) -> CertId {
    let (_, order) = client.ready(ca, &[&format!("dns:{name}")]).await;
    let finalize = order["finalize"].as_str().unwrap();
    let done = client.post(finalize, &json!({ "csr": csr(&[name]) })).await.json();
    let chain = client.post_as_get(done["certificate"].as_str().unwrap()).await;
    let leaf = chain.text().split_inclusive("-----END CERTIFICATE-----\n").next().unwrap();
    let leaf = Certificate::parse_pem(leaf).unwrap();
    CertId {
        issuer_key_id: leaf.authority_key_id().unwrap().try_into().unwrap(),
        serial: leaf.serial().unwrap(),
    }
}

/// Asks without an account, as anyone may.
async fn info(ca: &Ca, id: &str) -> Answer {
    ca.client().await.get(&format!("/acme/renewal-info/{id}")).await
}

fn window(answer: &Answer) -> (Timestamp, Timestamp) {
    let at = |name: &str| {
        rfc3339::parse(answer.json()["suggestedWindow"][name].as_str().unwrap()).unwrap()
    };
    (at("start"), at("end"))
}

async fn replace(client: &mut Client, name: &str, replaces: &str) -> Answer {
    let payload = json!({
        "identifiers": [{ "type": "dns", "value": name }], "replaces": replaces,
    });
    client.post(&client.new_order_url(), &payload).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anyone_may_ask_when_to_renew() {
    let ca = Ca::start().await;
    let mut client = ca.registered().await;
    let id = enrolled(&ca, &mut client, "a.test").await;
    let answer = info(&ca, &id.to_string()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("retry-after"), Some("21600"));
    assert!(answer.header("cache-control").unwrap().starts_with("public, max-age="));
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    assert!(answer.header("replay-nonce").is_none());
    assert!(answer.json().get("explanationURL").is_none());
    let (start, end) = window(&answer);
    let now = SystemClock::new().now();
    assert!(start > now.plus(50 * 24 * HOUR) && end < now.plus(65 * 24 * HOUR) && start < end);
    assert_eq!(window(&info(&ca, &id.to_string()).await), (start, end), "the same each time");
    let path = format!("/acme/renewal-info/{id}");
    let head = client.request(Method::HEAD, &path).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    let posted = client.post_as_get(&ca.url(&path)).await;
    assert_eq!((posted.status, posted.problem().as_str()), (405, "malformed"));
    assert_eq!(posted.header("allow"), Some("GET, HEAD, OPTIONS"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_issued_here_has_no_renewal_information() {
    let ca = Ca::start().await;
    let mut client = ca.registered().await;
    let id = enrolled(&ca, &mut client, "a.test").await;
    let unknown = CertId { serial: Serial::from_random([1; 16]), ..id };
    let foreign = CertId { issuer_key_id: [1; 20], ..id };
    for text in [
        unknown.to_string(),
        foreign.to_string(),
        // The vector of RFC 9773 section 4.1.
        "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE".into(),
        format!("{id}="),
        format!("{id}."),
        "x".into(),
        String::new(),
    ] {
        let answer = info(&ca, &text).await;
        assert_eq!((answer.status, answer.problem().as_str()), (404, "malformed"), "{text}");
    }
    ca.issuer.away.store(true, Ordering::SeqCst);
    // On a connection that stands: a new one would need the TLS key.
    let away = client.get(&format!("/acme/renewal-info/{id}")).await;
    assert_eq!(away.status, 503);
    assert!(away.header("retry-after").is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revoked_or_recalled_it_is_renewed_sooner() {
    let ca = Ca::start().await;
    let mut client = ca.registered().await;
    let id = enrolled(&ca, &mut client, "a.test").await;
    let now = SystemClock::new().now();
    let recall = Window {
        start: now.minus(HOUR),
        end: now.plus(HOUR),
        explanation: Some("https://ca.test/why".into()),
    };
    let tell = |revoked, recall| {
        let mut certified = ca.issuer.certified.lock().unwrap();
        let certified = certified.get_mut(&id.serial).unwrap();
        (certified.revoked, certified.recall) = (revoked, recall);
    };
    tell(None, Some(recall));
    let answer = info(&ca, &id.to_string()).await;
    assert_eq!(answer.json()["explanationURL"], "https://ca.test/why");
    let (start, end) = window(&answer);
    assert!(start < now && end > now);
    tell(Some(now), None);
    let (start, end) = window(&info(&ca, &id.to_string()).await);
    assert!(start < end && end <= now, "in the past: at once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_replaces_a_certificate_once() {
    let ca = Ca::start().await;
    let mut client = ca.registered().await;
    let id = enrolled(&ca, &mut client, "a.test").await.to_string();
    let first = replace(&mut client, "a.test", &id).await;
    assert_eq!(first.status, 201, "{first:?}");
    assert_eq!(first.json()["replaces"], json!(id), "echoed");
    let url = first.header("location").unwrap().to_owned();
    assert_eq!(client.post_as_get(&url).await.json()["replaces"], json!(id));
    let second = replace(&mut client, "a.test", &id).await;
    assert_eq!((second.status, second.problem().as_str()), (409, "alreadyReplaced"));

    // The order fails: another may be placed.
    *ca.issuer.refuses.lock().unwrap() = Some(Problem::new(ProblemType::BadCsr, "weak"));
    let finalize = first.json()["finalize"].as_str().unwrap().to_owned();
    client.post(&finalize, &json!({ "csr": csr(&["a.test"]) })).await;
    assert_eq!(client.post_as_get(&url).await.json()["status"], "invalid");
    *ca.issuer.refuses.lock().unwrap() = None;
    let third = replace(&mut client, "a.test", &id).await;
    assert_eq!(third.status, 201, "{third:?}");
    let finalize = third.json()["finalize"].as_str().unwrap().to_owned();
    let done = client.post(&finalize, &json!({ "csr": csr(&["a.test"]) })).await.json();
    assert_eq!(done["status"], "valid");
    let fourth = replace(&mut client, "a.test", &id).await;
    assert_eq!((fourth.status, fourth.problem().as_str()), (409, "alreadyReplaced"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_one_s_own_certificate_with_a_name_in_common_is_replaced() {
    let ca = Ca::start().await;
    let mut client = ca.registered().await;
    let id = enrolled(&ca, &mut client, "a.test").await;
    let unknown = CertId { serial: Serial::from_random([1; 16]), ..id };
    let mut stranger = ca.registered().await;
    let missing = replace(&mut stranger, "a.test", &unknown.to_string()).await;
    assert_eq!((missing.status, missing.problem().as_str()), (400, "malformed"));
    let foreign = replace(&mut stranger, "a.test", &id.to_string()).await;
    assert_eq!((foreign.status, foreign.json()), (400, missing.json()), "it tells nothing");
    for (name, replaces) in [
        ("b.test", id.to_string()),
        ("a.test", "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE".into()),
        ("a.test", "no identifier".into()),
    ] {
        let answer = replace(&mut client, name, &replaces).await;
        assert_eq!((answer.status, answer.problem().as_str()), (400, "malformed"), "{replaces}");
    }
    assert_eq!(replace(&mut client, "a.test", &id.to_string()).await.status, 201, "not taken");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_replace_at_once_one_does() {
    let ca = Ca::start().await;
    let mut client = ca.registered().await;
    let id = enrolled(&ca, &mut client, "a.test").await.to_string();
    let url = client.new_order_url();
    let payload: Value =
        json!({ "identifiers": [{ "type": "dns", "value": "a.test" }], "replaces": id });
    let mut tasks = Vec::new();
    for _ in 0..6 {
        let header = client.header(&url).await;
        let jws = client.key.sign(&header, &payload.to_string());
        let (mut other, url) = (ca.client().await, url.clone());
        tasks.push(tokio::spawn(async move { other.post_jws(&url, &jws).await.status }));
    }
    let mut statuses = Vec::new();
    for task in tasks {
        statuses.push(task.await.unwrap());
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409, 409, 409, 409, 409]);
}
