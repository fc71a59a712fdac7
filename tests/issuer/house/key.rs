//! Keys in this process, for an issuer without a token.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    self as aws, ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair,
    Ed25519KeyPair, KeyPair, PqdsaKeyPair, RsaEncoding, RsaKeyPair,
};
use chancery::hsm::{Class, OnSigned, SignError};
use chancery::issuer::SignQueue;
use chancery::pki::authority::KeyRecord;
use chancery::pki::key::{PublicKey, SignatureAlgorithm};
use chancery::pki::uri::Pkcs11Uri;

/// A key in this process: P-256, where nothing else is asked for.
pub(crate) struct SoftKey {
    pair: Pair,
    pub(super) public: PublicKey,
    asked: Mutex<Vec<(Class, Vec<u8>)>>,
    fail: Mutex<Option<SignError>>,
    hook: Mutex<Option<Hook>>,
    /// Every signature is refused for now.
    pub(crate) refuse: AtomicBool,
}

enum Pair {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair, &'static dyn RsaEncoding),
    MlDsa(PqdsaKeyPair),
}

type Hook = Box<dyn Fn(Class, &[u8]) + Send>;

impl SoftKey {
    pub(crate) fn new() -> Arc<Self> {
        Self::of(SignatureAlgorithm::EcdsaSha256)
    }

    /// A key that signs so; RSA with 2048 bits.
    pub(crate) fn of(algorithm: SignatureAlgorithm) -> Arc<Self> {
        use SignatureAlgorithm as S;
        let ecdsa = |algorithm| {
            let pair = EcdsaKeyPair::generate(algorithm).unwrap();
            let spki = pair.public_key().as_der().unwrap().as_ref().to_vec();
            (Pair::Ecdsa(pair), spki)
        };
        let rsa = |encoding| {
            let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
            let spki = pair.public_key().as_der().unwrap().as_ref().to_vec();
            (Pair::Rsa(pair, encoding), spki)
        };
        let ml_dsa = |algorithm| {
            let pair = PqdsaKeyPair::generate(algorithm).unwrap();
            let spki = pair.public_key().as_der().unwrap().as_ref().to_vec();
            (Pair::MlDsa(pair), spki)
        };
        let (pair, spki) = match algorithm {
            S::EcdsaSha256 => ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING),
            S::EcdsaSha384 => ecdsa(&ECDSA_P384_SHA384_ASN1_SIGNING),
            S::RsaSha256 => rsa(&aws::RSA_PKCS1_SHA256),
            S::RsaSha384 => rsa(&aws::RSA_PKCS1_SHA384),
            S::RsaPssSha256 => rsa(&aws::RSA_PSS_SHA256),
            S::RsaPssSha384 => rsa(&aws::RSA_PSS_SHA384),
            S::Ed25519 => {
                let pair = Ed25519KeyPair::generate().unwrap();
                let spki = pair.public_key().as_der().unwrap().as_ref().to_vec();
                (Pair::Ed25519(pair), spki)
            }
            S::MlDsa44 => ml_dsa(&aws::ML_DSA_44_SIGNING),
            S::MlDsa65 => ml_dsa(&aws::ML_DSA_65_SIGNING),
            S::MlDsa87 => ml_dsa(&aws::ML_DSA_87_SIGNING),
            S::EcdsaSha512 | S::RsaSha512 => panic!("no CA key signs {algorithm:?}"),
        };
        let public = PublicKey::from_spki(&spki).unwrap().signing_with(algorithm).unwrap();
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
        let rng = SystemRandom::new();
        match &self.pair {
            Pair::Ecdsa(pair) => pair.sign(&rng, message).unwrap().as_ref().to_vec(),
            Pair::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Pair::Rsa(pair, encoding) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(*encoding, &rng, message, &mut signature).unwrap();
                signature
            }
            Pair::MlDsa(pair) => {
                let mut signature = vec![0; pair.algorithm().signature_len()];
                let length = pair.sign(message, &mut signature).unwrap();
                signature.truncate(length);
                signature
            }
        }
    }

    pub(super) fn record(&self) -> KeyRecord {
        let uri = Pkcs11Uri::parse("pkcs11:token=none;id=%01").unwrap();
        KeyRecord::new(&uri, &self.public)
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
