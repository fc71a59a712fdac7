//! RFC 8555 sections 7.5 and 8: authorizations, challenges, validation and its retries.

use serde_json::json;

use crate::support::{Ca, Wish};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authorization_offers_what_can_prove_it() {
    let ca = Ca::start().await;
    let mut client = ca.registered().await;
    let order = client.order(&["dns:a.test"]).await.json();
    let url = order["authorizations"][0].as_str().unwrap();
    let authz = client.post_as_get(url).await.json();
    assert_eq!(authz["status"], "pending");
    assert_eq!(authz["identifier"], json!({ "type": "dns", "value": "a.test" }));
    assert!(authz.get("wildcard").is_none(), "absent unless it is one");
    assert!(authz["expires"].is_string());
    let challenge = client.challenge(url).await;
    assert_eq!(challenge["status"], "pending");
    assert!(challenge["token"].as_str().unwrap().len() >= 22);
    let answer = client.post_as_get(challenge["url"].as_str().unwrap()).await;
    assert_eq!(answer.json(), challenge);
    assert!(answer.links().contains(&format!("<{url}>;rel=\"up\"").as_str()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prompt_device_is_believed_in_the_same_answer() {
    let ca = Ca::start().await;
    let mut client = ca.registered().await;
    let order = client.order(&["dns:a.test", "dns:slow.test"]).await;
    let authorizations = order.json()["authorizations"].clone();
    let (quick, slow) = (authorizations[0].as_str().unwrap(), authorizations[1].as_str().unwrap());
    let tell = |challenge: &serde_json::Value, client: &crate::support::Client| {
        let token = challenge["token"].as_str().unwrap();
        ca.responder.tell(token, &format!("{token}.{}", client.key.thumbprint()));
    };
    let challenge = client.challenge(quick).await;
    tell(&challenge, &client);
    let answer = client.post(challenge["url"].as_str().unwrap(), &json!({})).await.json();
    assert_eq!(answer["status"], "valid", "{answer}");
    assert!(answer["validated"].is_string());
    assert_eq!(client.post_as_get(quick).await.json()["status"], "valid");

    // One that takes its time is asked on, also when its client has left.
    let challenge = client.challenge(slow).await;
    tell(&challenge, &client);
    ca.responder.hold(true);
    let at = challenge["url"].as_str().unwrap();
    let answer = client.post(at, &json!({})).await;
    assert_eq!(answer.json()["status"], "processing", "{answer:?}");
    assert!(answer.json().get("error").is_none());
    ca.responder.hold(false);
    let valid = client.poll_while(at, &["processing"]).await.json();
    assert_eq!(valid["status"], "valid");
    let order = client.post_as_get(order.header("location").unwrap()).await.json();
    assert_eq!(order["status"], "ready");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_at_once_is_validated_all_the_same() {
    let ca = Ca::start().await;
    let mut client = ca.registered().await;
    let order = client.order(&["dns:a.test"]).await.json();
    let authz = order["authorizations"][0].as_str().unwrap();
    let challenge = client.challenge(authz).await;
    let token = challenge["token"].as_str().unwrap();
    ca.responder.tell(token, &format!("{token}.{}", client.key.thumbprint()));
    ca.responder.hold(true);
    let mut other = ca.client().await;
    (other.account, other.key) = (client.account.clone(), client.key.clone());
    let url = challenge["url"].as_str().unwrap().to_owned();
    let left = tokio::spawn(async move { other.post(&url, &json!({})).await });
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    left.abort();
    assert!(left.await.unwrap_err().is_cancelled(), "no answer was given yet");
    ca.responder.hold(false);
    assert_eq!(client.poll_while(authz, &["pending"]).await.json()["status"], "valid");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_probe_is_tried_again() {
    let ca = Ca::start().await;
    let mut client = ca.registered().await;
    let order = client.order(&["dns:a.test"]).await.json();
    let url = order["authorizations"][0].as_str().unwrap();
    let challenge = client.challenge(url).await;
    let at = challenge["url"].as_str().unwrap();
    let answer = client.post(at, &json!({ "unknown": "ignored" })).await;
    assert_eq!(answer.json()["status"], "processing", "{answer:?}");
    assert!(answer.header("retry-after").is_some());
    // The first probe finds nothing; the failure shows while it stays processing.
    let failed = loop {
        let answer = client.post_as_get(at).await;
        if answer.json().get("error").is_some() {
            break answer;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert_eq!(failed.json()["status"], "processing");
    let token = challenge["token"].as_str().unwrap();
    ca.responder.tell(token, &format!("{token}.{}", client.key.thumbprint()));
    let valid = client.poll_while(at, &["processing"]).await.json();
    assert_eq!(valid["status"], "valid");
    assert!(valid["validated"].is_string());
    // Decided: another response changes nothing.
    assert_eq!(client.post(at, &json!({})).await.json(), valid);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_come_to_an_end() {
    let mut wish = Wish::new();
    wish.validation.attempts = 1;
    let ca = Ca::with(wish).await;
    let mut client = ca.registered().await;
    let order = client.order(&["dns:a.test"]).await;
    let url = order.json()["authorizations"][0].as_str().unwrap().to_owned();
    let challenge = client.challenge(&url).await;
    let token = challenge["token"].as_str().unwrap();
    ca.responder.tell(token, "a secret of the device");
    client.post(challenge["url"].as_str().unwrap(), &json!({})).await;
    let authz = client.poll_while(&url, &["pending"]).await.json();
    assert_eq!(authz["status"], "invalid");
    let error = &authz["challenges"][0]["error"];
    assert_eq!(error["type"], "urn:ietf:params:acme:error:incorrectResponse", "{error}");
    assert!(!error.to_string().contains("a secret of the device"), "what was read is not quoted");
    let order = client.post_as_get(order.header("location").unwrap()).await.json();
    assert_eq!(order["status"], "invalid");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_goes_on_probing() {
    let mut wish = Wish::new();
    wish.validation.attempts = 30;
    let first = Ca::with(wish).await;
    let mut client = first.registered().await;
    let order = client.order(&["dns:a.test"]).await.json();
    let authz = order["authorizations"][0].as_str().unwrap().to_owned();
    let challenge = client.challenge(&authz).await;
    client.post(challenge["url"].as_str().unwrap(), &json!({})).await;
    let mut wish = Wish::new();
    wish.validation.attempts = 30;
    (wish.issuer, wish.store) = (first.issuer.clone(), first.store.clone());
    let base = first.base.clone();
    first.web.shutdown().await;

    let second = Ca::with(wish).await;
    let token = challenge["token"].as_str().unwrap();
    second.responder.tell(token, &format!("{token}.{}", client.key.thumbprint()));
    let path = |url: &str| second.url(url.strip_prefix(&base).unwrap());
    let mut again = second.client().await;
    again.account = client.account.as_deref().map(path);
    again.key = client.key;
    let authz = again.poll_while(&path(&authz), &["pending"]).await.json();
    assert_eq!(authz["status"], "valid");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_proven_serves_the_next_order() {
    let ca = Ca::start().await;
    let mut client = ca.registered().await;
    let (_, first) = client.ready(&ca, &["dns:a.test"]).await;
    let second = client.order(&["dns:a.test"]).await;
    assert_eq!((second.status, &second.json()["status"]), (201, &json!("ready")));
    assert_eq!(second.json()["authorizations"], first["authorizations"]);
    // Not another account's order, nor one for another name.
    let other = client.order(&["dns:b.a.test"]).await;
    assert_eq!(other.json()["status"], "pending");
    let mut stranger = ca.registered().await;
    assert_eq!(stranger.order(&["dns:a.test"]).await.json()["status"], "pending");

    // Given up, it serves no more, and the orders it served end.
    let authz = first["authorizations"][0].as_str().unwrap();
    let answer = client.post(authz, &json!({ "status": "valid" })).await;
    assert_eq!((answer.status, answer.problem().as_str()), (400, "malformed"));
    let answer = client.post(authz, &json!({ "status": "deactivated" })).await;
    assert_eq!((answer.status, &answer.json()["status"]), (200, &json!("deactivated")));
    let url = second.header("location").unwrap();
    assert_eq!(client.post_as_get(url).await.json()["status"], "invalid");
    assert_eq!(client.order(&["dns:a.test"]).await.json()["status"], "pending");
}
