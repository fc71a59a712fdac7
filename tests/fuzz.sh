#!/usr/bin/env bash
# Fuzzes every parser of foreign bytes, coverage-guided, for a while each.
#
#   tests/fuzz.sh [--deep] [SECONDS per target] [TARGET...]
#
# Stable Rust and a C++ compiler, for libFuzzer itself, are all it needs. As it stands coverage is seen in this
# crate's own code and everything else is taken as `cargo test` has compiled it, which costs some two minutes of
# processor time; --deep builds the dependencies with coverage too, below target/fuzz, for seven. No sanitizer: the
# code forbids `unsafe`, and assertions and overflow checks are on.
#
# What it finds lies in tests/fuzz/artifacts/TARGET afterwards and is printed with the command that runs it again. The
# corpus it grows is kept in tests/fuzz/corpus, out of git.
set -euo pipefail
cd "$(dirname "$0")/.."

deep=
if [ "${1:-}" = --deep ]; then
    deep=1
    shift
fi
seconds=${1:-60}
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(csr jws eab config ipc_frame log_frame proof dns_answer http_answer alpn_certificate pkcs11_uri backup)

# What `cargo fuzz` passes.
coverage="--cfg fuzzing -Ccodegen-units=4 -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares"
echo "building the fuzz targets${deep:+, dependencies with coverage too}"
if [ -n "$deep" ]; then
    host=$(rustc -vV | sed -n 's/^host: //p')
    # With a target named, build scripts and procedural macros are left without coverage.
    RUSTFLAGS=$(echo $coverage) CARGO_PROFILE_DEV_OPT_LEVEL=1 CARGO_INCREMENTAL=0 \
        cargo build --quiet -p chancery-fuzz --bins --target "$host" --target-dir target/fuzz
    binaries=target/fuzz/$host/debug
else
    FUZZ_COVERAGE=$(echo $coverage) RUSTC_WORKSPACE_WRAPPER=$PWD/tests/fuzz/rustc.sh \
        cargo build --quiet -p chancery-fuzz --bins
    binaries=target/debug
fi

for target in "${targets[@]}"; do
    corpus=tests/fuzz/corpus/$target
    artifacts=tests/fuzz/artifacts/$target
    mkdir -p "$corpus" "$artifacts"
    echo "fuzzing $target for $seconds s"
    log=$artifacts/log
    if ! "$binaries/$target" "$corpus" "tests/fuzz/seeds/$target" -artifact_prefix="$artifacts/" \
        -max_total_time="$seconds" -max_len=20000 -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 \
        >"$log" 2>&1; then
        tail -n 60 "$log"
        echo "$target failed; again with: $binaries/$target $artifacts/(the file named above)"
        exit 1
    fi
    # A build without coverage would fuzz blindly and say nothing.
    grep -q "inline 8-bit counters" "$log" || {
        echo "$target was built without coverage" >&2
        exit 1
    }
    sed -n 's/^\(#[0-9]*\)\tDONE *\(cov: [0-9]*\).*/    \1 runs, \2/p' "$log"
done
