//! What an outsider sends, asks for or is given of the published log: proofs, paths of tiles, bundles of entries,
//! witnesses' requests.

use chancery::audit::proof::{Trust, check};
use chancery::tlog::note::Note;
use chancery::tlog::proof::{Proof, verify_consistency, verify_inclusion};
use chancery::tlog::tile::{TilePath, entries, push_entry, read_bundle};
use chancery::tlog::tree::TreeHead;
use chancery::tlog::witness::AddCheckpoint;

/// True if it was any of them.
pub(crate) fn judge(data: &[u8]) -> bool {
    let mut any = false;
    if let Ok(proof) = Proof::parse(data) {
        // There is one way to write each.
        assert_eq!(proof.to_string().as_bytes(), data);
        // Nobody's key has signed it, and no path leads to a root made up here.
        assert!(check(&proof, &Trust::default()).is_err());
        let head = TreeHead { size: proof.index.saturating_add(1), root: [7; 32] };
        assert!(!verify_inclusion(&[1; 32], proof.index, &head, &proof.path));
        let older = TreeHead { size: proof.index, root: [8; 32] };
        assert!(!verify_consistency(&older, &head, &proof.path));
        any = true;
    }
    if let Ok(text) = std::str::from_utf8(data)
        && let Some(path) = TilePath::parse(text)
    {
        assert_eq!(path.to_string(), text);
        assert!((1..=256).contains(&path.tile().width));
        // What is asked for of the greatest tree overflows nothing.
        let _ = (path.tile().octets(), path.tile().first());
        any = true;
    }
    if let Some(all) = entries(data) {
        let mut again = Vec::new();
        assert!(all.iter().all(|entry| push_entry(&mut again, entry)));
        assert_eq!(again, data);
        let width = u16::try_from(all.len()).unwrap();
        let read = read_bundle(width, 0, |at, buffer| {
            let rest = data.get(usize::try_from(at).unwrap()..).unwrap_or_default();
            let length = rest.len().min(buffer.len());
            buffer[..length].copy_from_slice(&rest[..length]);
            Ok(length)
        });
        assert_eq!(read.unwrap(), data);
        any |= !data.is_empty();
    }
    if let Ok(request) = AddCheckpoint::parse(data) {
        assert!(Note::parse(request.note.to_string().as_bytes()).is_ok());
        any = true;
    }
    any
}
