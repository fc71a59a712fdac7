//! What an ACME client signs, well formed or not.

use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64ct::{Base64UrlUnpadded, Encoding};
use chancery::acme::directory::{Resource, Urls};
use chancery::env::random_16;
use chancery::env::system::SystemRng;
use chancery::id::{AccountId, OrderId};
use chancery::ipc::message::{Finalize, Question};

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
        let pair = self.pair();
        let point = pair.public_key().as_ref();
        let jwk = serde_json::json!({
            "kty": "EC", "crv": "P-256", "x": b64(&point[1..33]), "y": b64(&point[33..]),
        });
        let url = format!("{}{}", self.base, Resource::NewAccount);
        let header = serde_json::json!({ "alg": "ES256", "jwk": jwk, "nonce": "AAAA", "url": url });
        let payload = serde_json::json!({ "onlyReturnExisting": only_return_existing });
        self.jws(&header, &payload)
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
        let kid = format!("{}{}", self.base, Resource::Account(self.id));
        let header = serde_json::json!({ "alg": "ES256", "kid": kid, "nonce": "AAAA", "url": url });
        self.jws(&header, &serde_json::json!({ "csr": b64(&csr.0) }))
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

fn urls() -> Urls {
    Urls::new(BASE).unwrap()
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    Base64UrlUnpadded::encode_string(bytes.as_ref())
}
