#!/usr/bin/env bash
# A throw-away SoftHSM2 token with a configuration of its own, for labs and tests. Never for a real CA: its keys
# are files.
#
#   hsm/sandbox.sh DIR [LABEL]...        (default label: chancery)
#
# Makes DIR/softhsm2.conf, DIR/tokens/, DIR/pin and DIR/so-pin (random, mode 0600), and one token per LABEL, all
# with the same PIN. What is there already is left as it is. Prints what to export:
#
#   eval "$(hsm/sandbox.sh DIR)"
set -euo pipefail

if [ $# -lt 1 ]; then
    echo "usage: hsm/sandbox.sh DIR [LABEL]..." >&2
    exit 2
fi
if ! command -v softhsm2-util >/dev/null; then
    echo "hsm/sandbox.sh: softhsm2-util is missing; install it (Debian: apt install softhsm2)" >&2
    exit 1
fi
umask 077
# Another user may get through to what a ceremony gives it, and see no more on the way.
[ -d "$1" ] || mkdir -p -m 0711 "$1"
mkdir -p "$1/tokens"
dir=$(cd "$1" && pwd)
shift
[ $# -gt 0 ] || set -- chancery

random_pin() { od -An -N16 -tx1 /dev/urandom | tr -d ' \n'; }

for name in pin so-pin; do
    [ -s "$dir/$name" ] || random_pin >"$dir/$name"
done
[ -s "$dir/softhsm2.conf" ] || cat >"$dir/softhsm2.conf" <<CONF
directories.tokendir = $dir/tokens
objectstore.backend = file
log.level = ERROR
slots.removable = false
CONF
export SOFTHSM2_CONF=$dir/softhsm2.conf

for label in "$@"; do
    if softhsm2-util --show-slots | grep -Eq "^ *Label: +$label *\$"; then
        continue
    fi
    # The PINs appear for a moment in the process list: good enough for a token whose keys are files.
    softhsm2-util --init-token --free --label "$label" \
        --pin "$(cat "$dir/pin")" --so-pin "$(cat "$dir/so-pin")" >/dev/null
done
printf 'export SOFTHSM2_CONF=%q\nexport CHANCERY_PIN_FILE=%q\n' "$SOFTHSM2_CONF" "$dir/pin"
