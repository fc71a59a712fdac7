//! Anti-replay nonces without memory per nonce (RFC 8555 section 6.5): a nonce is an authenticated
//! counter under a key made at each start; a bitmap by time remembers which were used.

use crate::id::Timestamp;

/// Mints and burns nonces. Thread-safe; forgets everything at restart, so old nonces become invalid.
pub struct Nonces {
    _private: (),
}

/// The nonce is unknown, too old, or was used; or not base64url.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NonceError {
    Bad,
    Malformed,
}

impl Nonces {
    /// A generator under a fresh random key.
    pub fn new(key: [u8; 32]) -> Self {
        todo!()
    }
    /// A new nonce, unpredictable (at least 128 bits) to whoever lacks the key.
    pub fn mint(&self, now: Timestamp) -> String {
        todo!()
    }
    /// Burns it: of concurrent calls with one nonce exactly one returns `Ok`.
    pub fn spend(&self, nonce: &str, now: Timestamp) -> Result<(), NonceError> {
        todo!()
    }
}
