#!/usr/bin/env bash
# Compiles the faulty module and prints where it is. What was compiled from the same sources is used again.
set -euo pipefail
cd "$(dirname "$0")"
target=${CARGO_TARGET_DIR:-../../target}
mkdir -p "$target/faulty-module"
target=$(cd "$target/faulty-module" && pwd)
made=$target/$(cat build.sh ./*.c ./*.h | sha256sum | cut -c1-16).so
if [ ! -e "$made" ]; then
    # Tests run side by side: each compiles for itself, and the last name given holds.
    ${CC:-cc} -std=gnu11 -shared -fPIC -O1 -g -Wall -Wextra -Werror -fvisibility=hidden \
        -o "$made.$$" faulty.c rules.c -ldl -lpthread
    mv "$made.$$" "$made"
fi
echo "$made"
