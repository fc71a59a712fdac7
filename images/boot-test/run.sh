#!/usr/bin/env bash
# The boot test of the image in target/image (make image). Needs root for its network: a namespace with a cable.
#
#   images/boot-test/run.sh [--short]
#   images/boot-test/run.sh --power-cuts [--points N] [--boots N] [--seconds N] [--program FILE]
#
# What the console said stays in target/image/boot-test/console.log. BOOT_TEST_PATIENCE=SECONDS: how long a start may take;
# BOOT_TEST_DIR=DIR: elsewhere (/dev/shm/…, where the disk is slow); BOOT_TEST_ACCEL, BOOT_TEST_NICE: what they say.
set -euo pipefail
cd "$(dirname "$0")/../.."
[ "$(id -u)" = 0 ] || { echo "needs root, for a network of its own" >&2; exit 1; }
# Where the kernel makes no cables there is nothing to put one into.
unshare --net ip tuntap add cable mode tap 2>/dev/null || { echo "NOT RUN: no tap devices here (/dev/net/tun)" >&2; exit 0; }
what=run.py
if [ "${1:-}" = --power-cuts ]; then
    what=power_cuts.py
    shift
fi
exec unshare --net --mount python3 "images/boot-test/$what" "$@"
