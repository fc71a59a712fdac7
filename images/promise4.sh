#!/usr/bin/env bash
# Promise 4 on a running box with systemd: what a taken-over web process, and a taken-over issuer, would try. Every
# attempt must be refused, by each of the walls there are:
#
#   - inside an exact copy of each unit's sandbox, under its user (the copy runs `chancery web --try-escape`, which
#     confines itself as the web process does, and `chancery issuer --try-escape`);
#   - as the web process's user with no sandbox at all, where file permissions alone refuse.
#
# Then what systemd itself finds exposed, which must be below 1.5 for both units.
#
#   images/promise4.sh            as root, on the box, while it serves. Exits 0 if all was refused; last line: PROMISE 4 HOLDS
#
# Changes nothing that lasts: two units below /run, gone at the end.
set -euo pipefail

fail() {
    echo "PROMISE 4 IS BROKEN: $*" >&2
    exit 1
}
cannot() {
    echo "cannot be tried: $*" >&2
    exit 2
}
[ "$(id -u)" = 0 ] || cannot "needs root"
[ -d /run/systemd/system ] || cannot "systemd does not run here"

state=${CHANCERY_STATE:-/var/lib/chancery}
issuer=$(systemctl show -p MainPID --value chancery-issuer.service)
web=$(systemctl show -p MainPID --value chancery-web.service)
for unit in issuer:$issuer web:$web; do
    [ "${unit#*:}" -gt 0 ] || cannot "chancery-${unit%:*}.service does not run"
done

word() { sed -n "s/^$2:[[:space:]]*//p" "/proc/$1/status" | head -n 1; }

echo "== who they are"
for unit in issuer:$issuer web:$web; do
    name=chancery-${unit%:*} pid=${unit#*:}
    uid=$(id -u "$name")
    [ "$(word "$pid" Uid)" = "$uid	$uid	$uid	$uid" ] || fail "$name runs as $(word "$pid" Uid)"
    for set in CapInh CapPrm CapEff CapBnd CapAmb; do
        [ "$(word "$pid" $set)" = 0000000000000000 ] || fail "$name has $set $(word "$pid" $set)"
    done
    [ "$(word "$pid" NoNewPrivs)" = 1 ] || fail "$name may gain privileges"
    [ "$(word "$pid" Seccomp)" = 2 ] || fail "$name has no filter on system calls"
    echo "$name: user $uid, no capability, no new privileges, filtered system calls"
done
[ "$(word "$issuer" Uid)" != "$(word "$web" Uid)" ] || fail "both run as one user"

# What a thief would want, of what there is on this box.
treasures=()
for file in "$state"/issuer/log/*.seg "$state"/issuer/log/index.redb "$state"/issuer/admin/key \
    /run/credentials/chancery-issuer.service/pin /etc/chancery/pin /etc/chancery/pin.cred \
    /var/lib/chancery-token/softhsm2.conf /var/lib/chancery-token/tokens/*/*.object \
    /var/lib/chancery-token/*.sqlite3 /dev/tpmrm0 /dev/mem \
    "/proc/$issuer/environ" "/proc/$issuer/mem" "/proc/$issuer/maps"; do
    [ ! -e "$file" ] || treasures+=("$file")
done
[ -e "$state/issuer/admin/key" ] || cannot "$state is not the state directory: set CHANCERY_STATE"

# Runs a copy of a unit's service with another command: the same user, sandbox, credentials and drop-ins.
in_the_sandbox_of() { # UNIT COMMAND
    local copy=chancery-promise4-${1#chancery-} said=/run/chancery-promise4.said
    systemctl cat "$1.service" | sed -E \
        -e '/^\[Install\]/,/^\[/{/^\[Install\]/d;/^(WantedBy|Also|Alias)=/d}' \
        -e '/^(Type|WatchdogSec|Restart|RestartSec|Requires|After|Wants|ExecStartPre|ExecStart|OnFailure)=/d' \
        >"/run/systemd/system/$copy.service"
    printf '[Service]\nType=oneshot\nStandardOutput=truncate:%s\nExecStart=%s\n' "$said" "$2" \
        >>"/run/systemd/system/$copy.service"
    systemctl daemon-reload
    local ended=0
    systemctl start "$copy.service" || ended=$?
    cat "$said"
    rm -f "/run/systemd/system/$copy.service" "$said"
    systemctl reset-failed "$copy.service" 2>/dev/null || true
    systemctl daemon-reload
    [ "$ended" = 0 ] || fail "not every attempt from inside $1 was refused"
}

echo "== from inside the web process's sandbox"
targets=$(printf ' --target %s' "${treasures[@]}")
said=$(in_the_sandbox_of chancery-web "/usr/bin/chancery web --try-escape$targets") || exit 1
echo "$said"
# Each is read and written, and there are a dozen other attempts.
[ "$(wc -l <<<"$said")" -gt $((2 * ${#treasures[@]} + 8)) ] || fail "fewer attempts than treasures: was it tried at all?"
! grep -q 'LET THROUGH' <<<"$said" || fail "let through"

echo "== from inside the issuer's sandbox"
others=$(for file in /etc/shadow "$state"/web/store.redb "/proc/$web/mem" /dev/mem; do
    [ ! -e "$file" ] || printf ' --target %s' "$file"
done)
said=$(in_the_sandbox_of chancery-issuer "/usr/bin/chancery issuer --try-escape$others") || exit 1
echo "$said"
[ "$(wc -l <<<"$said")" -gt 8 ] || fail "fewer attempts than there are: was it tried at all?"
! grep -q 'LET THROUGH' <<<"$said" || fail "let through"

echo "== as the web process's user, with no sandbox: permissions alone"
as_web() { setpriv --reuid=chancery-web --regid=chancery --init-groups --no-new-privs -- "$@"; }
as_web head -c 1 "$state/public/root.pem" >/dev/null || fail "the control: what is public cannot be read"
for file in "${treasures[@]}"; do
    ! as_web head -c 1 "$file" >/dev/null 2>&1 || fail "readable: $file"
    echo "read $file: refused"
done
for directory in "$state" "$state"/ca "$state"/issuer "$state"/public "$state"/run /etc/chancery; do
    ! as_web touch "$directory/.attempt" 2>/dev/null || fail "writable: $directory"
    echo "write into $directory: refused"
done
! as_web bash -c "kill -0 $issuer" 2>/dev/null || fail "the issuer can be signalled"

echo "== the issuer has a network of its own, with nothing in it"
if [ "$(readlink "/proc/$issuer/ns/net")" = "$(readlink /proc/1/ns/net)" ]; then
    systemctl show -p PrivateNetwork --value chancery-issuer.service | grep -qx no || fail "it is in the box's network"
    echo "switched off by a drop-in, for an HSM in the network"
else
    others=$(nsenter --net --target "$issuer" sed -n 's/^ *\([^:]*\):.*/\1/p' /proc/self/net/dev 2>/dev/null | grep -vx lo || true)
    [ -z "$others" ] || fail "the issuer has the interfaces $others"
    echo "only lo"
fi

echo "== what systemd finds exposed"
for unit in chancery-issuer chancery-web; do
    systemd-analyze security --threshold=14 --no-pager "$unit.service" | tail -n 1
done
echo "PROMISE 4 HOLDS"
