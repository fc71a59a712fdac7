#!/usr/bin/env bash
# Another release of this program, from this repository's history, for tests/formats.rs.
#
#   tests/former.sh COMMIT      prints the directory with its sources, its program in target/debug below
#
# Builds anew what is in target/former already, if that is of another commit.
set -euo pipefail
cd "$(dirname "$0")/.."
commit=$(git rev-parse --verify "${1:?usage: tests/former.sh COMMIT}^{commit}")
dir=$PWD/target/former
if [ "$(cat "$dir/commit" 2>/dev/null)" != "$commit" ]; then
    mkdir -p "$dir"
    find "$dir" -mindepth 1 -maxdepth 1 ! -name target -exec rm -rf {} +
    git archive "$commit" | tar -x -C "$dir"
    echo "$commit" >"$dir/commit"
fi
(cd "$dir" && CARGO_TARGET_DIR=$dir/target cargo build --quiet --bin chancery) >&2
echo "$dir"
