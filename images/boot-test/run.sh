#!/usr/bin/env bash
# The boot test of the image in target/image (make image). Needs root for its network: a namespace with a cable.
#
#   images/boot-test/run.sh [--short]
#
# What the console said stays in target/image/boot-test/console.log. BOOT_TEST_PATIENCE=SECONDS: how long a start may take.
set -euo pipefail
cd "$(dirname "$0")/../.."
[ "$(id -u)" = 0 ] || { echo "needs root, for a network of its own" >&2; exit 1; }
exec unshare --net --mount python3 images/boot-test/run.py "$@"
