//! RFC 8555 section 7.6 as far as it is the web process's: which requests reach the issuer, and with what beside
//! them. Who may revoke is decided there; see `negative/revocation` and tests/issuer/revocation.rs.

use std::sync::atomic::Ordering;

use base64ct::{Base64UrlUnpadded, Encoding};
use chancery::acme::challenge::ChallengeType;
use chancery::acme::problem::{Problem, ProblemType};
use serde_json::{Value, json};

use crate::support::Ca;
use crate::support::raw::{Answer, Client, Key};

/// A certificate for these names, issued to a client that proved them.
async fn issued(ca: &Ca, client: &mut Client, names: &[&str]) -> Vec<u8> {
    client.certified(ca, names, &rcgen::KeyPair::generate().unwrap()).await.der().to_vec()
}

fn url(client: &Client) -> String {
    format!("{}/acme/revoke-cert", client.base)
}

fn payload(der: &[u8]) -> Value {
    json!({ "certificate": Base64UrlUnpadded::encode_string(der) })
}

async fn revoke(client: &mut Client, payload: &Value) -> Answer {
    let url = url(client);
    client.post(&url, payload).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_account_s_own_request_reaches_the_issuer_and_the_answer_is_empty() {
    let ca = Ca::start().await;
    let mut client = ca.registered().await;
    let der = issued(&ca, &mut client, &["a.test", "b.test"]).await;
    let url = url(&client);
    let header = client.header(&url).await;
    let jws = client.key.sign(&header, &payload(&der).to_string());
    let answer = client.post_jws(&url, &jws).await;
    assert_eq!((answer.status, answer.text()), (200, ""), "{answer:?}");
    assert!(answer.header("replay-nonce").is_some());
    let asked = ca.issuer.revokes.lock().unwrap().pop().unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&asked.jws).unwrap(), jws, "verbatim");
    // It controls the names, and the issuer is told, whoever got the certificate.
    let claims: Vec<_> =
        asked.validations.iter().map(|v| (v.identifier.value(), v.method)).collect();
    let http01 = ChallengeType::Http01;
    assert_eq!(claims, [("a.test".to_owned(), http01), ("b.test".to_owned(), http01)]);
}

/// Nothing is claimed for an account that controls some of the names, or did.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_is_claimed_for_all_names_or_not_at_all() {
    let ca = Ca::start().await;
    let mut owner = ca.registered().await;
    let der = issued(&ca, &mut owner, &["a.test", "b.test"]).await;
    let mut other = ca.registered().await;
    let claims = || ca.issuer.revokes.lock().unwrap().pop().unwrap().validations.len();
    assert_eq!(revoke(&mut other, &payload(&der)).await.status, 200);
    assert_eq!(claims(), 0);
    other.ready(&ca, &["dns:a.test"]).await;
    revoke(&mut other, &payload(&der)).await;
    assert_eq!(claims(), 0);
    let order = other.order(&["dns:b.test"]).await;
    other.prove(&ca, &order).await;
    revoke(&mut other, &payload(&der)).await;
    assert_eq!(claims(), 2);
    // Given up again.
    let authz = order.json()["authorizations"][0].as_str().unwrap().to_owned();
    let answer = other.post(&authz, &json!({ "status": "deactivated" })).await;
    if answer.status == 200 {
        revoke(&mut other, &payload(&der)).await;
        assert_eq!(claims(), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_holder_of_the_key_needs_no_account() {
    let ca = Ca::start().await;
    let mut client = ca.registered().await;
    let der = issued(&ca, &mut client, &["a.test"]).await;
    let mut holder = ca.client().await;
    let url = url(&holder);
    let header = json!({
        "alg": "ES256", "jwk": holder.key.jwk(), "nonce": holder.nonce().await, "url": url,
    });
    let answer = holder.post_jws(&url, &holder.key.sign(&header, &payload(&der).to_string())).await;
    assert_eq!((answer.status, answer.text()), (200, ""), "{answer:?}");
    let asked = ca.issuer.revokes.lock().unwrap().pop().unwrap();
    assert!(asked.validations.is_empty());
    // What does not verify under the key it brings goes no further.
    let header = json!({
        "alg": "ES256", "jwk": holder.key.jwk(), "nonce": holder.nonce().await, "url": url,
    });
    let forged = Key::new().sign(&header, &payload(&der).to_string());
    let answer = holder.post_jws(&url, &forged).await;
    assert!(matches!(answer.status, 400 | 403), "{answer:?}");
    assert!(ca.issuer.revokes.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_malformed_or_no_subscribers_reason_is_refused_here() {
    let ca = Ca::start().await;
    let mut client = ca.registered().await;
    let der = issued(&ca, &mut client, &["a.test"]).await;
    let certificate = Base64UrlUnpadded::encode_string(&der);
    for (wrong, problem) in [
        (json!({}), "malformed"),
        (json!({ "certificate": "AA==" }), "malformed"),
        (json!({ "certificate": "MAA" }), "malformed"),
        (json!({ "certificate": certificate, "reason": "1" }), "malformed"),
        (json!({ "certificate": certificate, "reason": 2 }), "badRevocationReason"),
        (json!({ "certificate": certificate, "reason": 6 }), "badRevocationReason"),
        (json!({ "certificate": certificate, "reason": 8 }), "badRevocationReason"),
        (json!({ "certificate": certificate, "reason": 10 }), "badRevocationReason"),
        (json!({ "certificate": certificate, "reason": 99 }), "badRevocationReason"),
        (json!({ "certificate": certificate, "reason": -1 }), "badRevocationReason"),
    ] {
        let answer = revoke(&mut client, &wrong).await;
        assert_eq!((answer.status, answer.problem().as_str()), (400, problem), "{wrong}");
    }
    let url = url(&client);
    let answer = client.post_as_get(&url).await;
    assert_eq!((answer.status, answer.problem().as_str()), (400, "malformed"));
    let answer = client.get("/acme/revoke-cert").await;
    assert_eq!(answer.status, 405);
    assert!(ca.issuer.revokes.lock().unwrap().is_empty());
    for reason in [0, 1, 3, 4, 5, 9] {
        let asked = json!({ "certificate": certificate, "reason": reason });
        assert_eq!(revoke(&mut client, &asked).await.status, 200, "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_issuers_refusal_is_the_clients_problem_and_its_absence_a_retry() {
    let ca = Ca::start().await;
    let mut client = ca.registered().await;
    let der = issued(&ca, &mut client, &["a.test"]).await;
    let refuse = |kind| *ca.issuer.refuses.lock().unwrap() = Some(Problem::new(kind, "no"));
    for (kind, status, name) in [
        (ProblemType::AlreadyRevoked, 400, "alreadyRevoked"),
        (ProblemType::Unauthorized, 403, "unauthorized"),
    ] {
        refuse(kind);
        let answer = revoke(&mut client, &payload(&der)).await;
        assert_eq!((answer.status, answer.problem().as_str()), (status, name));
    }
    *ca.issuer.refuses.lock().unwrap() = None;
    ca.issuer.away.store(true, Ordering::SeqCst);
    let answer = revoke(&mut client, &payload(&der)).await;
    assert_eq!((answer.status, answer.problem().as_str()), (503, "serverInternal"));
    assert!(answer.header("retry-after").is_some());
}
