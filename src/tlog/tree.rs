//! RFC 6962 hashing and the right edge of the tree, enough to append and to state a head.

use std::ops::Range;

use aws_lc_rs::digest::{Context, SHA256, digest};
use serde::{Deserialize, Serialize};

/// SHA-256.
pub type Hash = [u8; 32];

/// Size and root hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TreeHead {
    pub size: u64,
    pub root: Hash,
}

/// The roots of the complete subtrees a tree of `size` leaves consists of, largest first: one for
/// each bit set in `size`. All that appending needs, and at most 64 hashes.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct RightEdge {
    size: u64,
    hashes: Vec<Hash>,
}

/// SHA-256 over `bytes`.
pub fn sha256(bytes: &[u8]) -> Hash {
    array(digest(&SHA256, bytes).as_ref())
}

/// `SHA-256(0x00 || leaf)` (RFC 6962 section 2.1).
pub fn leaf_hash(leaf: &[u8]) -> Hash {
    let mut context = Context::new(&SHA256);
    context.update(&[0]);
    context.update(leaf);
    array(context.finish().as_ref())
}

/// `SHA-256(0x01 || left || right)` (RFC 6962 section 2.1).
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut context = Context::new(&SHA256);
    context.update(&[1]);
    context.update(left);
    context.update(right);
    array(context.finish().as_ref())
}

impl RightEdge {
    /// The edge of the empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends one leaf, given as its hash.
    pub fn push(&mut self, leaf: Hash) {
        // As a binary counter: every trailing one of the size is a subtree as large as the new one.
        let mut hash = leaf;
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.hashes.pop() {
                hash = node_hash(&left, &hash);
            }
        }
        self.hashes.push(hash);
        self.size += 1;
    }

    /// Leaves so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The head of the tree so far; of the empty tree `SHA-256("")`.
    pub fn head(&self) -> TreeHead {
        let mut subtrees = self.hashes.iter().rev();
        let root = match subtrees.next() {
            None => sha256(b""),
            Some(last) => subtrees.fold(*last, |right, left| node_hash(left, &right)),
        };
        TreeHead { size: self.size, root }
    }

    /// The edge of a tree of `size` leaves from its subtrees' roots, largest first; `None` unless there
    /// are as many as it has.
    pub fn of(size: u64, hashes: Vec<Hash>) -> Option<Self> {
        Some(Self { size, hashes }).filter(Self::is_well_formed)
    }

    /// Its subtrees, largest first: the leaves below each, and its root.
    pub fn subtrees(&self) -> impl Iterator<Item = (Range<u64>, &Hash)> {
        let mut end = 0u64;
        let ones = (0..u64::BITS).rev().filter(|bit| self.size >> bit & 1 == 1);
        ones.zip(&self.hashes).map(move |(bit, hash)| {
            let start = end;
            end = start.saturating_add(1 << bit);
            (start..end, hash)
        })
    }

    /// Whether there are as many hashes as `size` needs: what was read back may be anything.
    pub fn is_well_formed(&self) -> bool {
        self.hashes.len() == self.size.count_ones() as usize
    }
}

fn array(digest: &[u8]) -> Hash {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest);
    hash
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::id::hex;

    /// The definition of RFC 6962 section 2.1, word for word.
    fn by_definition(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => sha256(b""),
            [leaf] => *leaf,
            _ => {
                let k = leaves.len().next_power_of_two() / 2;
                node_hash(&by_definition(&leaves[..k]), &by_definition(&leaves[k..]))
            }
        }
    }

    /// The vectors of the Certificate Transparency reference implementation.
    #[test]
    fn golden_roots() {
        let leaves: [&[u8]; 8] = [
            b"",
            b"\x00",
            b"\x10",
            b"\x20\x21",
            b"\x30\x31",
            b"\x40\x41\x42\x43",
            b"\x50\x51\x52\x53\x54\x55\x56\x57",
            b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
        ];
        let roots = [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let mut edge = RightEdge::new();
        assert_eq!(
            hex(&edge.head().root),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        for (n, (leaf, root)) in leaves.iter().zip(roots).enumerate() {
            edge.push(leaf_hash(leaf));
            assert_eq!(edge.size(), n as u64 + 1);
            assert_eq!(hex(&edge.head().root), root);
            assert!(edge.is_well_formed());
        }
    }

    proptest! {
        #[test]
        fn the_edge_states_the_root_of_the_definition(n in 0usize..200) {
            let leaves: Vec<Hash> = (0..n).map(|i| leaf_hash(&i.to_be_bytes())).collect();
            let mut edge = RightEdge::new();
            leaves.iter().for_each(|leaf| edge.push(*leaf));
            prop_assert_eq!(edge.head(), TreeHead { size: n as u64, root: by_definition(&leaves) });
            prop_assert_eq!(edge.hashes.len() as u32, (n as u64).count_ones());
        }
    }
}
