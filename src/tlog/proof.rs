//! Which hashes prove that a leaf is in a tree, or that one tree continues another (RFC 6962 sections 2.1.1
//! and 2.1.2), and whether given hashes do.
//!
//! A proof is a list of subtrees of the tree of hashes, each stated as the range of leaves below it. Where
//! their hashes come from is for others: from tiles (`tile`), or from one walk over all leaves (`Gathering`).

mod file;

use std::ops::Range;

pub use file::{MAX_PROOF, NotAProof, Proof, Unproven};

use super::tree::{Hash, RightEdge, TreeHead, node_hash, sha256};

/// The subtrees whose hashes prove that leaf `index` is in a tree of `size` leaves, from the leaf's sibling
/// up. Empty unless `index < size`.
pub fn inclusion_path(index: u64, size: u64) -> Vec<Range<u64>> {
    let mut path = Vec::new();
    let (mut start, mut end) = (0, size);
    if index >= size {
        return path;
    }
    while end - start > 1 {
        let middle = start + split(end - start);
        if index < middle {
            path.push(middle..end);
            end = middle;
        } else {
            path.push(start..middle);
            start = middle;
        }
    }
    path.reverse();
    path
}

/// The subtrees whose hashes prove that the tree of `new` leaves continues that of `old` leaves, in the
/// order of RFC 6962. Empty unless `0 < old < new`.
pub fn consistency_path(old: u64, new: u64) -> Vec<Range<u64>> {
    let mut path = Vec::new();
    if old == 0 || old >= new {
        return path;
    }
    let (mut start, mut end) = (0, new);
    while end != old {
        let middle = start + split(end - start);
        if old <= middle {
            path.push(middle..end);
            end = middle;
        } else {
            path.push(start..middle);
            start = middle;
        }
    }
    // The old tree itself is known to whoever asks; a part of it is not.
    if start > 0 {
        path.push(start..end);
    }
    path.reverse();
    path
}

/// Whether `path` proves that the leaf with this hash is leaf `index` of the tree that `head` states.
pub fn verify_inclusion(leaf: &Hash, index: u64, head: &TreeHead, path: &[Hash]) -> bool {
    let ranges = inclusion_path(index, head.size);
    if index >= head.size || ranges.len() != path.len() {
        return false;
    }
    let root = ranges.iter().zip(path).fold(*leaf, |hash, (range, sibling)| {
        if range.start > index { node_hash(&hash, sibling) } else { node_hash(sibling, &hash) }
    });
    root == head.root
}

/// Whether `path` proves that the tree of `new` begins with the leaves of `old`.
pub fn verify_consistency(old: &TreeHead, new: &TreeHead, path: &[Hash]) -> bool {
    if old.size == 0 {
        return old.root == sha256(b"") && path.is_empty();
    }
    if old.size >= new.size {
        return old == new && path.is_empty();
    }
    let ranges = consistency_path(old.size, new.size);
    if ranges.len() != path.len() {
        return false;
    }
    let mut steps = ranges.iter().zip(path).peekable();
    let first = match steps.peek() {
        Some((range, hash)) if range.end == old.size => {
            let hash = **hash;
            steps.next();
            hash
        }
        _ => old.root,
    };
    let (before, after) = steps.fold((first, first), |(before, after), (range, hash)| {
        if range.start >= old.size {
            (before, node_hash(&after, hash))
        } else {
            (node_hash(hash, &before), node_hash(hash, &after))
        }
    });
    before == old.root && after == new.root
}

/// The hashes of a path, gathered while all leaves pass by once, in order. Needs no tiles, and memory for
/// the path alone.
#[derive(Clone, Debug)]
pub struct Gathering(Vec<(Range<u64>, RightEdge)>);

impl Gathering {
    /// For the subtrees of a path.
    pub fn new(path: Vec<Range<u64>>) -> Self {
        Self(path.into_iter().map(|range| (range, RightEdge::new())).collect())
    }

    /// Leaf `index` has this hash.
    pub fn leaf(&mut self, index: u64, hash: Hash) {
        // The subtrees of a path do not overlap.
        if let Some((_, edge)) = self.0.iter_mut().find(|(range, _)| range.contains(&index)) {
            edge.push(hash);
        }
    }

    /// The proof; `None` unless every leaf of the path was given once.
    pub fn finish(self) -> Option<Vec<Hash>> {
        let hashes = self.0.into_iter().map(|(range, edge)| {
            (edge.size() == range.end - range.start).then(|| edge.head().root)
        });
        hashes.collect()
    }
}

/// The largest power of two less than `size`, which is at least 2.
fn split(size: u64) -> u64 {
    1 << (u64::BITS - 1 - (size - 1).leading_zeros())
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tlog::tree::leaf_hash;

    pub(in crate::tlog) fn leaves(count: u64) -> Vec<Hash> {
        (0..count).map(|n| leaf_hash(&n.to_be_bytes())).collect()
    }

    /// MTH of RFC 6962 section 2.1, word for word.
    pub(in crate::tlog) fn mth(d: &[Hash]) -> Hash {
        match d {
            [] => sha256(b""),
            [leaf] => *leaf,
            _ => {
                let k = d.len().next_power_of_two() / 2;
                node_hash(&mth(&d[..k]), &mth(&d[k..]))
            }
        }
    }

    /// PATH of RFC 6962 section 2.1.1, word for word.
    pub(in crate::tlog) fn path(m: usize, d: &[Hash]) -> Vec<Hash> {
        if d.len() <= 1 {
            return Vec::new();
        }
        let k = d.len().next_power_of_two() / 2;
        if m < k {
            [path(m, &d[..k]), vec![mth(&d[k..])]].concat()
        } else {
            [path(m - k, &d[k..]), vec![mth(&d[..k])]].concat()
        }
    }

    /// SUBPROOF of RFC 6962 section 2.1.2, word for word.
    pub(in crate::tlog) fn subproof(m: usize, d: &[Hash], complete: bool) -> Vec<Hash> {
        if m == d.len() {
            return if complete { Vec::new() } else { vec![mth(d)] };
        }
        let k = d.len().next_power_of_two() / 2;
        if m <= k {
            [subproof(m, &d[..k], complete), vec![mth(&d[k..])]].concat()
        } else {
            [subproof(m - k, &d[k..], false), vec![mth(&d[..k])]].concat()
        }
    }

    pub(in crate::tlog) fn head(d: &[Hash]) -> TreeHead {
        TreeHead { size: d.len() as u64, root: mth(d) }
    }

    fn gathered(ranges: Vec<Range<u64>>, d: &[Hash]) -> Vec<Hash> {
        let mut gathering = Gathering::new(ranges);
        d.iter().enumerate().for_each(|(n, hash)| gathering.leaf(n as u64, *hash));
        gathering.finish().unwrap()
    }

    #[test]
    fn every_small_tree_is_as_the_rfc_defines_it() {
        let all = leaves(40);
        for n in 0..=all.len() {
            let d = &all[..n];
            for m in 0..n {
                let ours = gathered(inclusion_path(m as u64, n as u64), d);
                assert_eq!(ours, path(m, d), "leaf {m} of {n}");
                assert!(verify_inclusion(&d[m], m as u64, &head(d), &ours));
            }
            for m in 1..=n {
                let ours = gathered(consistency_path(m as u64, n as u64), d);
                assert_eq!(ours, subproof(m, d, true), "{m} to {n}");
                assert!(verify_consistency(&head(&d[..m]), &head(d), &ours));
            }
            assert!(verify_consistency(&head(&[]), &head(d), &[]));
        }
    }

    proptest! {
        #[test]
        fn any_change_breaks_a_proof_of_inclusion(n in 2u64..300, m: u64, at: usize, bit in 0usize..256) {
            let d = leaves(n);
            let m = m % n;
            let proof = gathered(inclusion_path(m, n), &d);
            let head = head(&d);
            let leaf = d[m as usize];
            let mut flipped = proof.clone();
            let hash = at % flipped.len();
            flipped[hash][bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!verify_inclusion(&leaf, m, &head, &flipped));
            prop_assert!(!verify_inclusion(&leaf, m, &head, &proof[1..]));
            prop_assert!(!verify_inclusion(&leaf, m, &head, &[proof.as_slice(), &[leaf]].concat()));
            prop_assert!(!verify_inclusion(&d[((m + 1) % n) as usize], m, &head, &proof));
            prop_assert!(!verify_inclusion(&leaf, (m + 1) % n, &head, &proof));
            prop_assert!(!verify_inclusion(&leaf, m + n, &head, &proof));
        }

        #[test]
        fn any_change_breaks_a_proof_of_consistency(n in 2u64..300, m: u64, at: usize, bit in 0usize..256) {
            let d = leaves(n);
            let m = 1 + m % (n - 1);
            let proof = gathered(consistency_path(m, n), &d);
            let (old, new) = (head(&d[..m as usize]), head(&d));
            prop_assert!(verify_consistency(&old, &new, &proof));
            let mut flipped = proof.clone();
            let hash = at % flipped.len();
            flipped[hash][bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!verify_consistency(&old, &new, &flipped));
            let mut other = old;
            other.root[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!verify_consistency(&other, &new, &proof));
            prop_assert!(!verify_consistency(&new, &old, &proof));
            prop_assert!(!verify_consistency(&old, &new, &proof[1..]));
        }
    }

    #[test]
    fn the_largest_trees_overflow_nothing() {
        assert_eq!(inclusion_path(u64::MAX - 1, u64::MAX).len(), 63);
        assert_eq!(inclusion_path(0, u64::MAX).len(), 64);
        assert!(consistency_path(u64::MAX - 1, u64::MAX).len() <= 65);
        assert!(inclusion_path(u64::MAX, u64::MAX).is_empty());
        let (old, new) =
            (TreeHead { size: 1 << 63, root: [1; 32] }, TreeHead { size: u64::MAX, root: [2; 32] });
        assert!(!verify_consistency(&old, &new, &[[0; 32]; 3]));
    }
}
