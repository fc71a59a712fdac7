//! RFC 6962 hashing and the right edge of the tree, enough to append and to state a head.

use serde::{Deserialize, Serialize};

/// SHA-256.
pub type Hash = [u8; 32];

/// Size and root hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TreeHead {
    pub size: u64,
    pub root: Hash,
}
