#!/usr/bin/env bash
# Fuzzes every parser of foreign bytes, coverage-guided, for a while each.
#
#   tests/fuzz.sh [SECONDS per target] [TARGET...]
#
# What it finds lies in fuzz/artifacts/TARGET afterwards; run it again with
# `cargo +nightly fuzz run TARGET FILE`. The corpus it grows is kept in fuzz/corpus, out of git.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-60}
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(csr jws config ipc_frame log_frame)

if ! cargo +nightly --version >/dev/null 2>&1; then
    echo "fuzzing needs a nightly toolchain beside the stable one: rustup toolchain install nightly" >&2
    exit 1
fi
if ! cargo fuzz --version >/dev/null 2>&1; then
    echo "installing cargo-fuzz"
    cargo install --quiet --locked cargo-fuzz
fi

cargo +nightly fuzz build
for target in "${targets[@]}"; do
    echo "fuzzing $target for $seconds s"
    mkdir -p "fuzz/corpus/$target"
    cargo +nightly fuzz run "$target" "fuzz/corpus/$target" "fuzz/seeds/$target" -- \
        -max_total_time="$seconds" -max_len=20000 -timeout=10 -rss_limit_mb=1024 -verbosity=0 \
        -print_final_stats=1
done
