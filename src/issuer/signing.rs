//! Keys as this room uses them: a queue of signatures, the log's checkpoint key over it, and the names
//! under which the authority's keys are pinned.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use crate::hsm::pool::{Figures, Key, KeyPin};
use crate::hsm::{Class, Message, OnSigned, Request, SignError};
use crate::log::note::{LateMessage, NoteSignError, NoteSigner, VerifierKey};
use crate::pki::authority::{Authority, KeyRecord};
use crate::pki::key::{KeyKind, PublicKey, SignatureAlgorithm};
use crate::pki::uri::Pkcs11Uri;

/// A private key somewhere else that signs without holding up a thread here.
pub trait SignQueue: Send + Sync {
    /// The public half, as pinned.
    fn public_key(&self) -> &PublicKey;
    /// Queues a signature in X.509 form over `message`; `then` is called exactly once, on any thread.
    fn submit(&self, class: Class, message: Vec<u8>, then: OnSigned);

    /// The same with what a queue can heed: whose it is, whether it is still wanted, what it says at its turn.
    /// A key without a queue signs at once.
    fn request(&self, request: Request, then: OnSigned) {
        match request.message.compose() {
            Some(message) => self.submit(request.class, message, then),
            None => then(Err(SignError::Retry(AGAIN))),
        }
    }

    /// How long a signature of this class that is asked for now would wait for its turn.
    fn wait(&self, _class: Class) -> Duration {
        Duration::ZERO
    }

    /// What its queue counted and measured.
    fn figures(&self) -> Option<Figures> {
        None
    }

    /// Whether the key is in this process and not on the token.
    fn is_in_memory(&self) -> bool {
        false
    }
}

impl SignQueue for Key {
    fn public_key(&self) -> &PublicKey {
        Self::public_key(self)
    }

    fn submit(&self, class: Class, message: Vec<u8>, then: OnSigned) {
        Self::submit(self, class, message, then);
    }

    fn request(&self, request: Request, then: OnSigned) {
        Self::request(self, request, then);
    }

    fn wait(&self, class: Class) -> Duration {
        Self::wait(self, class)
    }

    fn figures(&self) -> Option<Figures> {
        Some(Self::figures(self))
    }
}

/// The pin of the key that signs checkpoints: the newest.
pub const LOG_KEY: &str = "log";
/// The pin of the log key before it, while it may have to sign too.
pub const FORMER_LOG_KEY: &str = "log-former";
/// The pin of the TLS key before it, while its certificate may be served.
pub const FORMER_TLS_KEY: &str = "tls-former";
/// The pin of the key that signs TLS handshakes.
pub const TLS_KEY: &str = "tls";
/// The pin of the key that cosigns other logs' checkpoints.
pub const WITNESS_KEY: &str = "witness";

/// The keys the issuer needs on its token, from what the ceremony fixed.
pub fn pins(authority: &Authority) -> Result<Vec<KeyPin>, String> {
    let former = authority.former_log_key().map(|record| (FORMER_LOG_KEY, record));
    issuing_keys(authority)
        .chain([(LOG_KEY, authority.newest_log_key()), (TLS_KEY, &authority.tls_key)])
        .chain(authority.witness.as_ref().map(|witness| (WITNESS_KEY, &witness.key)))
        .chain(former)
        .chain(authority.former_tls_key().map(|record| (FORMER_TLS_KEY, record)))
        .map(|(name, record)| pin(name, record))
        .collect()
}

/// The keys of the issuing CAs that are not done with, pinned under their names.
pub fn issuing_keys(authority: &Authority) -> impl Iterator<Item = (&str, &KeyRecord)> {
    let signing =
        authority.issuers().filter(|issuing| issuing.certificate.is_some() && !issuing.done);
    signing.map(|issuing| (issuing.name, issuing.key))
}

fn pin(name: &str, record: &KeyRecord) -> Result<KeyPin, String> {
    let broken = |what: &str| {
        format!(
            "CHY-CA-BROKEN: {what} of the {name} key in ca/authority.json does not parse; restore the file from the ceremony's backup"
        )
    };
    let key = record.public_key().map_err(|_| broken("the public key"))?;
    // TLS 1.3 takes no PKCS#1 v1.5, so an RSA key never makes one in a handshake.
    let algorithm = match (name, key.kind()) {
        (TLS_KEY | FORMER_TLS_KEY, KeyKind::Rsa(_)) => SignatureAlgorithm::RsaPssSha256,
        _ => key.preferred_algorithm(),
    };
    Ok(KeyPin {
        name: name.into(),
        uri: Pkcs11Uri::parse(&record.uri).map_err(|_| broken("the URI"))?,
        spki: key.spki().to_vec(),
        algorithm: Some(algorithm),
    })
}

/// Signs and waits, at most `deadline`; what is not signed by then leaves the queue. For threads of this room that
/// may wait; never on a thread of the token's pool.
pub(super) fn sign_and_wait(
    key: &dyn SignQueue,
    class: Class,
    message: Vec<u8>,
    deadline: Duration,
) -> Result<Vec<u8>, SignError> {
    request_and_wait(key, Request::new(class, message), deadline)
}

/// The same with all that a request can say.
pub(super) fn request_and_wait(
    key: &dyn SignQueue,
    request: Request,
    deadline: Duration,
) -> Result<Vec<u8>, SignError> {
    let (tell, told) = mpsc::sync_channel(1);
    let asker = Arc::new(());
    key.request(request.wanted_by(&asker), Box::new(move |result| drop(tell.send(result))));
    told.recv_timeout(deadline).unwrap_or(Err(SignError::Retry(AGAIN)))
}

/// The log's key on the token, as the log wants it.
pub struct CheckpointKey {
    verifier: VerifierKey,
    key: Arc<dyn SignQueue>,
}

impl CheckpointKey {
    /// `origin` is the log's name, fixed by the ceremony.
    pub fn new(origin: &str, key: Arc<dyn SignQueue>) -> Result<Self, String> {
        let verifier = VerifierKey::from_spki(origin, key.public_key().spki()).map_err(|e| {
            format!("CHY-CA-BROKEN: origin {origin:?} and log key make no checkpoint key: {e}; restore ca/authority.json from the ceremony's backup")
        })?;
        Ok(Self { verifier, key })
    }
}

impl NoteSigner for CheckpointKey {
    fn verifier_key(&self) -> &VerifierKey {
        &self.verifier
    }

    fn sign(&self, message: Vec<u8>) -> Result<Vec<u8>, NoteSignError> {
        self.signed(Message::Ready(message))
    }

    fn sign_at_its_turn(&self, message: LateMessage) -> Result<Vec<u8>, NoteSignError> {
        self.signed(Message::AtItsTurn(message))
    }
}

impl CheckpointKey {
    fn signed(&self, message: Message) -> Result<Vec<u8>, NoteSignError> {
        let request = Request::of(Class::Checkpoint, message);
        match request_and_wait(&*self.key, request, CHECKPOINT_DEADLINE) {
            Ok(signature) => Ok(signature),
            Err(SignError::Retry(after)) => Err(NoteSignError::Retry(after)),
            // Until an operator acts nothing is released; the records themselves are safe.
            Err(SignError::Refuse(why)) => {
                tracing::error!("the log key does not sign: {why}");
                Err(NoteSignError::Retry(Duration::from_secs(5)))
            }
            Err(SignError::Halt(why)) => Err(NoteSignError::Halt(why)),
        }
    }
}

/// Longer than any token's own deadline: the pool answers first.
const CHECKPOINT_DEADLINE: Duration = Duration::from_secs(60);
/// When what has no signature may be asked for again.
const AGAIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
    use aws_lc_rs::signature::KeyPair;

    use super::*;

    #[test]
    fn an_rsa_key_signs_handshakes_with_pss_also_while_it_is_the_former() {
        let key = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
        let spki: PublicKeyX509Der<'_> = key.public_key().as_der().unwrap();
        let key = PublicKey::from_spki(spki.as_ref()).unwrap();
        let uri = Pkcs11Uri::parse("pkcs11:token=chancery;object=tls;id=%01").unwrap();
        let record = KeyRecord::new(&uri, &key);
        for (name, expected) in [
            (TLS_KEY, SignatureAlgorithm::RsaPssSha256),
            (FORMER_TLS_KEY, SignatureAlgorithm::RsaPssSha256),
            (LOG_KEY, SignatureAlgorithm::RsaSha256),
        ] {
            assert_eq!(pin(name, &record).unwrap().algorithm, Some(expected), "{name}");
        }
    }
}
