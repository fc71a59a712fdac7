//! What a restore reads before it believes anything: manifests, archives behind their encryption, copies of the store,
//! and the epoch that a token gives. The first octet says which.

use chancery::backup::age::{Identity, Opener};
use chancery::backup::manifest::Manifest;
use chancery::backup::open::{Nothing, unpack};
use chancery::hsm::epoch;
use chancery::store::embedded::copy;

/// Whether it was let in.
pub(crate) fn judge(bytes: &[u8]) -> bool {
    let Some((which, bytes)) = bytes.split_first() else { return false };
    match which {
        b'm' => Manifest::parse(bytes).is_ok(),
        b't' => unpack("fuzz", bytes, &mut Nothing).is_ok_and(|opened| {
            // What was let in names nothing outside of where it is put.
            let mut names = opened.manifest.entries().map(|(name, ..)| name);
            assert!(names.all(|name| !name.starts_with('/') && !name.contains("..")));
            true
        }),
        b's' => copy::judge(bytes),
        b'e' => epoch::decode(&[7; 32], bytes)
            .is_some_and(|found| epoch::encode(&[7; 32], found) == bytes),
        _ => {
            let identity: Identity = IDENTITY.parse().expect("a good identity");
            Opener::new(bytes, &[identity]).is_ok()
        }
    }
}

const IDENTITY: &str = "AGE-SECRET-KEY-1F487Q8LUZZ58J9X4YAKSVU4GT7XSN4A36SM4NYG2VGLQFAESJ2NQUV3P8Y";
