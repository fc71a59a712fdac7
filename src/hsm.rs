//! Signing keys that live in a PKCS#11 token: finding them, using them, surviving their loss.
//!
//! Only `hsm::token` names cryptoki. Everyone else sees `Signer`.

pub mod direct;
pub mod epoch;
pub mod health;
pub mod inspect;
pub mod pool;
pub mod software;
pub mod token;

use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::pki::key::PublicKey;

/// A private key that signs somewhere else.
pub trait Signer: Send + Sync {
    /// The public half, as pinned and as read back from the token.
    fn public_key(&self) -> &PublicKey;
    /// Signs `message` itself, not its digest; the result is in X.509 form (DER for ECDSA) under
    /// `public_key().preferred_algorithm()` and has been verified. Blocks up to the token's deadline.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError>;
}

/// Why there is no signature. `Display` of the text is for the operator, never for a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignError {
    /// The token is away, recovering or busy; worth asking again after this long.
    Retry(Duration),
    /// This key will not sign until an operator acts (PIN refused, key quarantined or missing).
    Refuse(String),
    /// The state of the token is unknown; the process must end.
    Halt(String),
}

/// What a signature is for; the pool weighs classes, never ranks them strictly.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Class {
    Certificate,
    Checkpoint,
    Tls,
    Crl,
    /// Of another log's checkpoint.
    Cosignature,
}

impl Class {
    /// Every class, in the order in which figures list them.
    pub const ALL: [Self; 5] =
        [Self::Certificate, Self::Checkpoint, Self::Tls, Self::Crl, Self::Cosignature];

    /// One word for it, in settings and figures.
    pub fn name(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::Checkpoint => "checkpoint",
            Self::Tls => "tls",
            Self::Crl => "crl",
            Self::Cosignature => "cosignature",
        }
    }
}

/// Whose a signature is within its class: parties take turns, however much each asks for.
pub type Party = [u8; 16];

/// What is to be signed, for whom, and until when that is of use.
pub struct Request {
    pub class: Class,
    pub party: Party,
    pub message: Message,
    /// Not begun once nobody holds the other end.
    pub wanted: Option<Weak<()>>,
    /// Goes before everything else when it has waited so long.
    pub overtakes: Option<Duration>,
}

/// The octets to be signed.
pub enum Message {
    Ready(Vec<u8>),
    /// Made when the token is about to sign, so that it is not stale by then; quick, on a thread of the pool.
    /// `None`: there is nothing to sign any more.
    AtItsTurn(Box<dyn FnOnce() -> Option<Vec<u8>> + Send>),
}

impl Message {
    /// The octets, now.
    pub fn compose(self) -> Option<Vec<u8>> {
        match self {
            Self::Ready(message) => Some(message),
            Self::AtItsTurn(make) => make(),
        }
    }
}

impl Request {
    /// Of nobody in particular, and wanted whatever happens.
    pub fn new(class: Class, message: Vec<u8>) -> Self {
        Self::of(class, Message::Ready(message))
    }

    /// The same with octets that may still have to be made.
    pub fn of(class: Class, message: Message) -> Self {
        Self { class, party: Party::default(), message, wanted: None, overtakes: None }
    }

    /// For a party, with which it takes turns.
    #[must_use]
    pub fn party(self, party: Party) -> Self {
        Self { party, ..self }
    }

    /// Only as long as somebody holds `asker`: then it leaves the queue without a signature.
    #[must_use]
    pub fn wanted_by(self, asker: &Arc<()>) -> Self {
        Self { wanted: Some(Arc::downgrade(asker)), ..self }
    }

    /// Before everything else once it has waited so long.
    #[must_use]
    pub fn overtaking_after(self, wait: Duration) -> Self {
        Self { overtakes: Some(wait), ..self }
    }
}

/// Called once, on a thread of the pool; must not block for long.
pub type OnSigned = Box<dyn FnOnce(Result<Vec<u8>, SignError>) + Send>;
