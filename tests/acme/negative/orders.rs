//! RFC 8555 section 7.4: what is not ordered, finalized or downloaded.

use base64ct::{Base64UrlUnpadded, Encoding};
use serde_json::json;

use super::{Book, b64};
use crate::support::Key;
use crate::support::raw::{csr, csr_by};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn section_7_4_orders_that_are_not_placed() {
    let mut book = Book::open().await;
    let url = book.alice.new_order_url();
    let dns = |name: &str| json!({ "type": "dns", "value": name });
    let many: Vec<_> = (0..101).map(|n| dns(&format!("d{n}.test"))).collect();
    let long = format!("{}.test", "a".repeat(64));
    let dated =
        |member: &str, value: &str| json!({ "identifiers": [dns("a.test")], member: value });
    for (what, payload, status, problem) in [
        ("no identifiers", json!({}), 400, "malformed"),
        ("an empty list", json!({ "identifiers": [] }), 400, "malformed"),
        ("identifiers that are no list", json!({ "identifiers": dns("a.test") }), 400, "malformed"),
        ("too many", json!({ "identifiers": many }), 400, "malformed"),
        ("an address as a name", json!({ "identifiers": [dns("10.0.0.1")] }), 400, "malformed"),
        ("an empty label", json!({ "identifiers": [dns("a..test")] }), 400, "malformed"),
        ("a long label", json!({ "identifiers": [dns(&long)] }), 400, "malformed"),
        ("a URL", json!({ "identifiers": [dns("http://a.test/")] }), 400, "malformed"),
        ("two asterisks", json!({ "identifiers": [dns("*.*.test")] }), 400, "malformed"),
        ("no A-label", json!({ "identifiers": [dns("xn--a.test")] }), 400, "malformed"),
        (
            "a type of nobody's",
            json!({ "identifiers": [{ "type": "urn", "value": "x" }] }),
            400,
            "unsupportedIdentifier",
        ),
        (
            "a name of somebody else",
            json!({ "identifiers": [dns("example.com")] }),
            403,
            "rejectedIdentifier",
        ),
        (
            "an address of somebody else",
            json!({ "identifiers": [{ "type": "ip", "value": "8.8.8.8" }] }),
            403,
            "rejectedIdentifier",
        ),
        ("a wildcard", json!({ "identifiers": [dns("*.a.test")] }), 403, "rejectedIdentifier"),
        ("a profile that is none", dated("profile", "x"), 400, "invalidProfile"),
        ("a past beginning", dated("notBefore", "2001-01-01T00:00:00Z"), 400, "malformed"),
        ("a past end", dated("notAfter", "2001-01-01T00:00:00Z"), 400, "malformed"),
        ("a late end", dated("notAfter", "2999-01-01T00:00:00Z"), 400, "malformed"),
        ("a date that is none", dated("notAfter", "tomorrow"), 400, "malformed"),
        ("a certificate id that is none", dated("replaces", "x"), 400, "malformed"),
        (
            "auto-renewal (RFC 8739)",
            json!({ "identifiers": [dns("a.test")], "auto-renewal": {} }),
            400,
            "malformed",
        ),
    ] {
        let answer = book.alice.post(&url, &payload).await;
        book.case(what, answer, status, problem).await;
    }
    book.close();
}

/// newAuthz.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn section_7_4_1_authorizations_that_are_not_made() {
    let mut book = Book::open().await;
    let url = book.ca.url("/acme/new-authz");
    let named = |kind: &str, value: &str| json!({ "identifier": { "type": kind, "value": value } });
    for (what, payload, status, problem) in [
        ("no identifier", json!({}), 400, "malformed"),
        ("a list", json!({ "identifier": [] }), 400, "malformed"),
        ("a wildcard", named("dns", "*.a.test"), 400, "malformed"),
        ("no name", named("dns", "a..test"), 400, "malformed"),
        ("a type of nobody's", named("urn", "x"), 400, "unsupportedIdentifier"),
        ("a name of somebody else", named("dns", "example.com"), 403, "rejectedIdentifier"),
    ] {
        let answer = book.alice.post(&url, &payload).await;
        book.case(what, answer, status, problem).await;
    }
    book.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn section_7_4_2_certificates_that_are_not_downloaded() {
    let mut book = Book::open().await;
    let names = ["c.test"];
    let key = rcgen::KeyPair::generate().unwrap();
    let ca = &book.ca;
    let (order, ready) = book.alice.ready(ca, &["dns:c.test"]).await;
    let finalize = ready["finalize"].as_str().unwrap();
    book.alice.post(finalize, &json!({ "csr": csr_by(&key, &names) })).await;
    book.alice.leaf(&order).await;
    book.state = book.read().await;
    let certificate = format!("{order}/certificate");
    let answer = book.bob.post_as_get(&certificate).await;
    book.case("another's certificate", answer, 404, "malformed").await;
    let answer = book.alice.post(&certificate, &json!({})).await;
    book.case("a payload", answer, 400, "malformed").await;
    let answer = book.alice.post_as_get(&format!("{certificate}/9")).await;
    book.case("a chain that is not there", answer, 404, "malformed").await;
    let path = book.alice.path(&certificate).to_owned();
    let answer = book.alice.get(&path).await;
    book.case("GET", answer, 405, "malformed").await;
    book.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn section_7_4_applying_for_certificate_issuance() {
    let mut book = Book::open().await;
    let (finalize, pending) = (book.finalize.clone(), format!("{}/finalize", book.pending));
    let answer = book.alice.post(&pending, &json!({ "csr": csr(&["pending.test"]) })).await;
    book.case("finalize of an order that is not ready", answer, 403, "orderNotReady").await;

    let both = ["a.test", "b.test"];
    let good = Base64UrlUnpadded::decode_vec(&csr(&both)).unwrap();
    let mut spoilt = good.clone();
    *spoilt.last_mut().unwrap() ^= 1;
    let mut trailing = good.clone();
    trailing.push(0);
    let p256 = |names: &[&str]| csr(names);
    let malformed = "malformed";
    for (what, csr, problem) in [
        ("a CSR with one name less", p256(&["a.test"]), "badCSR"),
        ("a CSR with one name more", p256(&["a.test", "b.test", "c.test"]), "badCSR"),
        ("a CSR with another name", p256(&["a.test", "c.test"]), "badCSR"),
        ("a CSR with a wildcard", p256(&["a.test", "*.b.test"]), "badCSR"),
        ("a CSR without names", p256(&[]), "badCSR"),
        ("a CSR whose signature fails", b64(&spoilt), "badCSR"),
        ("octets after a CSR", b64(&trailing), "badCSR"),
        ("half a CSR", b64(&good[..good.len() / 2]), "badCSR"),
        ("no CSR", b64("hello"), "badCSR"),
        ("PEM", format!("-----BEGIN CERTIFICATE REQUEST-----\n{}", b64(&good)), malformed),
        ("a padded CSR", format!("{}=", b64(&good)), malformed),
        ("a huge CSR", "A".repeat(40_000), "badCSR"),
    ] {
        let answer = book.alice.post(&finalize, &json!({ "csr": csr })).await;
        book.case(what, answer, 400, problem).await;
    }
    for payload in [json!({}), json!({ "csr": 7 }), json!([csr(&both)])] {
        let answer = book.alice.post(&finalize, &payload).await;
        book.case("a payload without a CSR", answer, 400, malformed).await;
    }

    // RFC 8555 section 11.1: the key of an account is not certified.
    let pair = rcgen::KeyPair::generate().unwrap();
    let mut carol = book.ca.client().await;
    carol.key = Key::from_pkcs8(&pair.serialize_der());
    assert_eq!(carol.register().await.status, 201);
    let answer = book.alice.post(&finalize, &json!({ "csr": csr_by(&pair, &both) })).await;
    book.case("a CSR for an account's key", answer, 400, "badCSR").await;
    let answer = book.bob.post(&finalize, &json!({ "csr": csr(&both) })).await;
    book.case("another's finalize", answer, 404, malformed).await;
    book.close();
}
