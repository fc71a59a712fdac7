//! What an ACME client signs, well formed or not.

use std::sync::Arc;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64ct::{Base64UrlUnpadded, Encoding};
use chancery::acme::directory::{Resource, Urls};
use chancery::env::random_16;
use chancery::env::system::SystemRng;
use chancery::id::{AccountId, OrderId};
use chancery::ipc::admin::tickets::MintedTicket;
use chancery::ipc::message::{Finalize, Question, Revoke};

use super::BASE;

/// An ACME account as its client has it.
#[derive(Clone)]
pub(crate) struct Account {
    pub(crate) id: AccountId,
    pub(crate) key: Arc<Vec<u8>>,
    pub(crate) base: String,
}

impl Account {
    pub(crate) fn unregistered() -> Self {
        let rng = SystemRandom::new();
        let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &rng).unwrap();
        let id = AccountId(random_16(&SystemRng));
        Self { id, key: Arc::new(key.as_ref().to_vec()), base: BASE.into() }
    }

    /// A newAccount request.
    pub(crate) fn new_account(&self, only_return_existing: bool) -> Vec<u8> {
        self.new_account_of(&serde_json::json!({ "onlyReturnExisting": only_return_existing }))
    }

    /// A newAccount request with this payload.
    pub(crate) fn new_account_of(&self, payload: &serde_json::Value) -> Vec<u8> {
        let (url, jwk) = (self.new_account_url(), self.jwk());
        let header = serde_json::json!({ "alg": "ES256", "jwk": jwk, "nonce": "AAAA", "url": url });
        self.jws(&header, payload)
    }

    /// A newAccount request by ticket.
    pub(crate) fn with_ticket(&self, ticket: &MintedTicket) -> Vec<u8> {
        let binding = self.binding("HS256", ticket, &self.new_account_url(), &self.jwk());
        self.new_account_of(&serde_json::json!({ "externalAccountBinding": binding }))
    }

    /// An external account binding over whatever the caller says.
    pub(crate) fn binding(
        &self,
        alg: &str,
        ticket: &MintedTicket,
        url: &str,
        jwk: &serde_json::Value,
    ) -> serde_json::Value {
        let header = serde_json::json!({ "alg": alg, "kid": ticket.ticket, "url": url });
        let (protected, payload) = (b64(header.to_string()), b64(jwk.to_string()));
        let algorithm = match alg {
            "HS384" => hmac::HMAC_SHA384,
            "HS512" => hmac::HMAC_SHA512,
            _ => hmac::HMAC_SHA256,
        };
        let key = hmac::Key::new(algorithm, ticket.secret.octets());
        let mac = hmac::sign(&key, format!("{protected}.{payload}").as_bytes());
        serde_json::json!({
            "protected": protected, "payload": payload, "signature": b64(mac.as_ref()),
        })
    }

    pub(crate) fn new_account_url(&self) -> String {
        format!("{}{}", self.base, Resource::NewAccount)
    }

    pub(crate) fn jwk(&self) -> serde_json::Value {
        let pair = self.pair();
        let point = pair.public_key().as_ref();
        serde_json::json!({
            "kty": "EC", "crv": "P-256", "x": b64(&point[1..33]), "y": b64(&point[33..]),
        })
    }

    /// A keyChange request to another's key.
    pub(crate) fn key_change(&self, new: &Self) -> Question {
        self.key_change_from(&self.jwk(), new)
    }

    /// The same, but with another `oldKey`.
    pub(crate) fn key_change_from(&self, old: &serde_json::Value, new: &Self) -> Question {
        let url = urls().url(Resource::KeyChange);
        let header = serde_json::json!({ "alg": "ES256", "jwk": new.jwk(), "url": url });
        let payload = serde_json::json!({ "account": self.kid(), "oldKey": old });
        let inner = new.jws(&header, &payload);
        let inner: serde_json::Value = serde_json::from_slice(&inner).unwrap();
        Question::ChangeKey { jws: self.post(&url, &inner) }
    }

    pub(crate) fn deactivation(&self) -> Question {
        let url = urls().url(Resource::Account(self.id));
        let jws = self.post(&url, &serde_json::json!({ "status": "deactivated" }));
        Question::Deactivate { jws }
    }

    /// The same account with another's key.
    pub(crate) fn with_key_of(&self, other: &Self) -> Self {
        Self { key: Arc::clone(&other.key), ..self.clone() }
    }

    fn kid(&self) -> String {
        format!("{}{}", self.base, Resource::Account(self.id))
    }

    /// Any request by kid.
    pub(crate) fn post(&self, url: &str, payload: &serde_json::Value) -> Vec<u8> {
        self.jws(&self.kid_header(url), payload)
    }

    fn kid_header(&self, url: &str) -> serde_json::Value {
        serde_json::json!({ "alg": "ES256", "kid": self.kid(), "nonce": "AAAA", "url": url })
    }

    /// One that signs with a certificate's key.
    pub(crate) fn of_key(key: &rcgen::KeyPair) -> Self {
        Self { key: Arc::new(key.serialize_der()), ..Self::unregistered() }
    }

    /// A revokeCert request by this account, with what a web process claims besides.
    pub(crate) fn revoke(&self, certificate: &[u8], reason: Option<i64>) -> Revoke {
        let payload = revocation(certificate, reason);
        let header = self.kid_header(&urls().url(Resource::RevokeCert));
        Revoke { jws: self.jws(&header, &payload), validations: Vec::new() }
    }

    /// The same by whoever has this key.
    pub(crate) fn revoke_by_jwk(&self, certificate: &[u8], reason: Option<i64>) -> Revoke {
        let url = urls().url(Resource::RevokeCert);
        let header =
            serde_json::json!({ "alg": "ES256", "jwk": self.jwk(), "nonce": "AAAA", "url": url });
        let jws = self.jws(&header, &revocation(certificate, reason));
        Revoke { jws, validations: Vec::new() }
    }

    /// Signed for the url of another resource.
    pub(crate) fn revoke_at(&self, url: &str, certificate: &[u8]) -> Revoke {
        let jws = self.jws(&self.kid_header(url), &revocation(certificate, None));
        Revoke { jws, validations: Vec::new() }
    }

    pub(crate) fn finalize_url(&self, order: OrderId) -> String {
        urls().url(Resource::Finalize(order))
    }

    pub(crate) fn finalize(&self, order: OrderId, csr: &Csr) -> Question {
        self.finalize_at(&self.finalize_url(order), order, csr)
    }

    /// Signed for a url of the caller's choice.
    pub(crate) fn finalize_at(&self, url: &str, order: OrderId, csr: &Csr) -> Question {
        Question::Finalize(Box::new(Finalize {
            jws: self.signed(url, csr),
            order,
            account: self.id,
            profile: "server".into(),
            not_before: None,
            not_after: None,
            validations: Vec::new(),
        }))
    }

    pub(crate) fn finalize_jws(&self, order: OrderId, csr: &Csr) -> Vec<u8> {
        self.signed(&self.finalize_url(order), csr)
    }

    /// Signed over one CSR, carrying another.
    pub(crate) fn forged(&self, order: OrderId, signed: &Csr, carried: &Csr) -> Vec<u8> {
        let parse = |jws: Vec<u8>| serde_json::from_slice::<serde_json::Value>(&jws).unwrap();
        let mut jws = parse(self.finalize_jws(order, signed));
        jws["payload"] = parse(self.finalize_jws(order, carried))["payload"].clone();
        jws.to_string().into_bytes()
    }

    fn signed(&self, url: &str, csr: &Csr) -> Vec<u8> {
        self.post(url, &serde_json::json!({ "csr": b64(&csr.0) }))
    }

    fn jws(&self, header: &serde_json::Value, payload: &serde_json::Value) -> Vec<u8> {
        let (protected, payload) = (b64(header.to_string()), b64(payload.to_string()));
        let signed = format!("{protected}.{payload}");
        let signature = self.pair().sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        serde_json::json!({
            "protected": protected, "payload": payload, "signature": b64(signature.as_ref()),
        })
        .to_string()
        .into_bytes()
    }

    fn pair(&self) -> EcdsaKeyPair {
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &self.key).unwrap()
    }
}

/// A PKCS#10 request, DER.
pub(crate) struct Csr(Vec<u8>);

impl Csr {
    pub(crate) fn names(names: &[&str]) -> Self {
        Self::made(names, &rcgen::KeyPair::generate().unwrap(), Vec::new())
    }

    /// For a key of the caller's.
    pub(crate) fn of_key(names: &[&str], key: &rcgen::KeyPair) -> Self {
        Self::made(names, key, Vec::new())
    }

    /// Asks for CA:true.
    pub(crate) fn ca(names: &[&str]) -> Self {
        let constraints = vec![0x30, 0x03, 0x01, 0x01, 0xff];
        let extension = rcgen::CustomExtension::from_oid_content(&[2, 5, 29, 19], constraints);
        Self::made(names, &rcgen::KeyPair::generate().unwrap(), vec![extension])
    }

    /// For the key that signs the account's requests.
    pub(crate) fn of_account(account: &Account, names: &[&str]) -> Self {
        Self::made(names, &rcgen::KeyPair::try_from(account.key.as_slice()).unwrap(), Vec::new())
    }

    /// Its self-signature does not verify.
    pub(crate) fn spoilt(names: &[&str]) -> Self {
        let mut csr = Self::names(names);
        *csr.0.last_mut().unwrap() ^= 1;
        csr
    }

    fn made(names: &[&str], key: &rcgen::KeyPair, more: Vec<rcgen::CustomExtension>) -> Self {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.custom_extensions = more;
        Self(params.serialize_request(key).unwrap().der().to_vec())
    }
}

fn revocation(certificate: &[u8], reason: Option<i64>) -> serde_json::Value {
    match reason {
        Some(reason) => serde_json::json!({ "certificate": b64(certificate), "reason": reason }),
        None => serde_json::json!({ "certificate": b64(certificate) }),
    }
}

fn urls() -> Urls {
    Urls::new(BASE).unwrap()
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    Base64UrlUnpadded::encode_string(bytes.as_ref())
}
