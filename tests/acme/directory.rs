//! RFC 8555 sections 7.1.1 and 7.2: the directory and newNonce.

use hyper::Method;

use crate::support::{Ca, Wish};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_directory_names_its_resources() {
    let mut wish = Wish::new();
    wish.settings.terms_of_service = Some("https://ca.test/terms".into());
    wish.settings.website = Some("https://ca.test/".into());
    let ca = Ca::with(wish).await;
    let mut client = ca.client().await;
    let answer = client.get("/acme/directory").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert!(answer.links().is_empty(), "the directory does not link to itself");
    assert!(answer.header("replay-nonce").is_none());
    let directory = answer.json();
    assert_eq!(directory["newNonce"], ca.url("/acme/new-nonce"));
    assert_eq!(directory["newAccount"], ca.url("/acme/new-account"));
    assert_eq!(directory["newOrder"], ca.url("/acme/new-order"));
    assert_eq!(directory["meta"]["termsOfService"], "https://ca.test/terms");
    assert_eq!(directory["meta"]["website"], "https://ca.test/");
    assert!(directory["meta"]["profiles"].as_object().unwrap().contains_key("server"));
    assert_eq!(directory["newAuthz"], ca.url("/acme/new-authz"));
    assert_eq!(directory["renewalInfo"], ca.url("/acme/renewal-info"));
    assert!(directory["meta"].get("subdomainAuthAllowed").is_none());

    // POST-as-GET too (section 6.3).
    client.register().await;
    let signed = client.post_as_get(&ca.url("/acme/directory")).await;
    assert_eq!(signed.json(), directory);
    assert!(signed.header("replay-nonce").is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonces_are_fresh_and_not_stored() {
    let ca = Ca::start().await;
    let mut client = ca.client().await;
    let mut seen = std::collections::HashSet::new();
    for (method, status) in [(Method::HEAD, 200), (Method::GET, 204), (Method::HEAD, 200)] {
        let answer = client.request(method, "/acme/new-nonce").await;
        assert_eq!(answer.status, status);
        assert!(answer.body.is_empty());
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let nonce = answer.header("replay-nonce").unwrap().to_owned();
        assert!(nonce.len() >= 22, "{nonce} has less than 128 bits");
        assert!(seen.insert(nonce));
        assert_eq!(answer.links().len(), 1);
    }
}

/// URLs are the configured ones, whatever the client calls the server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_host_header_is_not_believed() {
    let ca = Ca::start().await;
    let mut client = ca.client().await;
    let request = hyper::Request::builder()
        .uri("/acme/directory")
        .header("host", "evil.test")
        .header("x-forwarded-host", "evil.test")
        .body(Default::default())
        .unwrap();
    let answer = client.send(request).await;
    assert_eq!(answer.json()["newNonce"], ca.url("/acme/new-nonce"));
}
