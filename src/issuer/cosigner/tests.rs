//! The state of a witness, on a disk that stops at every effect.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use std::path::Path;

use super::state::{self, Latest};
use crate::env::Disk;
use crate::env::simulated::{CrashMode, Fault, SimulatedDisk};
use crate::id::Timestamp;
use crate::tlog::checkpoint::Checkpoint;
use crate::tlog::note::{Note, VerifierKey};
use crate::tlog::tree::TreeHead;

const DIR: &str = "/issuer/witness";

fn note(size: u64) -> Note {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[1; 32]).unwrap();
    let mut spki = vec![0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    spki.extend_from_slice(pair.public_key().as_ref());
    let key = VerifierKey::from_spki("ca.lan/log", &spki).unwrap();
    let head = TreeHead { size, root: [size as u8; 32] };
    let checkpoint = Checkpoint::new("ca.lan/log", head);
    let message = key.message(checkpoint.text().as_bytes(), &head, Timestamp(0));
    let octets = key.signature_octets(pair.sign(&message).as_ref(), Timestamp(0));
    checkpoint.signed(&key, octets)
}

fn size(latest: &Latest) -> Option<u64> {
    match latest {
        Latest::Known { head, .. } => Some(head.size),
        Latest::Never => Some(0),
        Latest::Unread | Latest::Unknown(_) => None,
    }
}

/// What was answered was durable before: whatever a crash leaves, the state is at least what the last signature
/// covered, and never one that was not written.
#[test]
fn a_crash_at_any_effect_never_takes_a_cosigned_size_back() {
    let path = Path::new(DIR).join("log");
    let modes = [CrashMode::Lost, CrashMode::Kept, CrashMode::Torn, CrashMode::Reordered];
    let mut stops = 0;
    for stop in 0.. {
        let disk = SimulatedDisk::new();
        disk.create_dir(Path::new("/issuer")).unwrap();
        disk.strike(disk.effects() + stop, Fault::Stop);
        // The greatest size that a signature may have been made for, and the greatest that was begun.
        let (mut signed, mut begun) = (0, 0);
        let mut run = || -> std::io::Result<()> {
            state::prepare(&disk, Path::new(DIR))?;
            for size in [3, 9, 27] {
                begun = size;
                state::write(&disk, &path, &note(size))?;
                signed = size;
            }
            Ok(())
        };
        let whole = run().is_ok();
        for (seed, mode) in modes.into_iter().enumerate() {
            let after = disk.crash(mode, stop * 4 + seed as u64);
            let found = Latest::read(&after, &path);
            let found =
                size(&found).unwrap_or_else(|| panic!("stop {stop}, {mode:?}: not readable"));
            assert!((signed..=begun).contains(&found), "stop {stop}, {mode:?}: {found}");
            stops += 1;
        }
        if whole {
            break;
        }
    }
    assert!(stops > 40, "only {stops} stops");
}

/// A sync that fails is an error, whatever reached the disk: nothing is signed after it.
#[test]
fn a_sync_that_fails_is_not_taken_for_durable() {
    let path = Path::new(DIR).join("log");
    let mut failed = 0;
    for effect in 0..12 {
        let disk = SimulatedDisk::new();
        disk.create_dir(Path::new("/issuer")).unwrap();
        state::prepare(&disk, Path::new(DIR)).unwrap();
        disk.strike(disk.effects() + effect, Fault::SyncFailsLost);
        if state::write(&disk, &path, &note(3)).is_err() {
            failed += 1;
        } else {
            let after = disk.crash(CrashMode::Lost, effect);
            assert_eq!(size(&Latest::read(&after, &path)), Some(3));
        }
    }
    assert!(failed >= 2, "file and directory are synced");
}

/// A file that rotted is no state of zero.
#[test]
fn a_flipped_bit_is_noticed_wherever_it_is() {
    let disk = SimulatedDisk::new();
    let path = Path::new(DIR).join("log");
    disk.create_dir(Path::new(DIR)).unwrap();
    state::write(&disk, &path, &note(9)).unwrap();
    let good = disk.read(&path, 4096).unwrap();
    assert_eq!(size(&Latest::read(&disk, &path)), Some(9));
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        disk.replace(&path, &bad, true).unwrap();
        assert!(matches!(Latest::read(&disk, &path), Latest::Unknown(_)), "bit {bit}");
    }
    for cut in 0..good.len() {
        disk.replace(&path, &good[..cut], true).unwrap();
        assert!(matches!(Latest::read(&disk, &path), Latest::Unknown(_)), "cut {cut}");
    }
}
