//! Entry bundles (C2SP tlog-tiles): each entry behind its length, a big-endian uint16.

use std::io;

use super::WIDTH;

/// Appends an entry to a bundle. `false`: it is longer than an entry can be, and nothing was appended.
pub fn push_entry(bundle: &mut Vec<u8>, entry: &[u8]) -> bool {
    let Ok(length) = u16::try_from(entry.len()) else { return false };
    bundle.extend_from_slice(&length.to_be_bytes());
    bundle.extend_from_slice(entry);
    true
}

/// The entry at the start of `bundle`, and what follows it; `None` if it is not there whole.
pub fn split_entry(bundle: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bundle.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

/// All entries of a bundle; `None` unless it ends where an entry ends, or if there are more than a bundle has.
pub fn entries(bundle: &[u8]) -> Option<Vec<&[u8]>> {
    let mut entries = Vec::new();
    let mut rest = bundle;
    while !rest.is_empty() {
        let (entry, after) = split_entry(rest)?;
        if entries.len() == usize::from(WIDTH) {
            return None;
        }
        entries.push(entry);
        rest = after;
    }
    Some(entries)
}

/// Reads the first `width` entries that lie from octet `start` on. `read_at` reads until its buffer is full or
/// there is no more, and says how much it read; `UnexpectedEof` if there are fewer entries.
pub fn read_bundle(
    width: u16,
    start: u64,
    mut read_at: impl FnMut(u64, &mut [u8]) -> io::Result<usize>,
) -> io::Result<Vec<u8>> {
    let mut octets: Vec<u8> = Vec::new();
    let (mut left, mut parsed) = (width, 0);
    while left > 0 {
        // The first piece holds most bundles; what is longer is read in larger ones.
        let known = octets.len();
        octets.resize(known + known.max(PIECE), 0);
        let read = read_at(start.saturating_add(known as u64), &mut octets[known..])?;
        octets.truncate(known + read);
        while left > 0
            && let Some((_, rest)) = split_entry(&octets[parsed..])
        {
            parsed = octets.len() - rest.len();
            left -= 1;
        }
        if left > 0 && read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    octets.truncate(parsed);
    Ok(octets)
}

const PIECE: usize = 128 << 10;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_pushed_is_read(
            sizes in proptest::collection::vec(0usize..3_000, 1..300),
            before in 0usize..10,
            width in 1u16..=256,
        ) {
            let mut file = vec![0xee; before];
            for (n, size) in sizes.iter().enumerate() {
                prop_assert!(push_entry(&mut file, &vec![n as u8; *size]));
            }
            let read_at = |at: u64, buffer: &mut [u8]| {
                let rest = &file[(at as usize).min(file.len())..];
                let read = rest.len().min(buffer.len());
                buffer[..read].copy_from_slice(&rest[..read]);
                Ok(read)
            };
            match read_bundle(width, before as u64, read_at) {
                Err(error) => {
                    prop_assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
                    prop_assert!(sizes.len() < usize::from(width));
                }
                Ok(bundle) => {
                    let entries = entries(&bundle).unwrap();
                    prop_assert_eq!(entries.len(), usize::from(width));
                    for (n, entry) in entries.iter().enumerate() {
                        prop_assert_eq!(entry.to_vec(), vec![n as u8; sizes[n]]);
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_no_bundle_is_refused() {
        assert_eq!(entries(&[]), Some(Vec::new()));
        assert_eq!(entries(&[0]), None);
        assert_eq!(entries(&[0, 1]), None);
        assert_eq!(entries(&[0, 1, 7]), Some(vec![&[7u8][..]]));
        assert_eq!(entries(&[0; 2 * 256]).map(|all| all.len()), Some(256));
        assert_eq!(entries(&[0; 2 * 257]), None);
        assert!(!push_entry(&mut Vec::new(), &vec![0; 65_536]));
        assert!(push_entry(&mut Vec::new(), &vec![0; 65_535]));
    }
}
