//! The one exception to keys on the token, where `[token] tls-key = "memory"` asks for it: a TLS key in this process,
//! another at each start, for tokens too slow to answer handshakes. It certifies nothing, its certificate is for a
//! week at most, and it stands among the problems of the health for as long as it is used.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};

use super::signing::SignQueue;
use crate::hsm::{Class, OnSigned, SignError};
use crate::pki::key::PublicKey;

/// A P-256 key that ends with the process.
pub struct MemoryKey {
    pair: EcdsaKeyPair,
    public: PublicKey,
}

impl MemoryKey {
    /// The text of an error is for the operator.
    pub fn generate() -> Result<Self, String> {
        let failed = "CHY-INTERNAL: a TLS key in memory cannot be made; please report it";
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(|_| failed)?;
        let spki = pair.public_key().as_der().map_err(|_| failed)?;
        let public = PublicKey::from_spki(spki.as_ref()).map_err(|_| failed)?;
        Ok(Self { pair, public })
    }
}

impl SignQueue for MemoryKey {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn submit(&self, _: Class, message: Vec<u8>, then: OnSigned) {
        let signed = self.pair.sign(&SystemRandom::new(), &message);
        let failed = |_| SignError::Refuse("CHY-INTERNAL: the TLS key in memory fails".into());
        then(signed.map(|signature| signature.as_ref().to_vec()).map_err(failed));
    }

    fn is_in_memory(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_signs_and_is_another_each_time() {
        let (key, other) = (MemoryKey::generate().unwrap(), MemoryKey::generate().unwrap());
        assert_ne!(key.public_key(), other.public_key());
        let (tell, told) = std::sync::mpsc::channel();
        key.submit(Class::Tls, vec![7; 100], Box::new(move |result| tell.send(result).unwrap()));
        let public = key.public_key();
        let signature = told.recv().unwrap().unwrap();
        assert!(public.verify(public.preferred_algorithm(), &[7; 100], &signature));
    }
}
