//! Keys in this process, for an issuer without a token.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use base64ct::{Base64, Encoding};
use chancery::hsm::{Class, OnSigned, SignError};
use chancery::issuer::SignQueue;
use chancery::pki::authority::KeyRecord;
use chancery::pki::key::PublicKey;

/// A P-256 key in this process.
pub(crate) struct SoftKey {
    pair: EcdsaKeyPair,
    pub(super) public: PublicKey,
    asked: Mutex<Vec<(Class, Vec<u8>)>>,
    fail: Mutex<Option<SignError>>,
    hook: Mutex<Option<Hook>>,
    /// Every signature is refused for now.
    pub(crate) refuse: AtomicBool,
}

type Hook = Box<dyn Fn(Class, &[u8]) + Send>;

impl SoftKey {
    pub(crate) fn new() -> Arc<Self> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let public = PublicKey::from_spki(pair.public_key().as_der().unwrap().as_ref()).unwrap();
        Arc::new(Self {
            pair,
            public,
            asked: Mutex::default(),
            fail: Mutex::default(),
            hook: Mutex::default(),
            refuse: AtomicBool::new(false),
        })
    }

    pub(crate) fn spki(&self) -> &[u8] {
        self.public.spki()
    }

    /// The next certificate is not signed.
    pub(crate) fn fail_next(&self, error: SignError) {
        *self.fail.lock().unwrap() = Some(error);
    }

    /// Called whenever the key is asked, before it signs.
    pub(crate) fn when_asked(&self, hook: impl Fn(Class, &[u8]) + Send + 'static) {
        *self.hook.lock().unwrap() = Some(Box::new(hook));
    }

    pub(crate) fn count(&self, class: Class) -> usize {
        self.asked.lock().unwrap().iter().filter(|(c, _)| *c == class).count()
    }

    /// How often a message was signed that holds all these texts.
    pub(crate) fn asked(&self, class: Class, texts: &[&str]) -> usize {
        let holds = |m: &[u8], t: &str| m.windows(t.len()).any(|w| w == t.as_bytes());
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|(c, m)| *c == class && texts.iter().all(|t| holds(m, t))).count()
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
    }

    pub(super) fn record(&self) -> KeyRecord {
        KeyRecord {
            uri: "pkcs11:token=none;id=%01".into(),
            spki: Base64::encode_string(self.spki()),
            signature: None,
        }
    }
}

impl SignQueue for SoftKey {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn submit(&self, class: Class, message: Vec<u8>, then: OnSigned) {
        if self.refuse.load(Ordering::SeqCst) {
            return then(Err(SignError::Retry(Duration::from_millis(20))));
        }
        if let Some(hook) = &*self.hook.lock().unwrap() {
            hook(class, &message);
        }
        if class == Class::Certificate {
            let failure = self.fail.lock().unwrap().take();
            if let Some(error) = failure {
                return then(Err(error));
            }
        }
        let signature = self.sign(&message);
        self.asked.lock().unwrap().push((class, message));
        then(Ok(signature));
    }
}

/// An Ed25519 key in this process.
pub(crate) struct SoftEd25519 {
    pair: Ed25519KeyPair,
    public: PublicKey,
    asked: AtomicUsize,
    /// Every signature is refused for now.
    pub(crate) refuse: AtomicBool,
}

impl SoftEd25519 {
    pub(crate) fn new(seed: u8) -> Arc<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        let mut spki = vec![0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
        spki.extend_from_slice(pair.public_key().as_ref());
        let public = PublicKey::from_spki(&spki).unwrap();
        Arc::new(Self { pair, public, asked: AtomicUsize::new(0), refuse: AtomicBool::new(false) })
    }

    pub(crate) fn spki(&self) -> &[u8] {
        self.public.spki()
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }

    /// Signatures made for others.
    pub(crate) fn count(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl SignQueue for SoftEd25519 {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn submit(&self, _: Class, message: Vec<u8>, then: OnSigned) {
        if self.refuse.load(Ordering::SeqCst) {
            return then(Err(SignError::Retry(Duration::from_millis(20))));
        }
        self.asked.fetch_add(1, Ordering::SeqCst);
        then(Ok(self.sign(&message)));
    }
}
