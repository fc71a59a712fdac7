//! RFC 8555 section 6: the checks on a request, their order, nonces and errors.

use std::time::Duration;

use hyper::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::raw::{self, Key};
use crate::support::{Ca, Wish};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn methods_types_and_sizes_come_first() {
    let ca = Ca::start().await;
    let mut client = ca.registered().await;
    let url = client.new_order_url();

    let answer = client.get("/acme/new-order").await;
    assert_eq!((answer.status, answer.problem().as_str()), (405, "malformed"));
    assert_eq!(answer.header("allow"), Some("POST, OPTIONS"));

    let answer = client.post_body(&url, "application/json", "{}").await;
    assert_eq!((answer.status, answer.problem().as_str()), (415, "malformed"));
    assert!(answer.header("replay-nonce").is_some());

    let answer = client.post_body(&url, "application/jose+json", "{}").await;
    assert_eq!((answer.status, answer.problem().as_str()), (400, "malformed"));

    let answer = client.get("/acme/nothing").await;
    assert_eq!((answer.status, answer.problem().as_str()), (404, "malformed"));

    // Last, for the server closes the connection with the body unread.
    let answer = client.post_body(&url, "application/jose+json", vec![b' '; 70_000]).await;
    assert_eq!((answer.status, answer.problem().as_str()), (413, "malformed"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chunked_body_is_bounded_too() {
    let ca = Ca::start().await;
    let mut stream = raw::tls(&ca, &[b"http/1.1"]).await.unwrap();
    stream
        .write_all(
            b"POST /acme/new-order HTTP/1.1\r\nHost: ca\r\nContent-Type: application/jose+json\r\n\
              Transfer-Encoding: chunked\r\n\r\n",
        )
        .await
        .unwrap();
    let chunk = [format!("{:x}\r\n", 16_384).into_bytes(), vec![b'x'; 16_384], b"\r\n".to_vec()];
    for _ in 0..5 {
        if stream.write_all(&chunk.concat()).await.is_err() {
            break;
        }
    }
    let mut answer = vec![0; 64];
    let read = stream.read(&mut answer).await.unwrap();
    assert!(answer[..read].starts_with(b"HTTP/1.1 413 "), "{:?}", &answer[..read]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let mut wish = Wish::new();
    wish.settings.body_timeout_seconds = 1;
    let ca = Ca::with(wish).await;
    let mut stream = raw::tls(&ca, &[b"http/1.1"]).await.unwrap();
    stream
        .write_all(
            b"POST /acme/new-order HTTP/1.1\r\nHost: ca\r\nContent-Type: application/jose+json\r\n\
              Content-Length: 100\r\n\r\n{",
        )
        .await
        .unwrap();
    let mut answer = vec![0; 64];
    let read = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut answer)).await;
    let read = read.expect("an answer in time").unwrap();
    assert!(answer[..read].starts_with(b"HTTP/1.1 408 "), "{:?}", &answer[..read]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn algorithms_that_are_no_signatures_are_refused() {
    let ca = Ca::start().await;
    let mut client = ca.registered().await;
    let url = client.new_order_url();
    for alg in ["none", "HS256", "RS1", "es256"] {
        let mut header = client.header(&url).await;
        header["alg"] = json!(alg);
        let jws = client.key.sign(&header, "{}");
        let answer = client.post_jws(&url, &jws).await;
        assert_eq!((answer.status, answer.problem().as_str()), (400, "badSignatureAlgorithm"));
        let algorithms = answer.json()["algorithms"].clone();
        assert!(algorithms.as_array().unwrap().contains(&json!("ES256")), "{algorithms}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jwk_and_kid_have_their_places() {
    let ca = Ca::start().await;
    let mut client = ca.registered().await;
    let (orders, accounts) = (client.new_order_url(), client.new_account_url());

    let mut header = client.header(&orders).await;
    header.as_object_mut().unwrap().remove("kid");
    header["jwk"] = client.key.jwk();
    let jws = client.key.sign(&header, "{}");
    let answer = client.post_jws(&orders, &jws).await;
    assert_eq!((answer.status, answer.problem().as_str()), (400, "malformed"));

    let header = client.header(&accounts).await;
    let jws = client.key.sign(&header, "{}");
    let answer = client.post_jws(&accounts, &jws).await;
    assert_eq!((answer.status, answer.problem().as_str()), (400, "malformed"));

    let mut header = client.header(&orders).await;
    header["jwk"] = client.key.jwk();
    let jws = client.key.sign(&header, "{}");
    let answer = client.post_jws(&orders, &jws).await;
    assert_eq!((answer.status, answer.problem().as_str()), (400, "malformed"));
}

/// Each request is wrong in everything from one check on; the first check must answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_failed_check_answers() {
    let ca = Ca::start().await;
    let mut client = ca.registered().await;
    let url = client.new_order_url();
    let stranger = Key::new();
    let nowhere = ca.url("/acme/acct/AAAAAAAAAAAAAAAAAAAAAA");

    // The url, before the nonce.
    let header = json!({ "alg": "ES256", "nonce": "AAAA", "url": ca.url("/acme/new-nonce"), "kid": nowhere });
    let answer = client.post_jws(&url, &stranger.sign(&header, "{}")).await;
    assert_eq!((answer.status, answer.problem().as_str()), (401, "unauthorized"));

    // The nonce, before the account.
    let header = json!({ "alg": "ES256", "nonce": "AAAA", "url": url, "kid": nowhere });
    let answer = client.post_jws(&url, &stranger.sign(&header, "{}")).await;
    assert_eq!((answer.status, answer.problem().as_str()), (400, "badNonce"));
    let fresh = answer.header("replay-nonce").expect("a fresh nonce").to_owned();

    // The account, before the signature.
    let header = json!({ "alg": "ES256", "nonce": fresh, "url": url, "kid": nowhere });
    let answer = client.post_jws(&url, &stranger.sign(&header, "{}")).await;
    assert_eq!((answer.status, answer.problem().as_str()), (400, "accountDoesNotExist"));

    // The signature, before the payload.
    let header = client.header(&url).await;
    let jws = stranger.sign(&header, "not json");
    let answer = client.post_jws(&url, &jws).await;
    assert_eq!((answer.status, answer.problem().as_str()), (403, "unauthorized"));

    // Burnt although the signature failed.
    let header =
        json!({ "alg": "ES256", "nonce": header["nonce"], "url": url, "kid": client.account });
    let jws = client.key.sign(&header, "{}");
    let answer = client.post_jws(&url, &jws).await;
    assert_eq!((answer.status, answer.problem().as_str()), (400, "badNonce"));

    let answer = client.post(&url, &json!("no object")).await;
    assert_eq!((answer.status, answer.problem().as_str()), (400, "malformed"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nonce_is_good_for_one_request() {
    let ca = Ca::start().await;
    let mut client = ca.registered().await;
    let url = client.account.clone().unwrap();
    let header = client.header(&url).await;
    let jws = client.key.sign(&header, "");
    assert_eq!(client.post_jws(&url, &jws).await.status, 200);
    let answer = client.post_jws(&url, &jws).await;
    assert_eq!((answer.status, answer.problem().as_str()), (400, "badNonce"));
    // The nonce of an error is as good as any.
    let nonce = answer.header("replay-nonce").unwrap();
    let header = json!({ "alg": "ES256", "nonce": nonce, "url": url, "kid": url });
    let jws = client.key.sign(&header, "");
    assert_eq!(client.post_jws(&url, &jws).await.status, 200);

    let header = json!({ "alg": "ES256", "nonce": "a+b=", "url": url, "kid": url });
    let jws = client.key.sign(&header, "");
    let answer = client.post_jws(&url, &jws).await;
    assert_eq!((answer.status, answer.problem().as_str()), (400, "malformed"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_carries_what_it_must() {
    let ca = Ca::start().await;
    let mut client = ca.registered().await;
    let index = format!("<{}>;rel=\"index\"", ca.url("/acme/directory"));
    let account = client.account.clone().unwrap();
    for answer in [
        client.post_as_get(&account).await,
        client.post(&client.new_order_url(), &json!({})).await,
        client.post_as_get(&ca.url("/acme/order/AAAAAAAAAAAAAAAAAAAAAA")).await,
    ] {
        assert!(answer.header("replay-nonce").is_some(), "{answer:?}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{answer:?}");
        assert_eq!(answer.links(), [index.as_str()], "{answer:?}");
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"), "{answer:?}");
        let exposed = answer.header("access-control-expose-headers").unwrap();
        for name in ["Link", "Location", "Replay-Nonce", "Retry-After"] {
            assert!(exposed.contains(name), "{exposed}");
        }
    }
    let answer = client.request(Method::OPTIONS, "/acme/new-order").await;
    assert_eq!(answer.status, 204);
    assert_eq!(answer.header("access-control-allow-headers"), Some("Content-Type"));
}
