//! RFC 8555 section 7.4: newOrder, finalize, the certificate; and what a restart leaves of them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chancery::acme::problem::{Problem, ProblemType};
use chancery::pki::certificate::Certificate;
use serde_json::json;

use crate::support::raw::{csr, csr_by};
use crate::support::{Ca, Wish};

/// The PEM blocks of a chain.
fn chain(pem: &str) -> Vec<Certificate> {
    const END: &str = "-----END CERTIFICATE-----\n";
    pem.split_inclusive(END).map(|block| Certificate::parse_pem(block).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_becomes_a_certificate() {
    let ca = Ca::start().await;
    let mut client = ca.registered().await;
    let created = client.order(&["dns:A.test", "ip:127.0.0.1"]).await;
    assert_eq!(created.status, 201, "{created:?}");
    let url = created.header("location").unwrap().to_owned();
    let order = created.json();
    assert_eq!(order["status"], "pending");
    assert_eq!(
        order["identifiers"],
        json!([{ "type": "dns", "value": "a.test" }, { "type": "ip", "value": "127.0.0.1" }])
    );
    assert_eq!(order["authorizations"].as_array().unwrap().len(), 2);
    assert!(order["expires"].is_string());
    assert_eq!(order["profile"], "server");
    assert_eq!(client.post_as_get(&url).await.json(), order);

    client.prove(&ca, &created).await;
    let ready = client.post_as_get(&url).await.json();
    assert_eq!(ready["status"], "ready");
    let finalize = ready["finalize"].as_str().unwrap();
    let names = csr(&["127.0.0.1", "a.test"]);
    let done = client.post(finalize, &json!({ "csr": names })).await;
    assert_eq!(done.status, 200, "{done:?}");
    assert_eq!(done.header("location"), Some(url.as_str()));
    assert_eq!(done.json()["status"], "valid", "{done:?}");

    let certificate = done.json()["certificate"].as_str().unwrap().to_owned();
    let answer = client.post_as_get(&certificate).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/pem-certificate-chain"));
    let chain = chain(answer.text());
    assert_eq!(chain.len(), 2, "leaf and issuing certificate, no root");
    assert!(chain[0].verify_issued_by(&chain[1]));
    assert!(chain[1].verify_issued_by(&ca.issuer.root));
    assert_eq!(chain[0].identifiers().len(), 2);
    assert_eq!(client.post_as_get(&certificate).await.body, answer.body);

    // Finalized again: the same answer, and the issuer is not asked again.
    let again = client.post(finalize, &json!({ "csr": names })).await;
    assert_eq!(again.json(), done.json());
    assert_eq!(ca.issuer.asked.load(Ordering::SeqCst), 1);

    // For another key it is no longer ready: that key's owner must not be shown this certificate.
    let other = client.post(finalize, &json!({ "csr": csr(&["127.0.0.1", "a.test"]) })).await;
    assert_eq!((other.status, other.problem().as_str()), (403, "orderNotReady"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_ordered_is_refused() {
    let ca = Ca::start().await;
    let mut client = ca.registered().await;
    let url = client.new_order_url();
    let dns = |name: &str| json!({ "type": "dns", "value": name });
    for (payload, status, problem) in [
        (json!({ "identifiers": [] }), 400, "malformed"),
        (json!({}), 400, "malformed"),
        (json!({ "identifiers": [dns("example.com")] }), 403, "rejectedIdentifier"),
        (json!({ "identifiers": [dns("*.a.test")] }), 403, "rejectedIdentifier"),
        (
            json!({ "identifiers": [{ "type": "ip", "value": "8.8.8.8" }] }),
            403,
            "rejectedIdentifier",
        ),
        (json!({ "identifiers": [{ "type": "urn", "value": "x" }] }), 400, "unsupportedIdentifier"),
        (json!({ "identifiers": [dns("a.test")], "profile": "none" }), 400, "invalidProfile"),
        (
            json!({ "identifiers": [dns("a.test")], "notAfter": "2001-01-01T00:00:00Z" }),
            400,
            "malformed",
        ),
        (
            json!({ "identifiers": [dns("a.test")], "notBefore": "2001-01-01T00:00:00Z" }),
            400,
            "malformed",
        ),
        (
            json!({ "identifiers": [dns("a.test")], "notAfter": "2999-01-01T00:00:00Z" }),
            400,
            "malformed",
        ),
    ] {
        let answer = client.post(&url, &payload).await;
        assert_eq!((answer.status, answer.problem().as_str()), (status, problem), "{payload}");
        assert!(answer.header("location").is_none());
    }
    let mixed = json!({ "identifiers": [dns("a.test"), dns("b.com"), dns("c.org")] });
    let problem = client.post(&url, &mixed).await.json();
    let parts = problem["subproblems"].as_array().unwrap();
    assert_eq!(parts.len(), 2, "{problem}");
    assert_eq!(parts[0]["identifier"], dns("b.com"));
    assert!(problem.get("identifier").is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn finalize_waits_for_readiness_and_takes_only_the_order_s_names() {
    let ca = Ca::start().await;
    let mut client = ca.registered().await;
    let order = client.order(&["dns:a.test"]).await;
    let url = order.header("location").unwrap().to_owned();
    let finalize = order.json()["finalize"].as_str().unwrap().to_owned();
    let early = client.post(&finalize, &json!({ "csr": csr(&["a.test"]) })).await;
    assert_eq!((early.status, early.problem().as_str()), (403, "orderNotReady"));

    client.prove(&ca, &order).await;
    for names in [&["b.test"][..], &["a.test", "b.test"], &[]] {
        let answer = client.post(&finalize, &json!({ "csr": csr(names) })).await;
        assert_eq!((answer.status, answer.problem().as_str()), (400, "badCSR"), "{names:?}");
    }
    for payload in [json!({ "csr": "AAAA" }), json!({ "csr": "" })] {
        let answer = client.post(&finalize, &payload).await;
        assert_eq!((answer.status, answer.problem().as_str()), (400, "badCSR"), "{payload}");
    }
    let answer = client.post(&finalize, &json!({})).await;
    assert_eq!((answer.status, answer.problem().as_str()), (400, "malformed"));
    assert_eq!(client.post_as_get(&url).await.json()["status"], "ready");
    let answer = client.post(&finalize, &json!({ "csr": csr(&["a.test"]) })).await;
    assert_eq!(answer.json()["status"], "valid");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_order_answers_like_a_missing_one() {
    let ca = Ca::start().await;
    let mut alice = ca.registered().await;
    let (url, order) = alice.ready(&ca, &["dns:a.test"]).await;
    let mut bob = ca.registered().await;
    let missing = bob.post_as_get(&ca.url("/acme/order/AAAAAAAAAAAAAAAAAAAAAA")).await;
    assert_eq!((missing.status, missing.problem().as_str()), (404, "malformed"));
    let authz = order["authorizations"][0].as_str().unwrap();
    for foreign in [url.as_str(), &format!("{url}/certificate"), authz] {
        let answer = bob.post_as_get(foreign).await;
        assert_eq!((answer.status, answer.json()), (404, missing.json()), "{foreign}");
    }
    let finalize = order["finalize"].as_str().unwrap();
    let answer = bob.post(finalize, &json!({ "csr": csr(&["a.test"]) })).await;
    assert_eq!((answer.status, answer.json()), (404, missing.json()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_finalizes_ask_once() {
    let ca = Ca::start().await;
    let mut client = ca.registered().await;
    let (_, order) = client.ready(&ca, &["dns:a.test"]).await;
    let finalize = order["finalize"].as_str().unwrap().to_owned();
    ca.issuer.slow.store(200, Ordering::SeqCst);
    let csr = csr(&["a.test"]);
    let mut requests = Vec::new();
    for _ in 0..4 {
        let header = client.header(&finalize).await;
        let payload = json!({ "csr": csr }).to_string();
        requests.push(client.key.sign(&header, &payload));
    }
    let mut tasks = Vec::new();
    for jws in requests {
        let mut other = ca.client().await;
        let url = finalize.clone();
        tasks.push(tokio::spawn(async move { other.post_jws(&url, &jws).await }));
    }
    let mut valid = 0;
    for task in tasks {
        let answer = task.await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        match answer.json()["status"].as_str().unwrap() {
            "valid" => valid += 1,
            "processing" => assert!(answer.header("retry-after").is_some()),
            other => panic!("{other}"),
        }
    }
    assert!(valid >= 1);
    assert_eq!(ca.issuer.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_outlasts_the_issuer_s_absence() {
    let ca = Ca::start().await;
    let mut client = ca.registered().await;
    let (url, order) = client.ready(&ca, &["dns:a.test"]).await;
    let finalize = order["finalize"].as_str().unwrap().to_owned();
    let header = client.header(&finalize).await;
    let jws = client.key.sign(&header, &json!({ "csr": csr(&["a.test"]) }).to_string());
    let mut other = ca.client().await;
    ca.issuer.away.store(true, Ordering::SeqCst);
    let asked = tokio::spawn(async move { other.post_jws(&finalize, &jws).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let processing = client.post_as_get(&url).await;
    assert_eq!(processing.json()["status"], "processing");
    assert!(processing.header("retry-after").is_some());
    ca.issuer.away.store(false, Ordering::SeqCst);
    let valid = client.poll_while(&url, &["processing"]).await;
    assert_eq!(valid.json()["status"], "valid");
    assert_eq!(asked.await.unwrap().json()["status"], "valid");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_of_the_issuer_ends_the_order() {
    let ca = Ca::start().await;
    let mut client = ca.registered().await;
    let (url, order) = client.ready(&ca, &["dns:a.test"]).await;
    let problem = Problem::new(ProblemType::BadCsr, "this key is known to be compromised");
    *ca.issuer.refuses.lock().unwrap() = Some(problem);
    let finalize = order["finalize"].as_str().unwrap();
    let answer = client.post(finalize, &json!({ "csr": csr(&["a.test"]) })).await;
    assert_eq!((answer.status, &answer.json()["status"]), (200, &json!("invalid")));
    let order = client.post_as_get(&url).await.json();
    assert_eq!(order["error"]["type"], "urn:ietf:params:acme:error:badCSR");
    assert_eq!(order["error"]["detail"], "this key is known to be compromised");
    let answer = client.post_as_get(&format!("{url}/certificate")).await;
    assert_eq!(answer.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_account_s_key_is_not_certified() {
    let ca = Ca::start().await;
    let mut client = ca.registered().await;
    // An account under a key that can also sign a CSR.
    let pair = rcgen::KeyPair::generate().unwrap();
    client.key = crate::support::Key::from_pkcs8(&pair.serialize_der());
    assert_eq!(client.register().await.status, 201);
    let (_, order) = client.ready(&ca, &["dns:a.test"]).await;
    let finalize = order["finalize"].as_str().unwrap();
    let answer = client.post(finalize, &json!({ "csr": csr_by(&pair, &["a.test"]) })).await;
    assert_eq!((answer.status, answer.problem().as_str()), (400, "badCSR"));

    // Nor any other account's, and the order is as ready as before.
    let mut other = ca.registered().await;
    let (url, order) = other.ready(&ca, &["dns:b.test"]).await;
    let finalize = order["finalize"].as_str().unwrap();
    let answer = other.post(finalize, &json!({ "csr": csr_by(&pair, &["b.test"]) })).await;
    assert_eq!((answer.status, answer.problem().as_str()), (400, "badCSR"));
    assert_eq!(other.post_as_get(&url).await.json()["status"], "ready");
    assert_eq!(ca.issuer.asked.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_are_capped_for_each_account() {
    let mut wish = Wish::new();
    wish.settings.limits.orders_per_account = 2;
    let ca = Ca::with(wish).await;
    let (mut alice, mut bob) = (ca.registered().await, ca.registered().await);
    for n in 0..2 {
        assert_eq!(alice.order(&[&format!("dns:{n}.test")]).await.status, 201);
    }
    let refused = alice.order(&["dns:c.test"]).await;
    assert_eq!((refused.status, refused.problem().as_str()), (429, "rateLimited"));
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((3000..=3600).contains(&wait), "{wait}");
    assert!(refused.header("replay-nonce").is_some());
    assert_eq!(bob.order(&["dns:c.test"]).await.status, 201);
}

/// A new web process on the same store takes up what the old one left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_loses_no_finalized_order() {
    let first = Ca::start().await;
    let mut client = first.registered().await;
    let (url, order) = client.ready(&first, &["dns:a.test"]).await;
    let (issuer, store) = (first.issuer.clone(), first.store.clone());
    issuer.away.store(true, Ordering::SeqCst);
    let finalize = order["finalize"].as_str().unwrap().to_owned();
    let base = first.base.clone();
    let request = async {
        let _ = client.post(&finalize, &json!({ "csr": csr(&["a.test"]) })).await;
    };
    assert!(tokio::time::timeout(Duration::from_millis(300), request).await.is_err());
    let grace = tokio::time::timeout(Duration::from_secs(15), first.web.shutdown()).await;
    grace.expect("shut down within the grace period");

    issuer.away.store(false, Ordering::SeqCst);
    let mut wish = Wish::new();
    (wish.issuer, wish.store) = (issuer, Arc::clone(&store));
    let second = Ca::with(wish).await;
    let mut again = second.client().await;
    again.key = client.key;
    let path = |url: &str| url.strip_prefix(&base).map(|path| second.url(path)).unwrap();
    again.account = Some(path(&client.account.unwrap()));
    let valid = again.poll_while(&path(&url), &["processing"]).await;
    assert_eq!(valid.json()["status"], "valid");
}
