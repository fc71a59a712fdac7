//! RFC 8555 sections 7.3.5 and 7.3.6: a new key, and the end of an account.

use std::sync::atomic::Ordering;
use std::time::Duration;

use chancery::id::{AccountId, OrderId};
use serde_json::{Value, json};

use crate::support::Ca;
use crate::support::raw::{Answer, Client, Key, csr};

fn id(client: &Client) -> AccountId {
    client.account.as_ref().unwrap().rsplit('/').next().unwrap().parse().unwrap()
}

/// The inner JWS as it should be, but for what `change` does to header and payload.
fn inner(ca: &Ca, client: &Client, new: &Key, change: &dyn Fn(&mut Value, &mut Value)) -> Value {
    let mut header = json!({ "alg": "ES256", "jwk": new.jwk(), "url": ca.url("/acme/key-change") });
    let mut payload = json!({ "account": client.account, "oldKey": client.key.jwk() });
    change(&mut header, &mut payload);
    new.sign(&header, &payload.to_string())
}

async fn change_key(ca: &Ca, client: &mut Client, new: &Key) -> Answer {
    let inner = inner(ca, client, new, &|_, _| {});
    client.post(&ca.url("/acme/key-change"), &inner).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_changed_and_what_is_pending_goes_on() {
    let ca = Ca::start().await;
    let mut client = ca.registered().await;
    let order = client.order(&["dns:a.test"]).await;
    let (ready, before) = client.ready(&ca, &["dns:b.test"]).await;
    let account = client.account.clone().unwrap();
    let object = client.post_as_get(&account).await.json();

    let new = Key::new();
    let answer = change_key(&ca, &mut client, &new).await;
    assert_eq!((answer.status, answer.json()), (200, object));
    let refused = client.post_as_get(&account).await;
    assert_eq!((refused.status, refused.problem().as_str()), (403, "unauthorized"));
    let former = std::mem::replace(&mut client.key, new);
    assert_eq!(client.post_as_get(&account).await.status, 200);
    // The new key leads to the account, the former one to none.
    let url = client.new_account_url();
    client.account = None;
    let found = client.post(&url, &json!({ "onlyReturnExisting": true })).await;
    assert_eq!((found.status, found.header("location")), (200, Some(account.as_str())));
    let new = std::mem::replace(&mut client.key, former);
    let none = client.post(&url, &json!({ "onlyReturnExisting": true })).await;
    assert_eq!((none.status, none.problem().as_str()), (400, "accountDoesNotExist"));
    let former = std::mem::replace(&mut client.key, new);
    client.account = Some(account);
    // Every key it ever had is remembered.
    let (stored, _) = ca.store.account(id(&client)).await.unwrap().unwrap();
    assert_eq!(stored.former_keys.len(), 1);
    drop(former);

    client.prove(&ca, &order).await;
    let finalize = before["finalize"].as_str().unwrap();
    let done = client.post(finalize, &json!({ "csr": csr(&["b.test"]) })).await;
    assert_eq!((done.status, &done.json()["status"]), (200, &json!("valid")), "{ready}: {done:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_an_account_has_is_a_conflict() {
    let ca = Ca::start().await;
    let (mut client, other) = (ca.registered().await, ca.registered().await);
    let answer = change_key(&ca, &mut client, &other.key).await;
    assert_eq!((answer.status, answer.problem().as_str()), (409, "malformed"));
    assert_eq!(answer.header("location"), other.account.as_deref());
    // Its own is no new key either.
    let own = inner(&ca, &client, &client.key, &|_, _| {});
    let answer = client.post(&ca.url("/acme/key-change"), &own).await;
    assert_eq!((answer.status, answer.header("location")), (409, client.account.as_deref()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_key_change_changes_nothing() {
    let ca = Ca::start().await;
    let (mut client, other) = (ca.registered().await, ca.registered().await);
    let url = ca.url("/acme/key-change");
    let (new, strange) = (Key::new(), Key::new().jwk());
    type Change<'a> = &'a dyn Fn(&mut Value, &mut Value);
    let others = json!(other.account);
    let cases: [(&str, Change<'_>, u16, &str); 7] = [
        ("a nonce inside", &|h, _| h["nonce"] = json!("AAAA"), 400, "malformed"),
        ("another url inside", &|h, _| h["url"] = json!("https://ca.test/x"), 400, "malformed"),
        ("another key inside", &|h, _| h["jwk"] = strange.clone(), 403, "unauthorized"),
        ("alg none", &|h, _| h["alg"] = json!("none"), 400, "badSignatureAlgorithm"),
        ("another account", &|_, p| p["account"] = others.clone(), 400, "malformed"),
        ("a wrong oldKey", &|_, p| p["oldKey"] = strange.clone(), 400, "malformed"),
        ("no oldKey", &|_, p| drop(p.as_object_mut().unwrap().remove("oldKey")), 400, "malformed"),
    ];
    for (what, change, status, problem) in cases {
        let inner = inner(&ca, &client, &new, change);
        let answer = client.post(&url, &inner).await;
        assert_eq!((answer.status, answer.problem().as_str()), (status, problem), "{what}");
    }
    for payload in [json!({}), json!([]), json!({ "account": client.account })] {
        let answer = client.post(&url, &payload).await;
        assert_eq!((answer.status, answer.problem().as_str()), (400, "malformed"));
    }
    let answer = client.post_as_get(&url).await;
    assert_eq!((answer.status, answer.problem().as_str()), (400, "malformed"));
    let (account, version) = ca.store.account(id(&client)).await.unwrap().unwrap();
    assert_eq!((version.0, account.former_keys.len()), (1, 0));
    assert_eq!(client.order(&["dns:a.test"]).await.status, 201);
}

/// The issuer made the change and its answer was lost: both processes agree again at the next request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_is_made_good() {
    let ca = Ca::start().await;
    let mut client = ca.registered().await;
    let new = Key::new();
    ca.issuer.loses.store(true, Ordering::SeqCst);
    assert_eq!(change_key(&ca, &mut client, &new).await.status, 503);
    let answer = change_key(&ca, &mut client, &new).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    client.key = new;
    let account = client.account.clone().unwrap();
    assert_eq!(client.post_as_get(&account).await.status, 200);

    ca.issuer.loses.store(true, Ordering::SeqCst);
    let end = json!({ "status": "deactivated" });
    assert_eq!(client.post(&account, &end).await.status, 503);
    // By itself or by being asked again.
    let again = client.post(&account, &end).await;
    assert!(again.status == 200 || again.status == 401, "{again:?}");
    assert_eq!(client.post_as_get(&account).await.status, 401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_ends_with_what_it_had_begun() {
    let ca = Ca::start().await;
    let mut client = ca.registered().await;
    let account = client.account.clone().unwrap();
    let pending = client.order(&["dns:a.test"]).await;
    let (ready, _) = client.ready(&ca, &["dns:b.test"]).await;
    let (done, object) = client.ready(&ca, &["dns:c.test"]).await;
    let finalize = object["finalize"].as_str().unwrap();
    let issued = client.post(finalize, &json!({ "csr": csr(&["c.test"]) })).await;
    assert_eq!(issued.json()["status"], "valid");

    let refused = client.post(&account, &json!({ "status": "revoked" })).await;
    assert_eq!((refused.status, refused.problem().as_str()), (400, "malformed"));
    let ended = client.post(&account, &json!({ "status": "deactivated" })).await;
    assert_eq!((ended.status, &ended.json()["status"]), (200, &json!("deactivated")));
    for url in [account.clone(), format!("{account}/orders"), ready.clone(), done.clone()] {
        let answer = client.post_as_get(&url).await;
        assert_eq!((answer.status, answer.problem().as_str()), (401, "unauthorized"), "{url}");
    }
    assert_eq!(client.order(&["dns:d.test"]).await.status, 401);
    assert_eq!(client.register().await.status, 401);
    let now = chancery::id::Timestamp(u64::MAX / 2);
    for (url, kept) in [
        (pending.header("location").unwrap(), false),
        (ready.as_str(), false),
        (done.as_str(), true),
    ] {
        let order: OrderId = url.rsplit('/').next().unwrap().parse().unwrap();
        let facts = ca.store.order(order).await.unwrap().unwrap();
        let json = facts.order.to_json(
            &[],
            now,
            &chancery::acme::directory::Urls::new("https://ca").unwrap(),
        );
        assert_eq!(json.contains("\"valid\""), kept, "{json}");
        assert!(facts.order.outcome.is_some(), "{json}");
        if !kept {
            assert!(json.contains("deactivated"), "{json}");
        }
        let open = facts.authorizations.iter().any(|(authz, _)| authz.is_validating());
        assert!(!open, "still validated");
    }
}

/// The issuer shuts it out at once; here it is known after some seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_ends_an_account() {
    let ca = Ca::start().await;
    let mut client = ca.registered().await;
    let account = client.account.clone().unwrap();
    ca.issuer.end(id(&client));
    for _ in 0..40 {
        let answer = client.post_as_get(&account).await;
        if answer.status == 401 {
            assert!(answer.json()["detail"].as_str().unwrap().contains("revoked"));
            return;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    panic!("it never ended");
}
