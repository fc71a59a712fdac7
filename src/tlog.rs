//! What outsiders read of a transparency log (C2SP tlog-tiles, tlog-checkpoint, signed-note, tlog-proof):
//! the tree's hashing, tiles, proofs and signed heads, as values. Pure: whoever has octets from a disk, a
//! socket or a file may ask here what they prove.

pub mod checkpoint;
pub mod keys;
pub mod note;
pub mod proof;
pub mod tile;
pub mod transcript;
pub mod tree;
pub mod witness;
