//! RFC 8555 section 7.6 before the whole issuer: whoever may not revoke does not, by none of the three routes, and
//! the log says so.

use chancery::pki::certificate::Certificate;
use serde_json::{Value, json};

use super::{Book, b64};
use crate::support::raw::Answer;
use crate::support::{Ca, Client, Key, Wish};

/// A book with certificates of Alice's, and all that is needed to revoke them wrongly.
struct Case {
    book: Book,
    url: String,
    /// Of `certificates`, in their order.
    keys: Vec<rcgen::KeyPair>,
}

impl Case {
    async fn open(names: &[&[&str]]) -> Self {
        let mut book = Book::open_at(Ca::with(Wish::whole()).await).await;
        let keys: Vec<_> = names.iter().map(|_| rcgen::KeyPair::generate().unwrap()).collect();
        for (names, key) in names.iter().zip(&keys) {
            let certificate = book.alice.certified(&book.ca, names, key).await;
            book.certificates.push(certificate);
        }
        book.state = book.read().await;
        Self { url: book.ca.url("/acme/revoke-cert"), book, keys }
    }

    fn der(&self, n: usize) -> &[u8] {
        self.book.certificates[n].der()
    }

    /// By Alice.
    async fn alice(&mut self, payload: &Value) -> Answer {
        self.book.alice.post(&self.url, payload).await
    }

    /// By whoever says to have `claimed`, and signs with `signing`.
    async fn by_key(&mut self, claimed: &Key, signing: &Key, payload: &Value) -> Answer {
        let nonce = self.book.bob.nonce().await;
        let header =
            json!({ "alg": "ES256", "jwk": claimed.jwk(), "nonce": nonce, "url": self.url });
        let jws = signing.sign(&header, &payload.to_string());
        self.book.bob.post_jws(&self.url, &jws).await
    }

    /// The key of a certificate, as its holder has it.
    fn holder(&self, n: usize) -> Key {
        Key::from_pkcs8(&self.keys[n].serialize_der())
    }

    /// A revocation that is to happen; what follows is compared with the state after it.
    async fn done(&mut self, what: &str, answer: Answer) {
        assert_eq!((answer.status, answer.text()), (200, ""), "{what}: {answer:?}");
        let before = self.book.state.clone();
        self.book.state = self.book.read().await;
        assert_ne!(self.book.state, before, "{what}: nothing was revoked");
    }
}

fn payload(der: &[u8]) -> Value {
    json!({ "certificate": b64(der) })
}

fn because(der: &[u8], reason: &Value) -> Value {
    json!({ "certificate": b64(der), "reason": reason })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn section_7_6_payloads_and_reasons() {
    let mut case = Case::open(&[&["a.test"]]).await;
    let der = case.der(0).to_vec();
    for (what, payload, problem) in [
        ("no certificate", json!({}), "malformed"),
        ("a list", json!([]), "malformed"),
        ("base64 with padding", json!({ "certificate": format!("{}=", b64(&der)) }), "malformed"),
        ("octets that are no certificate", payload(b"hello"), "malformed"),
        ("half a certificate", payload(&der[..200]), "malformed"),
        ("a certificate and more", payload(&[&der[..], &[0]].concat()), "malformed"),
        ("a reason that is no number", because(&der, &json!("1")), "malformed"),
        ("half a reason", because(&der, &json!(1.5)), "malformed"),
    ] {
        let answer = case.alice(&payload).await;
        case.book.case(what, answer, 400, problem).await;
    }
    let holder = case.holder(0);
    for reason in [-1, 2, 6, 7, 8, 10, 11, 256] {
        let payload = because(&der, &json!(reason));
        let answer = case.alice(&payload).await;
        let what = format!("reason {reason}, by the account");
        case.book.case(&what, answer, 400, "badRevocationReason").await;
        let answer = case.by_key(&holder, &holder, &payload).await;
        let what = format!("reason {reason}, by the key");
        case.book.case(&what, answer, 400, "badRevocationReason").await;
    }
    let answer = case.alice(&because(&der, &json!(4))).await;
    case.done("the account's own", answer).await;
    case.book.close();
}

/// Certificates that this server did not issue, or not so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn section_7_6_certificates_that_are_not_of_this_server() {
    let mut case = Case::open(&[&["a.test"]]).await;
    let der = case.der(0).to_vec();
    let mut altered = der.clone();
    *altered.last_mut().unwrap() ^= 1;
    let foreign = rcgen::generate_simple_self_signed(["a.test".to_owned()]).unwrap();
    let house = case.book.ca.house.as_ref().unwrap();
    let (root, issuing) = (house.root.der().to_vec(), house.issuing.der().to_vec());
    let holder = Key::from_pkcs8(&foreign.signing_key.serialize_der());
    for (what, der) in [
        ("another's certificate for the same name", foreign.cert.der().to_vec()),
        ("the certificate with another signature", altered),
        ("the root", root),
        ("the issuing certificate", issuing),
    ] {
        let answer = case.alice(&payload(&der)).await;
        case.book.case(&format!("{what}, by the account"), answer, 404, "malformed").await;
        let answer = case.by_key(&holder, &holder, &payload(&der)).await;
        case.book.case(&format!("{what}, by the key"), answer, 404, "malformed").await;
    }
    let own = case.book.ca.office.as_ref().unwrap().tls_chain().remove(0);
    let answer = case.alice(&payload(own.der())).await;
    case.book.case("the box's own certificate", answer, 403, "unauthorized").await;
    case.book.close();
}

/// By an account that did not get the certificate, until it controls every name of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn section_7_6_a_stranger_s_account() {
    let mut case = Case::open(&[&["c.test", "d.test"], &["e.test"]]).await;
    let (both, other) = (case.der(0).to_vec(), case.der(1).to_vec());
    let (url, mut bob) = (case.url.clone(), case.book.ca.registered().await);
    let answer = bob.post(&url, &payload(&both)).await;
    case.book.case("a stranger", answer, 403, "unauthorized").await;
    bob.ready(&case.book.ca, &["dns:c.test"]).await;
    let answer = bob.post(&url, &payload(&both)).await;
    case.book.case("one name of two", answer, 403, "unauthorized").await;
    let order = bob.order(&["dns:d.test"]).await;
    let authz = order.json()["authorizations"][0].as_str().unwrap().to_owned();
    let answer = bob.post(&url, &payload(&both)).await;
    case.book.case("one of two still pending", answer, 403, "unauthorized").await;
    bob.prove(&case.book.ca, &order).await;
    let answer = bob.post(&url, &payload(&other)).await;
    case.book.case("other names", answer, 403, "unauthorized").await;
    bob.post(&authz, &json!({ "status": "deactivated" })).await;
    let answer = bob.post(&url, &payload(&both)).await;
    case.book.case("one given up again", answer, 403, "unauthorized").await;

    let nobody = case.book.ca.url("/acme/acct/AAAAAAAAAAAAAAAAAAAAAA");
    let mut forged = bob_as(&bob, nobody, &case.book.ca).await;
    let answer = forged.post(&url, &payload(&both)).await;
    case.book.case("nobody's account", answer, 400, "accountDoesNotExist").await;
    let mut forged = bob_as(&bob, case.book.alice.account.clone().unwrap(), &case.book.ca).await;
    let answer = forged.post(&url, &payload(&both)).await;
    case.book.case("Alice's account, Bob's key", answer, 403, "unauthorized").await;
    let elsewhere = case.book.ca.url("/acme/new-order");
    let answer = {
        let header = bob.header(&elsewhere).await;
        let jws = bob.key.sign(&header, &payload(&both).to_string());
        bob.post_jws(&url, &jws).await
    };
    case.book.case("a request for another resource", answer, 401, "unauthorized").await;
    let account = bob.account.clone().unwrap();
    bob.order(&["dns:d.test"]).await;
    let order = bob.order(&["dns:c.test", "dns:d.test"]).await;
    bob.prove(&case.book.ca, &order).await;
    let mut ended = bob_as(&bob, account.clone(), &case.book.ca).await;
    let answer = bob.post(&url, &payload(&both)).await;
    case.done("by authorizations for all names", answer).await;
    ended.post(&account, &json!({ "status": "deactivated" })).await;
    let answer = ended.post(&url, &payload(&other)).await;
    case.book.case("a deactivated account", answer, 401, "unauthorized").await;
    case.book.close();
}

/// A client with another's key or account URL.
async fn bob_as(bob: &Client, account: String, ca: &Ca) -> Client {
    let mut client = ca.client().await;
    (client.key, client.account) = (bob.key.clone(), Some(account));
    client
}

/// By key: only the certificate's own counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn section_7_6_a_wrong_key() {
    let mut case = Case::open(&[&["c.test"], &["d.test"]]).await;
    let (one, holder) = (payload(case.der(0)), case.holder(0));
    let (other_key, account_key) = (case.holder(1), case.book.alice.key.clone());
    let key = Key::new();
    let answer = case.by_key(&key, &key, &one).await;
    case.book.case("a new key", answer, 403, "unauthorized").await;
    let answer = case.by_key(&other_key, &other_key, &one).await;
    case.book.case("the key of another certificate", answer, 403, "unauthorized").await;
    let answer = case.by_key(&account_key, &account_key, &one).await;
    case.book.case("the account's key as jwk", answer, 403, "unauthorized").await;
    let answer = case.by_key(&holder, &key, &one).await;
    case.book.case("the key, but not its signature", answer, 403, "unauthorized").await;
    let answer = {
        let header = case.book.alice.header(&case.url).await;
        let jws = holder.sign(&header, &one.to_string());
        case.book.alice.post_jws(&case.url, &jws).await
    };
    case.book.case("the account's kid, the certificate's key", answer, 403, "unauthorized").await;
    let answer = case.by_key(&holder, &holder, &one).await;
    case.done("the certificate's own key", answer).await;
    case.book.close();
}

/// Once is enough, whoever did it; strangers do not learn that it was done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn section_7_6_already_revoked() {
    let mut case = Case::open(&[&["c.test"], &["d.test"]]).await;
    let (one, two) = (payload(case.der(0)), payload(case.der(1)));
    let (first, second) = (case.holder(0), case.holder(1));
    let answer = case.alice(&one).await;
    case.done("by the account", answer).await;
    let answer = case.by_key(&second, &second, &two).await;
    case.done("by the key", answer).await;
    for (what, payload, holder) in [("by the account", &one, &first), ("by the key", &two, &second)]
    {
        let answer = case.alice(payload).await;
        case.book.case(&format!("{what}, then the account"), answer, 400, "alreadyRevoked").await;
        let answer = case.by_key(holder, holder, payload).await;
        case.book.case(&format!("{what}, then the key"), answer, 400, "alreadyRevoked").await;
    }
    let (url, mut bob) = (case.url.clone(), case.book.ca.registered().await);
    let answer = bob.post(&url, &one).await;
    case.book.case("then a stranger", answer, 403, "unauthorized").await;
    bob.ready(&case.book.ca, &["dns:c.test"]).await;
    let answer = bob.post(&url, &one).await;
    case.book.case("then who controls the name", answer, 400, "alreadyRevoked").await;
    let listed: Vec<bool> = case.book.certificates.iter().map(|c| is_logged(&case, c)).collect();
    assert_eq!(listed, [true, true]);
    case.book.close();
}

fn is_logged(case: &Case, certificate: &Certificate) -> bool {
    let index = case.book.ca.office.as_ref().unwrap().log.index();
    index.revocation(certificate.serial().unwrap()).unwrap().is_some()
}
