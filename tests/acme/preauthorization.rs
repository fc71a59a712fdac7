//! RFC 8555 sections 7.4.1 and 7.5.2: authorizations before there is an order, given up, and used again.

use serde_json::{Value, json};

use crate::support::raw::csr;
use crate::support::{Ca, Client, Wish};

async fn new_authz(client: &mut Client, identifier: Value) -> crate::support::raw::Answer {
    let url = format!("{}/acme/new-authz", client.base);
    client.post(&url, &json!({ "identifier": identifier })).await
}

fn dns(name: &str) -> Value {
    json!({ "type": "dns", "value": name })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_authorized_before_serves_the_order() {
    let ca = Ca::start().await;
    let mut client = ca.registered().await;
    let created = new_authz(&mut client, dns("A.test")).await;
    assert_eq!(created.status, 201, "{created:?}");
    let url = created.header("location").unwrap().to_owned();
    let authz = created.json();
    assert_eq!((&authz["status"], &authz["identifier"]), (&json!("pending"), &dns("a.test")));
    assert!(authz.get("wildcard").is_none() && authz.get("subdomainAuthAllowed").is_none());
    assert!(created.links().iter().any(|link| link.ends_with(";rel=\"index\"")));
    assert_eq!(client.post_as_get(&url).await.json(), authz);

    // Asked for again, it is the same one: pending, and later valid.
    let again = new_authz(&mut client, dns("a.test")).await;
    assert_eq!((again.status, again.header("location")), (200, Some(url.as_str())));
    client.prove_authz(&ca, &url).await;
    let again = new_authz(&mut client, dns("a.test")).await;
    assert_eq!((again.status, again.header("location")), (200, Some(url.as_str())));
    assert_eq!(again.json()["status"], "valid");

    // Another account's is its own.
    let mut other = ca.registered().await;
    let foreign = new_authz(&mut other, dns("a.test")).await;
    assert_eq!(foreign.status, 201);
    assert_ne!(foreign.header("location"), Some(url.as_str()));

    let order = client.order(&["dns:a.test"]).await.json();
    assert_eq!((&order["status"], &order["authorizations"]), (&json!("ready"), &json!([url])));
    let finalize = order["finalize"].as_str().unwrap();
    let done = client.post(finalize, &json!({ "csr": csr(&["a.test"]) })).await;
    assert_eq!(done.json()["status"], "valid", "{done:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_would_not_be_certified_is_not_authorized() {
    let ca = Ca::start().await;
    let mut client = ca.registered().await;
    for (identifier, status, problem) in [
        (dns("*.a.test"), 400, "malformed"),
        (dns("a..test"), 400, "malformed"),
        (json!({ "type": "dns" }), 400, "malformed"),
        (json!("a.test"), 400, "malformed"),
        (json!({ "type": "email", "value": "a@b.test" }), 400, "unsupportedIdentifier"),
        (dns("example.com"), 403, "rejectedIdentifier"),
        (json!({ "type": "ip", "value": "8.8.8.8" }), 403, "rejectedIdentifier"),
    ] {
        let answer = new_authz(&mut client, identifier.clone()).await;
        assert_eq!((answer.status, answer.problem().as_str()), (status, problem), "{identifier}");
        assert!(answer.header("location").is_none());
    }
    let refused = new_authz(&mut client, dns("example.com")).await.json();
    assert_eq!(refused["subproblems"][0]["identifier"], dns("example.com"));
    assert!(refused.get("identifier").is_none(), "only inside subproblems");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pre_authorizations_count_as_orders_but_those_at_hand_do_not() {
    let mut wish = Wish::new();
    wish.settings.limits.orders_per_account = 1;
    let ca = Ca::with(wish).await;
    let mut client = ca.registered().await;
    assert_eq!(new_authz(&mut client, dns("a.test")).await.status, 201);
    assert_eq!(new_authz(&mut client, dns("a.test")).await.status, 200);
    let refused = new_authz(&mut client, dns("b.test")).await;
    assert_eq!((refused.status, refused.problem().as_str()), (429, "rateLimited"));
    assert!(refused.header("retry-after").is_some());
}

/// Section 7.1.6: an order whose authorization leaves `valid` or `pending` is invalid, and says why.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authorization_given_up_takes_its_orders_with_it() {
    let ca = Ca::start().await;
    let mut client = ca.registered().await;
    let pending = client.order(&["dns:p.test", "dns:q.test"]).await;
    let (ready, order) = client.ready(&ca, &["dns:r.test"]).await;
    let (done, valid) = client.ready(&ca, &["dns:v.test"]).await;
    let finalize = valid["finalize"].as_str().unwrap();
    client.post(finalize, &json!({ "csr": csr(&["v.test"]) })).await;

    let give_up = json!({ "status": "deactivated" });
    let q = pending.json()["authorizations"][1].as_str().unwrap().to_owned();
    let r = order["authorizations"][0].as_str().unwrap().to_owned();
    let v = valid["authorizations"][0].as_str().unwrap().to_owned();
    for authz in [&q, &r, &v] {
        for _ in 0..2 {
            let answer = client.post(authz, &give_up).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            assert_eq!(answer.json()["status"], "deactivated");
        }
    }
    for (order, name) in [(pending.header("location").unwrap(), "q.test"), (&ready, "r.test")] {
        let order = client.post_as_get(order).await.json();
        assert_eq!(order["status"], "invalid");
        assert_eq!(order["error"]["type"], "urn:ietf:params:acme:error:unauthorized");
        let parts = order["error"]["subproblems"].as_array().unwrap();
        assert_eq!((parts.len(), &parts[0]["identifier"]), (1, &dns(name)));
    }
    let refused =
        client.post(order["finalize"].as_str().unwrap(), &json!({ "csr": csr(&["r.test"]) })).await;
    assert_eq!((refused.status, refused.problem().as_str()), (403, "orderNotReady"));
    assert_eq!(client.post_as_get(&done).await.json()["status"], "valid", "what is issued stays");

    // Given up, it serves no later order; nor can anything else be asked of it.
    let later = client.order(&["dns:r.test"]).await.json();
    assert_ne!(later["authorizations"][0], json!(r));
    for payload in [json!({ "status": "valid" }), json!({}), json!([]), json!({ "status": 1 })] {
        let answer = client.post(&r, &payload).await;
        assert_eq!((answer.status, answer.problem().as_str()), (400, "malformed"), "{payload}");
    }
    let mut other = ca.registered().await;
    let live = later["authorizations"][0].as_str().unwrap();
    assert_eq!(other.post(live, &give_up).await.status, 404);
    assert_eq!(client.post_as_get(live).await.json()["status"], "pending");
}

/// Valid ones are listed in later orders, for as long as configured.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn authorizations_are_used_again_until_they_expire() {
    let ca = Ca::start().await;
    let mut client = ca.registered().await;
    let (_, first) = client.ready(&ca, &["dns:a.test"]).await;
    let second = client.order(&["dns:b.test", "dns:a.test"]).await.json();
    assert_eq!(second["status"], "pending");
    assert_eq!(second["authorizations"][1], first["authorizations"][0]);
    let third = client.order(&["dns:a.test"]).await.json();
    assert_eq!(
        (&third["status"], &third["authorizations"]),
        (&json!("ready"), &first["authorizations"])
    );

    // An hour is too little to begin an order with.
    let mut wish = Wish::new();
    wish.settings.authorization_hours = 1;
    let ca = Ca::with(wish).await;
    let mut client = ca.registered().await;
    let (_, first) = client.ready(&ca, &["dns:a.test"]).await;
    let second = client.order(&["dns:a.test"]).await.json();
    assert_eq!(second["status"], "pending");
    assert_ne!(second["authorizations"], first["authorizations"]);
}
