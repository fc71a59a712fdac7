#!/usr/bin/env bash
# Fuzzes every parser of foreign bytes, coverage-guided, for a while each.
#
#   tests/fuzz.sh [SECONDS per target] [TARGET...]
#
# Needs a nightly toolchain; without one it says so and leaves it at what `cargo test --test parsers` does, unless
# CI is set: then that is a failure. What it finds lies in tests/fuzz/artifacts/TARGET afterwards; run it again with
# `cargo +nightly fuzz run --fuzz-dir tests/fuzz TARGET FILE`. The corpus it grows is kept in tests/fuzz/corpus, out
# of git.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-60}
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(csr jws config ipc_frame log_frame)

if ! cargo +nightly --version >/dev/null 2>&1; then
    echo "not fuzzed: there is no nightly toolchain beside the stable one (rustup toolchain install nightly)" >&2
    [ -z "${CI:-}" ] || exit 1
    exec cargo test --test parsers
fi
if ! cargo fuzz --version >/dev/null 2>&1; then
    echo "installing cargo-fuzz"
    cargo install --quiet --locked cargo-fuzz
fi

cargo +nightly fuzz build --fuzz-dir tests/fuzz
for target in "${targets[@]}"; do
    echo "fuzzing $target for $seconds s"
    mkdir -p "tests/fuzz/corpus/$target"
    cargo +nightly fuzz run --fuzz-dir tests/fuzz "$target" "tests/fuzz/corpus/$target" "tests/fuzz/seeds/$target" -- \
        -max_total_time="$seconds" -max_len=20000 -timeout=10 -rss_limit_mb=1024 -verbosity=0 \
        -print_final_stats=1
done
