//! What a client must not do, in the order of RFC 8555's table of contents. Each case says what is wrong, how it is
//! answered, and every case is followed by a look through the API: account, orders, order and authorization are as
//! they were.
//!
//! - here         sections 6.1 to 6.5, 7.3 and 7.5
//! - `weak_keys`  section 6.2 and RFC 8555 section 11.1: keys of accounts and of certificates
//! - `orders`     section 7.4
//! - `revocation` section 7.6, before the whole issuer

mod orders;
mod revocation;
mod weak_keys;

use base64ct::{Base64UrlUnpadded, Encoding};
use chancery::pki::certificate::Certificate;
use hyper::Method;
use serde_json::{Value, json};

use crate::support::raw::Answer;
use crate::support::{Ca, Client, Key, Wish};

/// A server, an account with a pending and a ready order, and what was answered otherwise than it should be.
struct Book {
    ca: Ca,
    alice: Client,
    bob: Client,
    /// Pending, with its one authorization.
    pending: String,
    authz: String,
    challenge: String,
    ready: String,
    finalize: String,
    /// Issued by the whole issuer: its log says whether they are revoked.
    certificates: Vec<Certificate>,
    state: Vec<Value>,
    wrong: Vec<String>,
}

impl Book {
    async fn open() -> Self {
        Self::open_at(Ca::with(Wish::new()).await).await
    }

    async fn open_at(ca: Ca) -> Self {
        let (mut alice, bob) = (ca.registered().await, ca.registered().await);
        let order = alice.order(&["dns:pending.test"]).await;
        let pending = order.header("location").unwrap().to_owned();
        let authz = order.json()["authorizations"][0].as_str().unwrap().to_owned();
        let challenge = alice.challenge(&authz).await["url"].as_str().unwrap().to_owned();
        let (ready, order) = alice.ready(&ca, &["dns:a.test", "dns:b.test"]).await;
        let finalize = order["finalize"].as_str().unwrap().to_owned();
        let mut book = Self {
            ca,
            alice,
            bob,
            pending,
            authz,
            challenge,
            ready,
            finalize,
            certificates: Vec::new(),
            state: Vec::new(),
            wrong: Vec::new(),
        };
        book.state = book.read().await;
        book
    }

    /// Everything of Alice's that the API shows, and what became of the certificates.
    async fn read(&mut self) -> Vec<Value> {
        let account = self.alice.account.clone().unwrap();
        let orders = format!("{account}/orders");
        let mut state = Vec::new();
        for url in [&account, &orders, &self.pending, &self.authz, &self.ready] {
            state.push(self.alice.post_as_get(url).await.json());
        }
        for certificate in &self.certificates {
            let log = &self.ca.office.as_ref().unwrap().log;
            let revocation = log.index().revocation(certificate.serial().unwrap()).unwrap();
            state.push(json!(revocation.map(|revocation| revocation.leaf.0)));
        }
        state
    }

    async fn case(&mut self, what: &str, answer: Answer, status: u16, problem: &str) {
        let is_problem = answer.header("content-type") == Some("application/problem+json");
        let kind = if is_problem { answer.problem() } else { "no problem document".to_owned() };
        if (answer.status, kind.as_str()) != (status, problem) {
            self.wrong.push(format!(
                "{what}: {} {kind}, not {status} {problem}: {}",
                answer.status,
                String::from_utf8_lossy(&answer.body)
            ));
        }
        if self.read().await != self.state {
            self.wrong.push(format!("{what}: it changed something"));
            self.state = self.read().await;
        }
    }

    /// Posts a request of Alice's whose protected header, and then whose JWS, was changed.
    async fn forged(
        &mut self,
        url: &str,
        payload: &str,
        header: impl FnOnce(&mut Value),
        jws: impl FnOnce(&mut Value),
    ) -> Answer {
        let mut protected = self.alice.header(url).await;
        header(&mut protected);
        let mut signed = self.alice.key.sign(&protected, payload);
        jws(&mut signed);
        self.alice.post_jws(url, &signed).await
    }

    fn close(self) {
        assert!(self.wrong.is_empty(), "\n{}", self.wrong.join("\n"));
    }
}

fn b64(octets: impl AsRef<[u8]>) -> String {
    Base64UrlUnpadded::encode_string(octets.as_ref())
}

fn keep(_: &mut Value) {}

fn pad(member: &'static str) -> impl FnOnce(&mut Value) {
    move |jws| jws[member] = json!(format!("{}=", jws[member].as_str().unwrap()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn section_6_1_https_requests() {
    let mut book = Book::open().await;
    let url = book.alice.new_order_url();
    for path in ["/acme/new-account", "/acme/new-order", "/acme/revoke-cert", "/acme/key-change"] {
        for method in [Method::GET, Method::PUT, Method::DELETE] {
            let answer = book.alice.request(method.clone(), path).await;
            book.case(&format!("{method} {path}"), answer, 405, "malformed").await;
        }
    }
    let ready = book.alice.path(&book.ready).to_owned();
    let answer = book.alice.get(&ready).await;
    book.case("GET of an order", answer, 405, "malformed").await;
    let header = book.alice.header(&url).await;
    let jws = book.alice.key.sign(&header, "{}").to_string();
    for kind in ["application/json", "text/plain", "application/jose", ""] {
        let answer = book.alice.post_body(&url, kind, jws.clone()).await;
        book.case(&format!("content type {kind:?}"), answer, 415, "malformed").await;
    }
    // By another connection: the server closes it with the body unread.
    let mut other = book.ca.client().await;
    let answer = other.post_body(&url, "application/jose+json", vec![b' '; 70_000]).await;
    book.case("an oversized body", answer, 413, "malformed").await;
    book.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn section_6_2_request_authentication() {
    let mut book = Book::open().await;
    let url = book.alice.new_order_url();
    let order = json!({ "identifiers": [{ "type": "dns", "value": "c.test" }] }).to_string();
    let order = order.as_str();

    for (what, body) in [
        ("nothing", ""),
        ("no JSON", "x"),
        ("an array", "[]"),
        ("compact serialization", "e30.e30.AAAA"),
        (
            "general serialization",
            r#"{"payload":"e30","signatures":[{"protected":"e30","signature":"AAAA"}]}"#,
        ),
        ("no protected header", r#"{"payload":"e30","signature":"AAAA"}"#),
        (
            "a member twice",
            r#"{"protected":"e30","protected":"e30","payload":"e30","signature":"AAAA"}"#,
        ),
    ] {
        let answer = book.alice.post_body(&url, "application/jose+json", body).await;
        book.case(what, answer, 400, "malformed").await;
    }

    let answer = book.forged(&url, order, keep, |jws| jws["header"] = json!({ "kid": "x" })).await;
    book.case("an unprotected header", answer, 400, "malformed").await;
    let remove = |member: &'static str| {
        move |jws: &mut Value| drop(jws.as_object_mut().unwrap().remove(member))
    };
    for member in ["payload", "signature", "protected"] {
        let answer = book.forged(&url, order, keep, remove(member)).await;
        book.case(&format!("no {member}"), answer, 400, "malformed").await;
        let answer = book.forged(&url, order, keep, pad(member)).await;
        book.case(&format!("padded {member}"), answer, 400, "malformed").await;
    }
    let standard = |jws: &mut Value| jws["signature"] = json!("+/+/");
    let answer = book.forged(&url, order, keep, standard).await;
    book.case("base64, not base64url", answer, 400, "malformed").await;

    for alg in ["none", "HS256", "HS384", "HS512", "PS256", "RSA1_5", "es256", ""] {
        let answer = book.forged(&url, order, |h| h["alg"] = json!(alg), keep).await;
        book.case(&format!("alg {alg:?}"), answer, 400, "badSignatureAlgorithm").await;
    }
    let answer = book.forged(&url, order, remove("alg"), keep).await;
    book.case("no alg", answer, 400, "malformed").await;
    let answer = book.forged(&url, order, |h| h["b64"] = json!(false), keep).await;
    book.case("RFC 7797", answer, 400, "malformed").await;
    let answer = book.forged(&url, order, |h| h["crit"] = json!(["exp"]), keep).await;
    book.case("crit", answer, 400, "malformed").await;

    let jwk = book.alice.key.jwk();
    let answer = book.forged(&url, order, |h| h["jwk"] = jwk.clone(), keep).await;
    book.case("jwk and kid", answer, 400, "malformed").await;
    let answer = book.forged(&url, order, remove("kid"), keep).await;
    book.case("neither jwk nor kid", answer, 400, "malformed").await;
    let only_jwk = |h: &mut Value| {
        h.as_object_mut().unwrap().remove("kid");
        h["jwk"] = jwk.clone();
    };
    let answer = book.forged(&url, order, only_jwk, keep).await;
    book.case("jwk where kid is due", answer, 400, "malformed").await;
    let accounts = book.alice.new_account_url();
    let answer = book.forged(&accounts, "{}", keep, keep).await;
    book.case("kid where jwk is due", answer, 400, "malformed").await;

    let nobody = book.ca.url("/acme/acct/AAAAAAAAAAAAAAAAAAAAAA");
    for (what, kid) in [
        ("kid of nobody", nobody),
        ("kid of another server", "https://evil.test/acme/acct/AAAAAAAAAAAAAAAAAAAAAA".to_owned()),
        ("kid that is an order", book.ready.clone()),
        ("kid with a query", format!("{}?x", book.alice.account.clone().unwrap())),
    ] {
        let answer = book.forged(&url, order, |h| h["kid"] = json!(kid), keep).await;
        book.case(what, answer, 400, "accountDoesNotExist").await;
    }
    let bobs = book.bob.account.clone().unwrap();
    let answer = book.forged(&url, order, |h| h["kid"] = json!(bobs), keep).await;
    book.case("another's kid", answer, 403, "unauthorized").await;

    let other = b64(json!({ "identifiers": [{ "type": "dns", "value": "d.test" }] }).to_string());
    let answer = book.forged(&url, order, keep, |jws| jws["payload"] = json!(other)).await;
    book.case("an altered payload", answer, 403, "unauthorized").await;
    let answer = book.forged(&url, order, keep, |jws| jws["signature"] = json!(b64([7; 64]))).await;
    book.case("an altered signature", answer, 403, "unauthorized").await;
    book.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn section_6_3_get_and_post_as_get() {
    let mut book = Book::open().await;
    let orders = format!("{}/orders", book.alice.account.clone().unwrap());
    let certificate = format!("{}/certificate", book.ready);
    for url in [book.ready.clone(), orders] {
        let answer = book.alice.post(&url, &json!({})).await;
        book.case(&format!("a payload to {url}"), answer, 400, "malformed").await;
    }
    let answer = book.alice.post_as_get(&certificate).await;
    book.case("the certificate of an order that has none", answer, 404, "malformed").await;
    let (order, finalize) = (book.alice.new_order_url(), book.finalize.clone());
    for url in [order, finalize, book.ca.url("/acme/key-change"), book.ca.url("/acme/revoke-cert")]
    {
        let answer = book.alice.post_as_get(&url).await;
        book.case(&format!("no payload to {url}"), answer, 400, "malformed").await;
    }
    for (what, url) in [("order", book.ready.clone()), ("authorization", book.authz.clone())] {
        let answer = book.bob.post_as_get(&url).await;
        book.case(&format!("another's {what}"), answer, 404, "malformed").await;
    }
    book.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn section_6_4_request_url_integrity() {
    let mut book = Book::open().await;
    let url = book.alice.new_order_url();
    let cases = [
        ("another resource", book.ca.url("/acme/new-account")),
        ("another host", "https://evil.test/acme/new-order".to_owned()),
        ("http", url.replace("https", "http")),
        ("a query", format!("{url}?x")),
        ("a slash more", format!("{url}/")),
        ("capitals", url.to_uppercase()),
        ("nothing", String::new()),
    ];
    for (what, wrong) in cases {
        let answer = book.forged(&url, "{}", |h| h["url"] = json!(wrong), keep).await;
        book.case(what, answer, 401, "unauthorized").await;
    }
    let without = |h: &mut Value| drop(h.as_object_mut().unwrap().remove("url"));
    let answer = book.forged(&url, "{}", without, keep).await;
    book.case("no url", answer, 400, "malformed").await;
    book.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn section_6_5_replay_protection() {
    let mut book = Book::open().await;
    let url = book.alice.new_order_url();
    let payload = json!({ "identifiers": [] }).to_string();
    let header = book.alice.header(&url).await;
    let jws = book.alice.key.sign(&header, &payload);
    let first = book.alice.post_jws(&url, &jws).await;
    book.case("an empty order", first, 400, "malformed").await;
    let again = book.alice.post_jws(&url, &jws).await;
    assert!(again.header("replay-nonce").is_some(), "badNonce comes with a good one");
    book.case("the same request again", again, 400, "badNonce").await;
    for (what, nonce, problem) in [
        ("a nonce of another server", b64([7; 32]), "badNonce"),
        ("a short nonce", "AAAA".to_owned(), "badNonce"),
        ("a padded nonce", "AAAA=".to_owned(), "malformed"),
        ("a nonce that is no base64url", "a+b/".to_owned(), "malformed"),
    ] {
        let answer = book.forged(&url, &payload, |h| h["nonce"] = json!(nonce), keep).await;
        book.case(what, answer, 400, problem).await;
    }
    let without = |h: &mut Value| drop(h.as_object_mut().unwrap().remove("nonce"));
    let answer = book.forged(&url, &payload, without, keep).await;
    book.case("no nonce", answer, 400, "malformed").await;
    book.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn section_7_3_account_management() {
    let mut book = Book::open().await;
    let account = book.alice.account.clone().unwrap();
    let long = format!("mailto:{}@ca.test", "a".repeat(2000));
    for (what, payload, problem) in [
        ("a status only the server sets", json!({ "status": "valid-ish" }), "malformed"),
        ("status revoked", json!({ "status": "revoked" }), "malformed"),
        ("contacts that are no list", json!({ "contact": "mailto:a@ca.test" }), "malformed"),
        ("a telephone", json!({ "contact": ["tel:+1"] }), "unsupportedContact"),
        ("two addressees", json!({ "contact": ["mailto:a@ca.test,b@ca.test"] }), "invalidContact"),
        ("header fields", json!({ "contact": ["mailto:a@ca.test?subject=x"] }), "invalidContact"),
        ("a long contact", json!({ "contact": [long] }), "invalidContact"),
        ("many contacts", json!({ "contact": vec!["mailto:a@ca.test"; 11] }), "invalidContact"),
    ] {
        let answer = book.alice.post(&account, &payload).await;
        book.case(what, answer, 400, problem).await;
    }
    let (accounts, mut nobody) = (book.alice.new_account_url(), book.ca.client().await);
    for (what, payload, problem) in [
        ("nobody's account", json!({ "onlyReturnExisting": true }), "accountDoesNotExist"),
        ("a new telephone", json!({ "contact": ["tel:+1"] }), "unsupportedContact"),
        ("new contacts that are no list", json!({ "contact": "mailto:a@ca.test" }), "malformed"),
        ("a list", json!([]), "malformed"),
        ("a binding that is none", json!({ "externalAccountBinding": "x" }), "malformed"),
    ] {
        let answer = nobody.post(&accounts, &payload).await;
        book.case(what, answer, 400, problem).await;
    }
    for payload in [json!({ "status": "deactivated" }), json!({ "contact": [] })] {
        let answer = book.bob.post(&account, &payload).await;
        book.case("another's account", answer, 404, "malformed").await;
    }
    book.close();
}

/// keyChange: an inner JWS by the new key inside an outer one by the old.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn section_7_3_5_account_key_rollover() {
    let mut book = Book::open().await;
    let url = book.ca.url("/acme/key-change");
    let account = book.alice.account.clone().unwrap();
    let bobs = book.bob.account.clone().unwrap();
    let new = Key::new();
    let header = json!({ "alg": "ES256", "jwk": new.jwk(), "url": url });
    let claim = json!({ "account": account, "oldKey": book.alice.key.jwk() });
    let changed = |member: &str, value: Value, of: &Value| {
        let mut changed = of.clone();
        changed[member] = value;
        changed
    };
    let elsewhere = json!(book.ca.url("/acme/new-order"));
    let mut kid_inside = changed("kid", json!(account), &header);
    kid_inside.as_object_mut().unwrap().remove("jwk");
    let sign = |key: &Key, header: &Value, payload: &Value| key.sign(header, &payload.to_string());
    let bob_key = book.bob.key.jwk();
    for (what, inner) in [
        ("a wrong oldKey", sign(&new, &header, &changed("oldKey", new.jwk(), &claim))),
        ("another's oldKey", sign(&new, &header, &changed("oldKey", bob_key, &claim))),
        ("another's account", sign(&new, &header, &changed("account", json!(bobs), &claim))),
        ("signed by the old key", sign(&book.alice.key, &header, &claim)),
        ("another url inside", sign(&new, &changed("url", elsewhere, &header), &claim)),
        ("kid inside", sign(&new, &kid_inside, &claim)),
        ("a nonce inside", sign(&new, &changed("nonce", json!("AAAA"), &header), &claim)),
        ("no oldKey", sign(&new, &header, &json!({ "account": account }))),
        ("no JWS inside", json!({ "account": account })),
    ] {
        let answer = book.alice.post(&url, &inner).await;
        let unauthorized = ["signed by the old key"].contains(&what);
        let (status, problem) =
            if unauthorized { (403, "unauthorized") } else { (400, "malformed") };
        book.case(what, answer, status, problem).await;
    }
    // A key that is an account's already: 409, with that account's URL.
    let theirs = json!({ "alg": "ES256", "jwk": book.bob.key.jwk(), "url": url });
    let inner = sign(&book.bob.key, &theirs, &claim);
    let answer = book.alice.post(&url, &inner).await;
    assert_eq!(answer.header("location"), Some(bobs.as_str()), "{answer:?}");
    book.case("the key of another account", answer, 409, "malformed").await;
    book.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn section_7_5_identifier_authorization() {
    let mut book = Book::open().await;
    let (authz, challenge) = (book.authz.clone(), book.challenge.clone());
    for payload in [json!([]), json!("x"), json!(7)] {
        let answer = book.alice.post(&challenge, &payload).await;
        book.case("a response that is no object", answer, 400, "malformed").await;
    }
    for (what, payload) in [
        ("status valid", json!({ "status": "valid" })),
        ("status revoked", json!({ "status": "revoked" })),
        ("no status", json!({})),
    ] {
        let answer = book.alice.post(&authz, &payload).await;
        book.case(what, answer, 400, "malformed").await;
    }
    let answer = book.bob.post(&challenge, &json!({})).await;
    book.case("another's challenge", answer, 404, "malformed").await;
    let answer = book.bob.post(&authz, &json!({ "status": "deactivated" })).await;
    book.case("another's authorization", answer, 404, "malformed").await;
    let unknown = format!("{authz}/AAAAAAAAAAAAAAAAAAAAAA");
    let answer = book.alice.post(&unknown, &json!({})).await;
    book.case("a challenge that is not there", answer, 404, "malformed").await;
    book.close();
}
