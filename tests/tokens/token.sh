#!/usr/bin/env bash
# A token for a test, in a directory of its own:
#
#   tests/tokens/token.sh NAME DIR COMMAND...   brings NAME up below DIR and runs COMMAND beside it
#   tests/tokens/token.sh NAME lose             (from COMMAND) takes the token away, however that is done with it
#   tests/tokens/token.sh NAME back             (from COMMAND) puts it back
#
# NAME is a file NAME.token beside this one. COMMAND finds DIR in CHANCERY_TOKEN_DIR and there `module` (a path),
# `label`, `pin` and `settings.toml`, a [token] table.
#
# Everything runs in process, mount and IPC namespaces of its own: when COMMAND ends, or this script is killed, the
# kernel ends every daemon that the token needed, and fixed paths (/etc/opencryptoki) are nobody else's.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../.." && pwd)
PATH=$PATH:/usr/sbin:/sbin
name=$1
verb=$2
[ -f "$here/$name.token" ] || { echo "there is no $here/$name.token" >&2; exit 2; }

if [ "$verb" != lose ] && [ "$verb" != back ] && [ -z "${CHANCERY_TOKEN_INSIDE:-}" ]; then
    mkdir -p "$verb"
    export CHANCERY_TOKEN_INSIDE=1
    user=()
    [ "$(id -u)" -eq 0 ] || user=(--user --map-root-user)
    exec unshare "${user[@]}" --mount --ipc --pid --fork --kill-child --mount-proc "$0" "$@"
fi

if [ "$verb" = lose ] || [ "$verb" = back ]; then
    dir=$CHANCERY_TOKEN_DIR
else
    dir=$(realpath "$verb")
    export CHANCERY_TOKEN_DIR=$dir
fi
label=chancery
pin=12345678

# daemon NAME COMMAND...: in the background, its number in DIR/NAME.pid, its words in DIR/NAME.log.
daemon() {
    local called=$1
    shift
    # A process group of its own, so that `gone` reaches what it forks.
    set -m
    "$@" >>"$dir/$called.log" 2>&1 </dev/null &
    set +m
    echo $! >"$dir/$called.pid"
}

# gone NAME: ends the daemon and what it forked, and waits until it has ended.
gone() {
    local pid
    pid=$(cat "$dir/$1.pid")
    kill -KILL -- "-$pid" 2>/dev/null || true
    until_true 'no process is left of '"$1" eval "! kill -0 -- -$pid 2>/dev/null"
}

# until_true WHAT COMMAND...: waits up to 10 s for COMMAND to succeed.
until_true() {
    local what=$1
    shift
    for _ in $(seq 200); do
        "$@" && return
        sleep 0.05
    done
    echo "$name: waited 10 s in vain until $what" >&2
    tail -n 5 "$dir"/*.log >&2 2>/dev/null || true
    exit 1
}

# settings LABEL PATH...: what COMMAND finds in DIR; the module is the first of these that is here.
settings() {
    local module
    printf %s "$1" >"$dir/label"
    shift
    module=$(first "$@")
    printf %s "$module" >"$dir/module"
    (umask 077 && printf %s "$pin" >"$dir/pin")
    # The shipped settings of this model, with the module's path on this machine.
    sed "s|^module = .*|module = \"$module\"|" "$repository/hsm/token/$name.toml" >"$dir/settings.toml"
}

# The first of several paths that is there.
first() {
    local path
    for path in "$@"; do
        [ -e "$path" ] && { echo "$path"; return; }
    done
    echo "$name: none of these is on this machine: $*" >&2
    exit 3
}

# shellcheck source=/dev/null
. "$here/$name.token"

case "$verb" in
lose) lose ;;
back) back ;;
*)
    up
    shift 2
    # Not exec: this shell is the namespace's first process and reaps what daemons leave.
    "$@"
    ;;
esac
