//! Signing keys that live in a PKCS#11 token: finding them, using them, surviving their loss.
//!
//! Only `hsm::token` names cryptoki. Everyone else sees `Signer`.

pub mod direct;
pub mod health;
pub mod inspect;
pub mod pool;
pub mod software;
pub mod token;

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
}

/// Called once, on a thread of the pool; must not block for long.
pub type OnSigned = Box<dyn FnOnce(Result<Vec<u8>, SignError>) + Send>;
