#!/usr/bin/env bash
# Builds the program so that two builds of the same sources are the same bytes, wherever they are made: into
# target/package/build/release/chancery. CARGO_BUILD_TARGET_DIR elsewhere: another place; CHANCERY_PROFILE: another profile.
set -euo pipefail
cd "$(dirname "$0")/.."

SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y Cargo.lock)}
export SOURCE_DATE_EPOCH
export CARGO_TARGET_DIR=${CARGO_BUILD_TARGET_DIR:-$PWD/target/package/build}
cargo_home=${CARGO_HOME:-$HOME/.cargo}
# Paths would be in panic messages, in debug information, and in what the C library of aws-lc asserts.
rust=
c=
for pair in "$CARGO_TARGET_DIR=/target" "$PWD=/chancery" "$cargo_home=/cargo" "$(rustc --print sysroot)=/rust"; do
    rust="$rust --remap-path-prefix=$pair"
    c="$c -ffile-prefix-map=$pair"
done
export RUSTFLAGS="${RUSTFLAGS:-}$rust -Clink-arg=-Wl,--build-id=sha1"
export CFLAGS="${CFLAGS:-}$c"
export CARGO_INCREMENTAL=0
cargo build --profile "${CHANCERY_PROFILE:-release}" --locked --bin chancery
