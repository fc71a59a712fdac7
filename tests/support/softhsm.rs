//! Where SoftHSM2 is on this machine.

use std::path::PathBuf;

/// The module's path; panics where it is not installed.
pub fn softhsm() -> PathBuf {
    ["/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so"]
        .map(PathBuf::from)
        .into_iter()
        .find(|path| path.is_file())
        .expect("SoftHSM2 is installed (apt install softhsm2)")
}
