#!/usr/bin/env bash
# A RUSTC_WORKSPACE_WRAPPER for ../fuzz.sh: this workspace's own crates are compiled with coverage, build scripts not.
set -euo pipefail
[[ " $* " == *" --crate-name build_script_"* ]] && exec "$@"
# shellcheck disable=SC2086 # words on purpose
exec "$@" -Copt-level=1 $FUZZ_COVERAGE
