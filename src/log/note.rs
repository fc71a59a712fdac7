//! C2SP signed notes: the text form in which a checkpoint carries its signatures.

use crate::id::Timestamp;

/// The public half of a note key: a name and a typed public key; prints as a vkey.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifierKey {
    _private: (),
}

/// Signs note texts with a key this room never sees. Implemented by the issuer over the HSM.
pub trait NoteSigner: Send + Sync {
    fn verifier_key(&self) -> &VerifierKey;
    /// The signature octets for the note line (without the 4-octet key id) over a checkpoint.
    fn sign_checkpoint(
        &self,
        note_text: &[u8],
        head: &super::tree::TreeHead,
        now: Timestamp,
    ) -> Result<Vec<u8>, NoteSignError>;
}

/// Why there is no signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoteSignError {
    Retry(std::time::Duration),
    Halt(String),
}
