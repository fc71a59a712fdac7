// Included, not declared as a module: a test program may have it by way of several of its modules. Wants PathBuf.

/// SoftHSM2's module; panics where it is not installed.
#[allow(dead_code, unreachable_pub, reason = "shared by several test programs")]
pub fn softhsm() -> PathBuf {
    ["/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so"]
        .map(PathBuf::from)
        .into_iter()
        .find(|path| path.is_file())
        .expect("SoftHSM2 is installed (apt install softhsm2)")
}
