//! A tree read from its tiles.

use std::collections::HashMap;
use std::io;
use std::ops::Range;

use super::{LEVELS, Tile, WIDTH};
use crate::tlog::proof::{consistency_path, inclusion_path};
use crate::tlog::tree::{Hash, RightEdge, TreeHead, node_hash, sha256};

/// Where tiles come from. Any function will do.
pub trait Tiles {
    /// The hashes of the tile, `tile.width` of them.
    fn read(&mut self, tile: &Tile) -> io::Result<Vec<Hash>>;
}

impl<F: FnMut(&Tile) -> io::Result<Vec<Hash>>> Tiles for F {
    fn read(&mut self, tile: &Tile) -> io::Result<Vec<Hash>> {
        self(tile)
    }
}

/// A tree of so many leaves over tiles that nobody vouches for: what it says is what they say, until it is
/// held against a head that somebody signed. Each tile is read once, so what was checked is what is used.
pub struct TiledTree<T> {
    tiles: T,
    size: u64,
    read: HashMap<(u8, u64), Vec<Hash>>,
}

impl<T: Tiles> TiledTree<T> {
    /// The tree of the first `size` leaves.
    pub fn new(tiles: T, size: u64) -> Self {
        Self { tiles, size, read: HashMap::new() }
    }

    /// Its head, from the tiles of its right edge: two dozen hashes at most of each level.
    pub fn head(&mut self) -> io::Result<TreeHead> {
        let root = match self.size {
            0 => sha256(b""),
            size => self.subtree(&(0..size))?,
        };
        Ok(TreeHead { size: self.size, root })
    }

    /// The hashes of `proof::inclusion_path`, unless the tree has no such leaf.
    pub fn inclusion(&mut self, index: u64) -> io::Result<Option<Vec<Hash>>> {
        if index >= self.size {
            return Ok(None);
        }
        inclusion_path(index, self.size)
            .iter()
            .map(|range| self.subtree(range))
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// The hashes of `proof::consistency_path` from the tree of `old` leaves, unless this one is smaller.
    pub fn consistency(&mut self, old: u64) -> io::Result<Option<Vec<Hash>>> {
        if old > self.size {
            return Ok(None);
        }
        consistency_path(old, self.size)
            .iter()
            .map(|range| self.subtree(range))
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// The hash of a leaf.
    pub fn leaf(&mut self, index: u64) -> io::Result<Option<Hash>> {
        if index >= self.size {
            return Ok(None);
        }
        self.tile(0, index / u64::from(WIDTH)).map(|tile| tile.get(within(index)).copied())
    }

    /// A tile as it is in this tree, if it leads to the root of `head`: a full one by its hash in the tile
    /// above, and so on to the right edge, whose tiles make the root. `None` if it does not, or if this
    /// tree is not of that head's size, or has no such tile.
    pub fn proven(
        &mut self,
        level: u8,
        index: u64,
        head: &TreeHead,
    ) -> io::Result<Option<Vec<Hash>>> {
        if Tile::of(level, index, self.size).is_none() || self.head()? != *head {
            return Ok(None);
        }
        let (mut child, mut number) = (level, index);
        while Tile::width_in(child, number, self.size) == WIDTH {
            let hash = mth(self.tile(child, number)?);
            let above = self.tile(child + 1, number / u64::from(WIDTH))?;
            if above.get(within(number)) != Some(&hash) {
                return Ok(None);
            }
            (child, number) = (child + 1, number / u64::from(WIDTH));
        }
        // Partial, and so one of those that made the root.
        self.tile(level, index).map(|tile| Some(tile.to_vec()))
    }

    /// The hash over a range that RFC 6962 splits a tree into.
    fn subtree(&mut self, range: &Range<u64>) -> io::Result<Hash> {
        let mut roots = Vec::new();
        let mut start = range.start;
        while start < range.end {
            let height = (range.end - start).ilog2();
            roots.push(self.complete(start, height)?);
            start = match start.checked_add(1 << height) {
                Some(next) => next,
                None => break,
            };
        }
        let mut roots = roots.into_iter().rev();
        let last = roots.next().ok_or(io::ErrorKind::InvalidInput)?;
        Ok(roots.fold(last, |right, left| node_hash(&left, &right)))
    }

    /// The hash over the `2^height` leaves from `start` on, a multiple of that.
    fn complete(&mut self, start: u64, height: u32) -> io::Result<Hash> {
        let level = u8::try_from(height / 8).unwrap_or(LEVELS);
        let first = start >> (height / 8 * 8);
        let tile = self.tile(level, first / u64::from(WIDTH))?;
        let from = within(first);
        let hashes = tile.get(from..from + (1 << (height % 8)));
        Ok(mth(hashes.ok_or(io::ErrorKind::UnexpectedEof)?))
    }

    fn tile(&mut self, level: u8, index: u64) -> io::Result<&[Hash]> {
        use std::collections::hash_map::Entry;
        match self.read.entry((level, index)) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => {
                let tile = Tile::of(level, index, self.size).ok_or(io::ErrorKind::InvalidInput)?;
                let hashes = self.tiles.read(&tile)?;
                if hashes.len() != usize::from(tile.width) {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Ok(entry.insert(hashes))
            }
        }
    }
}

/// The hash of a tree whose leaves have these hashes.
fn mth(hashes: &[Hash]) -> Hash {
    let mut edge = RightEdge::new();
    hashes.iter().for_each(|hash| edge.push(*hash));
    edge.head().root
}

fn within(number: u64) -> usize {
    usize::try_from(number % u64::from(WIDTH)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::hashes;
    use super::*;
    use crate::tlog::proof::tests::{head, leaves, path, subproof};
    use crate::tlog::proof::{verify_consistency, verify_inclusion};

    /// All levels over these leaves, by definition.
    fn levels(leaves: &[Hash]) -> Vec<Vec<Hash>> {
        let mut levels = vec![leaves.to_vec()];
        while levels.last().unwrap().len() >= 256 {
            let above = levels.last().unwrap().chunks_exact(256).map(mth).collect();
            levels.push(above);
        }
        levels
    }

    fn tree(levels: &[Vec<Hash>], size: u64) -> TiledTree<impl Tiles> {
        let read = move |tile: &Tile| {
            let first = tile.first() as usize;
            Ok(levels[usize::from(tile.level)][first..first + usize::from(tile.width)].to_vec())
        };
        TiledTree::new(read, size)
    }

    #[test]
    fn trees_around_the_widths_of_tiles_are_as_the_rfc_defines_them() {
        let all = leaves(66_000);
        let levels = levels(&all);
        for size in
            [1, 2, 255, 256, 257, 511, 512, 513, 700, 65_535, 65_536, 65_537, 65_793, 66_000]
        {
            let d = &all[..size as usize];
            let head = head(d);
            assert_eq!(tree(&levels, size).head().unwrap(), head, "{size}");
            for m in [0, 1, 254, 255, 256, 257, 512, 65_535, 65_536, size - 1] {
                let proof = tree(&levels, size).inclusion(m).unwrap();
                if m >= size {
                    assert_eq!(proof, None);
                    continue;
                }
                assert_eq!(proof, Some(path(m as usize, d)), "leaf {m} of {size}");
                assert!(verify_inclusion(&d[m as usize], m, &head, &proof.unwrap()));
                assert_eq!(tree(&levels, size).leaf(m).unwrap(), Some(d[m as usize]));
                if m > 0 {
                    let proof = tree(&levels, size).consistency(m).unwrap().unwrap();
                    assert_eq!(proof, subproof(m as usize, d, true), "{m} to {size}");
                }
            }
            assert_eq!(tree(&levels, size).consistency(size + 1).unwrap(), None);
        }
        assert_eq!(tree(&levels, 0).head().unwrap(), head(&[]));
    }

    /// Whatever tile is damaged: no tile that hangs on it is handed out, and no root of it is the signed one.
    #[test]
    fn what_does_not_lead_to_the_root_is_not_proven() {
        let size = 66_000;
        let all = leaves(size);
        let sound = levels(&all);
        let head = head(&all);
        for (level, index) in [(0, 0), (0, 100), (0, 257), (1, 0), (1, 1), (2, 0)] {
            let proven = tree(&sound, size).proven(level, index, &head).unwrap().unwrap();
            let first = index as usize * 256;
            assert_eq!(proven[..], sound[usize::from(level)][first..first + proven.len()]);
        }
        assert_eq!(tree(&sound, size).proven(0, 258, &head).unwrap(), None);
        assert_eq!(tree(&sound, size).proven(3, 0, &head).unwrap(), None);
        assert_eq!(tree(&sound, size - 1).proven(0, 0, &head).unwrap(), None);
        let damaged = |level: usize, hash: usize| {
            let mut levels = sound.clone();
            levels[level][hash][31] ^= 1;
            levels
        };
        // A full tile of level 0: itself only.
        let levels = damaged(0, 300);
        assert_eq!(tree(&levels, size).proven(0, 1, &head).unwrap(), None);
        assert!(tree(&levels, size).proven(0, 2, &head).unwrap().is_some());
        // A hash of a full tile above: that tile and what hangs on the hash.
        let levels = damaged(1, 1);
        assert_eq!(tree(&levels, size).proven(1, 0, &head).unwrap(), None);
        assert_eq!(tree(&levels, size).proven(0, 1, &head).unwrap(), None);
        // The right edge: everything.
        for levels in [damaged(0, size as usize - 1), damaged(1, 256), damaged(2, 0)] {
            assert_eq!(tree(&levels, size).proven(0, 0, &head).unwrap(), None);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn proofs_from_tiles_verify(size in 1u64..3_000, m: u64, n: u64) {
            let all = leaves(size);
            let levels = levels(&all);
            let mut tree = tree(&levels, size);
            let signed = tree.head().unwrap();
            let m = m % size;
            let proof = tree.inclusion(m).unwrap().unwrap();
            prop_assert!(verify_inclusion(&all[m as usize], m, &signed, &proof));
            let old = n % (size + 1);
            let proof = tree.consistency(old).unwrap().unwrap();
            prop_assert!(verify_consistency(&head(&all[..old as usize]), &signed, &proof));
            for level in 0..2u8 {
                for index in 0..hashes(level, size).div_ceil(256) {
                    prop_assert!(tree.proven(level, index, &signed).unwrap().is_some());
                }
            }
        }
    }
}
