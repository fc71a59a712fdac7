//! Tiles (C2SP tlog-tiles): the tree's hashes in files of 256, their paths, and a tree read from them.
//!
//! Hash `i` of tile level `l` is `MTH(D[i * 256^l : (i + 1) * 256^l])`, and is there as soon as all those
//! leaves are. Tile `n` of a level has its hashes from `256 n` on; in a tree that ends within it, it has
//! those that are there and is partial.
//!
//! Below the public directory each level is one file of its hashes, `tiles/<level>`, in which a tile, full or
//! partial, is a range. Entries, where they are published, lie in `tiles/entries` as in bundles, one bundle after
//! the other, and `tiles/bundles` has the octet at which each bundle begins, a big-endian uint64.

mod bundle;
mod read;

use std::fmt;

pub use bundle::{entries, push_entry, read_bundle, split_entry};
pub use read::{TiledTree, Tiles};

use super::tree::Hash;

/// Hashes of a full tile, and entries of a full bundle.
pub const WIDTH: u16 = 256;
/// No tree of 64 bits has a higher tile level.
pub const LEVELS: u8 = 8;

/// A tile of hashes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Tile {
    pub level: u8,
    /// Its number within the level; at most 2^56 - 1.
    pub index: u64,
    /// Its hashes, the first of them at its start: 1 to `WIDTH`.
    pub width: u16,
}

/// The directory below the public one.
pub const DIRECTORY: &str = "tiles";
/// The files beside those of the levels.
pub const ENTRIES: &str = "entries";
pub const BUNDLES: &str = "bundles";

/// What a path below `/tile/` names.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TilePath {
    Hashes(Tile),
    /// The entries whose hashes are that tile of level 0.
    Entries(Tile),
}

impl Tile {
    /// How many hashes of the tile with this place there are in a tree of `size` leaves.
    pub fn width_in(level: u8, index: u64, size: u64) -> u16 {
        let before = index.saturating_mul(u64::from(WIDTH));
        let here = hashes(level, size).saturating_sub(before).min(u64::from(WIDTH));
        u16::try_from(here).unwrap_or(WIDTH)
    }

    /// The tile with this place as it is in a tree of `size` leaves, unless it is empty there.
    pub fn of(level: u8, index: u64, size: u64) -> Option<Self> {
        let width = Self::width_in(level, index, size);
        (width > 0).then_some(Self { level, index, width })
    }

    /// Whether it will never have more.
    pub fn is_full(&self) -> bool {
        self.width == WIDTH
    }

    /// Where it lies in its level's file, and its length there.
    pub fn octets(&self) -> (u64, usize) {
        (self.first().saturating_mul(HASH), usize::from(self.width) * HASH as usize)
    }

    /// The number of its first hash within the level.
    pub fn first(&self) -> u64 {
        self.index.saturating_mul(u64::from(WIDTH))
    }
}

/// Octets of a hash.
pub const HASH: u64 = 32;

/// The octets of a tile as hashes; what is left over is ignored.
pub fn split_hashes(octets: &[u8]) -> Vec<Hash> {
    octets.as_chunks().0.to_vec()
}

/// How many hashes tile level `level` has in a tree of `size` leaves.
pub fn hashes(level: u8, size: u64) -> u64 {
    size.checked_shr(8 * u32::from(level)).unwrap_or(0)
}

impl TilePath {
    /// Parses what follows `/tile/`. One spelling only: numbers without superfluous zeros, and a width only
    /// where the tile is partial.
    pub fn parse(path: &str) -> Option<Self> {
        let (level, rest) = path.split_once('/')?;
        let (rest, width) = match rest.split_once(".p/") {
            None => (rest, WIDTH),
            Some((rest, width)) => (rest, decimal(width).filter(|w| (1..WIDTH).contains(w))?),
        };
        let index = parse_index(rest)?;
        match level {
            "entries" => Some(Self::Entries(Tile { level: 0, index, width })),
            _ => {
                let level = decimal(level).filter(|level| *level < 64)?;
                let level = u8::try_from(level).ok()?;
                Some(Self::Hashes(Tile { level, index, width }))
            }
        }
    }

    /// Its tile; of a bundle, that of its hashes.
    pub fn tile(&self) -> &Tile {
        let (Self::Hashes(tile) | Self::Entries(tile)) = self;
        tile
    }
}

impl fmt::Display for TilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hashes(tile) => write!(f, "{}/", tile.level)?,
            Self::Entries(_) => f.write_str("entries/")?,
        }
        let tile = self.tile();
        let mut groups = vec![tile.index % 1000];
        let mut rest = tile.index / 1000;
        while rest > 0 {
            groups.push(rest % 1000);
            rest /= 1000;
        }
        while let Some(group) = groups.pop() {
            if groups.is_empty() {
                write!(f, "{group:03}")?;
            } else {
                write!(f, "x{group:03}/")?;
            }
        }
        if tile.is_full() { Ok(()) } else { write!(f, ".p/{}", tile.width) }
    }
}

/// A number of at most three digits without superfluous zeros.
fn decimal(text: &str) -> Option<u16> {
    let plain = matches!(text.len(), 1..=3)
        && text.bytes().all(|b| b.is_ascii_digit())
        && (text.len() == 1 || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

/// `x001/x234/067`: groups of three digits, all but the last behind an `x`, the first not zero unless alone.
fn parse_index(text: &str) -> Option<u64> {
    let mut index: u64 = 0;
    let mut groups = text.split('/').peekable();
    let mut first = true;
    while let Some(group) = groups.next() {
        let digits = if groups.peek().is_some() { group.strip_prefix('x')? } else { group };
        if digits.len() != 3 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let number: u64 = digits.parse().ok()?;
        if first && number == 0 && groups.peek().is_some() {
            return None;
        }
        first = false;
        index = index.checked_mul(1000)?.checked_add(number)?;
    }
    (index <= u64::MAX / u64::from(WIDTH)).then_some(index)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The examples of the specification.
    #[test]
    fn paths_and_widths_of_the_specification() {
        let tile = Tile { level: 0, index: 1_234_067, width: WIDTH };
        assert_eq!(TilePath::Hashes(tile).to_string(), "0/x001/x234/067");
        assert_eq!(TilePath::parse("0/x001/x234/067"), Some(TilePath::Hashes(tile)));
        let bundle = Tile { width: 9, ..tile };
        assert_eq!(TilePath::parse("entries/x001/x234/067.p/9"), Some(TilePath::Entries(bundle)));
        // 273 full tiles and one of 112, one full and one of 17, one of 1.
        let width = |level, index| Tile::width_in(level, index, 70_000);
        assert_eq!((width(0, 272), width(0, 273), width(0, 274)), (256, 112, 0));
        assert_eq!((width(1, 0), width(1, 1), width(1, 2)), (256, 17, 0));
        assert_eq!((width(2, 0), width(2, 1), width(3, 0)), (1, 0, 0));
        assert_eq!((Tile::width_in(0, 0, 256), Tile::width_in(1, 0, 256)), (256, 1));
        assert_eq!(Tile::width_in(63, 0, u64::MAX), 0);
    }

    #[test]
    fn other_spellings_are_refused() {
        for path in [
            "",
            "0",
            "0/",
            "/000",
            "00/000",
            "64/000",
            "-1/000",
            "+1/000",
            "0/0",
            "0/00",
            "0/0000",
            "0/x000",
            "0/x000/000",
            "0/001/000",
            "0/x001",
            "0/x001/x000",
            "0/x1/000",
            "0/000.p/",
            "0/000.p/0",
            "0/000.p/00",
            "0/000.p/01",
            "0/000.p/256",
            "0/000.p/1/",
            "0/000.p/1.p/1",
            "0/000/",
            "0//000",
            "0/X001/000",
            "entries/",
            "Entries/000",
            "entries",
            "0/x999/x999/x999/x999/x999/x999/999",
            "0/x072/x057/x594/x037/x927/936",
            "0/\u{660}00",
        ] {
            assert_eq!(TilePath::parse(path), None, "{path:?}");
        }
        let last = "0/x072/x057/x594/x037/x927/935";
        assert_eq!(TilePath::parse(last).map(|p| p.to_string()).as_deref(), Some(last));
    }

    proptest! {
        #[test]
        fn every_tile_has_one_path(level in 0u8..64, index in 0..=u64::MAX / 256, width in 1u16..=256, entries: bool) {
            let level = if entries { 0 } else { level };
            let tile = Tile { level, index, width };
            let path = if entries { TilePath::Entries(tile) } else { TilePath::Hashes(tile) };
            prop_assert_eq!(TilePath::parse(&path.to_string()), Some(path));
        }

        #[test]
        fn what_parses_prints_the_same(text in "(entries|[0-9]{1,2})/(x[0-9]{3}/){0,3}[0-9]{1,4}(\\.p/[0-9]{1,3})?") {
            if let Some(path) = TilePath::parse(&text) {
                prop_assert_eq!(path.to_string(), text);
            }
        }
    }
}
