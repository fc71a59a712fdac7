//! RFC 8555 section 8.4, RFC 8737, RFC 8738, RFC 8657 and the drafts of DNS: every way to prove a name but http-01,
//! wildcards, and what CAA has to say.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64ct::{Base64UrlUnpadded, Encoding};
use serde_json::{Value, json};

use crate::support::raw::csr;
use crate::support::{Ca, Client, Wish};
use crate::tls_alpn::{ACME_TLS, Answer, Server};

/// One name ordered, and the challenge of this type.
async fn offered(client: &mut Client, name: &str, kind: &str) -> (String, Value, String) {
    let order = client.order(&[name]).await;
    assert_eq!(order.status, 201, "{order:?}");
    let authz = order.json()["authorizations"][0].as_str().unwrap().to_owned();
    let object = client.post_as_get(&authz).await.json();
    let challenges = object["challenges"].as_array().unwrap();
    let challenge = challenges.iter().find(|challenge| challenge["type"] == kind);
    let challenge = challenge.unwrap_or_else(|| panic!("no {kind}: {object}")).clone();
    (order.header("location").unwrap().to_owned(), challenge, authz)
}

/// Responds, and waits for the end.
async fn decided(client: &mut Client, challenge: &Value, authz: &str) -> Value {
    let answer = client.post(challenge["url"].as_str().unwrap(), &json!({})).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    client.poll_while(authz, &["pending"]).await.json()
}

fn key_authorization(client: &Client, challenge: &Value) -> String {
    format!("{}.{}", challenge["token"].as_str().unwrap(), client.key.thumbprint())
}

fn hashed(text: &str) -> String {
    Base64UrlUnpadded::encode_string(digest(&SHA256, text.as_bytes()).as_ref())
}

fn error(authz: &Value) -> (String, String) {
    let error = &authz["challenges"][0]["error"];
    let kind = error["type"].as_str().unwrap().rsplit(':').next().unwrap().to_owned();
    (kind, error["detail"].as_str().unwrap().to_owned())
}

async fn finalized(
    client: &mut Client,
    order: &str,
    names: &[&str],
) -> crate::support::raw::Answer {
    let url = client.post_as_get(order).await.json()["finalize"].as_str().unwrap().to_owned();
    client.post(&url, &json!({ "csr": csr(names) })).await
}

fn once() -> Wish {
    let mut wish = Wish::new();
    wish.validation.attempts = 1;
    wish
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_is_proven_by_any_of_several_txt_records() {
    let ca = Ca::start().await;
    let mut client = ca.registered().await;
    let (_, challenge, authz) = offered(&mut client, "dns:a.test", "dns-01").await;
    let due = hashed(&key_authorization(&client, &challenge));
    ca.network.txt("_acme-challenge.a.test", &["of another order", &due, ""]);
    let authz = decided(&mut client, &challenge, &authz).await;
    assert_eq!(authz["status"], "valid");
    assert_eq!(authz["challenges"][0]["type"], "dns-01");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_record_is_named_and_not_quoted() {
    let ca = Ca::with(once()).await;
    let mut client = ca.registered().await;
    let (_, challenge, authz) = offered(&mut client, "dns:a.test", "dns-01").await;
    ca.network.txt("_acme-challenge.a.test", &["internal secret"]);
    let (kind, detail) = error(&decided(&mut client, &challenge, &authz).await);
    assert_eq!(kind, "incorrectResponse");
    assert!(detail.contains("_acme-challenge.a.test") && !detail.contains("secret"), "{detail}");

    let (_, challenge, authz) = offered(&mut client, "dns:b.test", "dns-01").await;
    let (kind, detail) = error(&decided(&mut client, &challenge, &authz).await);
    assert_eq!(kind, "dns");
    assert!(detail.contains("_acme-challenge.b.test does not exist"), "{detail}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wildcard_is_proven_at_its_base_and_by_dns_alone() {
    let ca = Ca::with(Wish { wildcards: true, ..Wish::new() }).await;
    let mut client = ca.registered().await;
    let (order, challenge, authz) = offered(&mut client, "dns:*.a.test", "dns-01").await;
    let object = client.post_as_get(&authz).await.json();
    assert_eq!(object["identifier"], json!({ "type": "dns", "value": "a.test" }));
    assert_eq!(object["wildcard"], json!(true));
    let kinds: Vec<_> =
        object["challenges"].as_array().unwrap().iter().map(|c| &c["type"]).collect();
    assert_eq!(kinds, ["dns-01"]);

    let due = hashed(&key_authorization(&client, &challenge));
    ca.network.txt("_acme-challenge.a.test", &[&due]);
    assert_eq!(decided(&mut client, &challenge, &authz).await["status"], "valid");
    // Not the base itself, nor anything below, is what was ordered.
    for names in [&["a.test"][..], &["b.a.test"], &["*.a.test", "a.test"]] {
        let answer = finalized(&mut client, &order, names).await;
        assert_eq!((answer.status, answer.problem().as_str()), (400, "badCSR"), "{answer:?}");
    }
    let answer = finalized(&mut client, &order, &["*.a.test"]).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let valid = client.poll_while(&order, &["processing"]).await.json();
    assert_eq!(valid["status"], "valid", "{valid}");
    // What proves the wildcard does not prove its base.
    assert_eq!(client.order(&["dns:a.test"]).await.json()["status"], "pending");
    assert_eq!(client.order(&["dns:*.a.test"]).await.json()["status"], "ready");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wildcards_are_refused_where_the_policy_has_none() {
    let ca = Ca::start().await;
    let mut client = ca.registered().await;
    let answer = client.order(&["dns:*.a.test"]).await;
    assert_eq!((answer.status, answer.problem().as_str()), (403, "rejectedIdentifier"));
    for name in ["dns:*", "dns:*.*.a.test", "dns:a.*.test", "dns:*a.test"] {
        let answer = client.order(&[name]).await;
        assert_eq!((answer.status, answer.problem().as_str()), (400, "malformed"), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_and_an_address_are_proven_by_tls_alpn() {
    let server = Server::start("127.0.0.1", &[ACME_TLS], rustls::ALL_VERSIONS).await;
    let mut wish = Wish::new();
    wish.validation.tls_port = server.address.port();
    let ca = Ca::with(wish).await;
    let mut client = ca.registered().await;
    for (name, asked) in [("dns:a.test", "a.test"), ("ip:127.0.0.1", "1.0.0.127.in-addr.arpa")] {
        let (_, challenge, authz) = offered(&mut client, name, "tls-alpn-01").await;
        let value = name.split_once(':').unwrap().1;
        server.show(Answer::to(value, &key_authorization(&client, &challenge)).certified());
        let authz = decided(&mut client, &challenge, &authz).await;
        assert_eq!(authz["status"], "valid", "{authz}");
        assert_eq!(server.asked().last().unwrap(), asked);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_is_not_offered_dns() {
    let ca = Ca::start().await;
    let mut client = ca.registered().await;
    let order = client.order(&["ip:127.0.0.1"]).await.json();
    let authz = client.post_as_get(order["authorizations"][0].as_str().unwrap()).await.json();
    let kinds: Vec<_> =
        authz["challenges"].as_array().unwrap().iter().map(|c| &c["type"]).collect();
    assert_eq!(kinds, ["http-01", "tls-alpn-01"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_in_unicode_is_refused_with_advice() {
    let ca = Ca::start().await;
    let mut client = ca.registered().await;
    let answer = client.order(&["dns:bücher.test"]).await;
    assert_eq!((answer.status, answer.problem().as_str()), (400, "malformed"));
    assert!(answer.text().contains("A-label"), "{answer:?}");
    let answer = client.order(&["dns:XN--bcher-KVA.test"]).await.json();
    assert_eq!(answer["identifiers"][0]["value"], "xn--bcher-kva.test");
}

/// With the drafts switched on, and a name of its own.
fn drafts() -> Wish {
    let mut wish = once();
    wish.validation.challenges = vec!["dns-account-01".into(), "dns-persist-01".into()];
    wish.validation.caa_identities = vec!["ca.test".into()];
    wish
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_has_a_label_of_its_own() {
    let ca = Ca::with(drafts()).await;
    let mut client = ca.registered().await;
    let (_, challenge, authz) = offered(&mut client, "dns:a.test", "dns-account-01").await;
    let (kind, detail) = error(&decided(&mut client, &challenge, &authz).await);
    assert_eq!(kind, "dns");
    let label = detail.split(['_', '.']).nth(1).unwrap().to_owned();
    assert_eq!(label.len(), 16, "{detail}");

    let (_, challenge, authz) = offered(&mut client, "dns:b.test", "dns-account-01").await;
    let due = hashed(&key_authorization(&client, &challenge));
    ca.network.txt(&format!("_{label}._acme-challenge.b.test"), &[&due]);
    assert_eq!(decided(&mut client, &challenge, &authz).await["status"], "valid");
    // Another account's record is elsewhere.
    let mut other = ca.registered().await;
    let (_, challenge, authz) = offered(&mut other, "dns:b.test", "dns-account-01").await;
    let (kind, detail) = error(&decided(&mut other, &challenge, &authz).await);
    assert!(kind == "dns" && detail.contains(other.account.as_deref().unwrap()), "{detail}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_persists_proves_until_it_says() {
    let ca = Ca::with(drafts()).await;
    let mut client = ca.registered().await;
    let meta = client.get("/acme/directory").await.json()["meta"].clone();
    assert_eq!(meta["issuerDomainNames"], json!(["ca.test"]));
    assert_eq!(meta["caaIdentities"], json!(["ca.test"]));
    let prefix = meta["accountHashPrefix"].as_str().unwrap().to_owned();

    let (order, challenge, authz) = offered(&mut client, "dns:a.test", "dns-persist-01").await;
    assert_eq!(challenge["issuerDomainNames"], json!(["ca.test"]));
    assert!(challenge.get("token").is_none());
    let account = client.account.clone().unwrap();
    let hash = hashed(&format!("\u{6}a.test{}{account}", client.key.thumbprint()));
    let until = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap() + Duration::from_secs(5000);
    let record =
        format!("ca.test; accounturi={prefix}sha-256/{hash}; persistUntil={}", until.as_secs());
    ca.network.txt("_validation-persist.a.test", &["other.example; accounturi=x", &record]);
    let valid = decided(&mut client, &challenge, &authz).await;
    assert_eq!(valid["status"], "valid", "{valid}");
    let expires = chancery::acme::rfc3339::parse(valid["expires"].as_str().unwrap()).unwrap();
    assert_eq!(expires.unix_seconds(), until.as_secs(), "no longer than the record says");
    assert_eq!(client.post_as_get(&order).await.json()["status"], "ready");

    // The record names one account.
    let mut other = ca.registered().await;
    let (_, challenge, authz) = offered(&mut other, "dns:a.test", "dns-persist-01").await;
    let (kind, detail) = error(&decided(&mut other, &challenge, &authz).await);
    assert!(kind == "unauthorized" && detail.contains("_validation-persist.a.test"), "{detail}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caa_forbids_at_the_validation() {
    let mut wish = once();
    wish.validation.caa_zones = vec!["a.test".into()];
    wish.validation.caa_identities = vec!["ca.test".into()];
    let ca = Ca::with(wish).await;
    ca.network.caa("test", "issue", "other.example");
    let mut client = ca.registered().await;
    // Outside the zones where it is obeyed.
    client.ready(&ca, &["dns:b.test"]).await;
    let (_, challenge, authz) = offered(&mut client, "dns:x.a.test", "http-01").await;
    let token = challenge["token"].as_str().unwrap();
    ca.responder.tell(token, &key_authorization(&client, &challenge));
    let (kind, detail) = error(&decided(&mut client, &challenge, &authz).await);
    assert_eq!(kind, "caa");
    assert!(detail.contains("CAA records of test do not permit this server (ca.test)"), "{detail}");
    // Bound to method and account.
    let account = client.account.clone().unwrap();
    let value = format!("ca.test; validationmethods=http-01; accounturi={account}");
    ca.network.caa("test", "issue", &value);
    client.ready(&ca, &["dns:y.a.test"]).await;
}

/// What CAA said when a name was proven counts for eight hours; then it is asked again at finalize.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caa_is_asked_again_before_issuance() {
    let mut wish = Wish::new();
    wish.validation.caa_zones = vec![".".into()];
    wish.validation.caa_identities = vec!["ca.test".into()];
    let clock = Arc::new(chancery::env::simulated::ManualClock::new(
        chancery::id::Timestamp::from_unix_seconds(
            std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs(),
        ),
    ));
    wish.clock = Some(clock.clone());
    let ca = Ca::with(wish).await;
    let mut client = ca.registered().await;
    let (order, _) = client.ready(&ca, &["dns:a.test"]).await;
    ca.network.caa("test", "issue", "other.example");
    let (fresh, _) = client.ready(&ca, &["dns:a.test"]).await;
    let answer = finalized(&mut client, &fresh, &["a.test"]).await;
    assert_eq!(answer.status, 200, "what was said minutes ago still counts: {answer:?}");

    clock.advance(Duration::from_secs(8 * 3600 + 1));
    let answer = finalized(&mut client, &order, &["a.test"]).await;
    assert_eq!((answer.status, answer.problem().as_str()), (403, "caa"), "{answer:?}");
    assert_eq!(answer.json()["subproblems"][0]["identifier"]["value"], "a.test");
    // Nothing was spent: with the record mended the order goes on.
    assert_eq!(client.post_as_get(&order).await.json()["status"], "ready");
    ca.network.caa("test", "issue", "ca.test");
    assert_eq!(finalized(&mut client, &order, &["a.test"]).await.status, 200);
}
