#!/usr/bin/env bash
# Line coverage of the rooms that read foreign bytes or decide: src/acme, src/pki, src/validate.
#
# Only this crate is instrumented, so the dependencies of an ordinary build are used again. Needs the LLVM tools of the
# compiler's own LLVM version (rustc -vV); Debian has them as llvm-NN.
#
# usage: tests/coverage.sh [SUITE …]     suites besides the unit tests; default: acme certificates issuer parsers validation
set -euo pipefail
cd "$(dirname "$0")/.."
version=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
for tool in llvm-profdata-"$version" llvm-cov-"$version"; do
    command -v "$tool" >/dev/null || {
        echo "CHY-COVERAGE: $tool is missing: apt-get install llvm-$version" >&2
        exit 1
    }
done
suites=("$@")
[ ${#suites[@]} -gt 0 ] || suites=(acme certificates issuer parsers validation)

out=target/coverage
rm -rf "$out" && mkdir -p "$out"
printf '#!/bin/sh\nexec "$@" -C instrument-coverage\n' >"$out/rustc" && chmod +x "$out/rustc"
export RUSTC_WORKSPACE_WRAPPER=$PWD/$out/rustc
export LLVM_PROFILE_FILE=$PWD/$out/%m-%p.profraw

arguments=(--lib)
for suite in "${suites[@]}"; do arguments+=(--test "$suite"); done
cargo test "${arguments[@]}" --no-run --message-format=json |
    sed -n 's/.*"executable":"\([^"]*\/deps\/[^"]*\)".*/\1/p' >"$out/binaries"
failed=0
while read -r binary; do
    "$binary" >"$out/$(basename "$binary").txt" 2>&1 || { failed=1; echo "$binary failed; see $out" >&2; }
done <"$out/binaries"

"llvm-profdata-$version" merge -sparse "$out"/*.profraw -o "$out/profile"
objects=()
while read -r binary; do objects+=(-object "$binary"); done <"$out/binaries"
# Files that hold nothing but tests would only praise themselves.
"llvm-cov-$version" report "${objects[@]:1}" -instr-profile "$out/profile" \
    -ignore-filename-regex 'tests\.rs$|/tests/|/contract\.rs$' src/acme src/pki src/validate |
    awk '/^-/ { next } $1 == "Filename" || NF < 10 { next }
         { printf "%-40s %6d lines %6d missed %s\n", $1, $8, $9, $10 }' | tee "$out/report"
"llvm-cov-$version" show "${objects[@]:1}" -instr-profile "$out/profile" -format=text \
    -ignore-filename-regex 'tests\.rs$|/tests/|/contract\.rs$' src/acme src/pki src/validate >"$out/lines"
echo "each line in $out/lines"
exit $failed
