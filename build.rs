//! Notes when this program was built: the least an honest clock can show. SOURCE_DATE_EPOCH, where it
//! is set, makes the build reproducible.

use std::time::{SystemTime, UNIX_EPOCH};

#[expect(clippy::disallowed_methods, reason = "there is no env::system at build time")]
fn main() {
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    println!("cargo::rerun-if-changed=build.rs");
    let seconds = std::env::var("SOURCE_DATE_EPOCH")
        .ok()
        .and_then(|text| text.parse::<u64>().ok())
        .unwrap_or_else(|| {
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
        });
    println!("cargo::rustc-env=CHANCERY_BUILD_SECONDS={seconds}");
}
