#!/usr/bin/env bash
# The boot test of the image in target/image (make image). Needs root for its network: a namespace with a cable.
#
#   images/boot-test/run.sh [--short | --console]
#   images/boot-test/run.sh --power-cuts [--points N] [--boots N] [--seconds N] [--program FILE] [--again]
#
# What the console said stays in target/image/boot-test/console.log. BOOT_TEST_PATIENCE=SECONDS: how long a start may take;
# BOOT_TEST_DIR=DIR: elsewhere (/dev/shm/…, where the disk is slow); BOOT_TEST_ACCEL, BOOT_TEST_NICE: what they say.
set -euo pipefail
cd "$(dirname "$0")/../.."
[ "$(id -u)" = 0 ] || { echo "needs root, for a network of its own" >&2; exit 1; }
# Where the kernel makes no cable there is nothing to test with. That is a failure where CI is set, and said elsewhere.
lacks() {
    echo "NOT RUN: $*" >&2
    [ -z "${CI:-}" ] || exit 1
    exit 0
}
unshare --net --mount true 2>/dev/null || lacks "no network and mount namespaces can be made here (CAP_SYS_ADMIN)"
[ -c /dev/net/tun ] || lacks "there is no /dev/net/tun for the cable (the kernel's module tun)"
why=$(unshare --net ip tuntap add cable mode tap 2>&1) || lacks "no tap device can be made here for the cable: $why"
what=run.py
if [ "${1:-}" = --power-cuts ]; then
    what=power_cuts.py
    shift
fi
exec unshare --net --mount python3 "images/boot-test/$what" "$@"
