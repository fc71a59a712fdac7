#!/usr/bin/env bash
# Installs, uses, upgrades, removes, purges and installs again the package, in a minimal Debian made for it.
#
#   images/debian/test.sh [PACKAGE]
#
# Needs root, for chroot. The minimal Debian (mmdebstrap, from this machine's own package sources) is kept in
# target/package/debian.tar. systemd does not run in it: that is the boot test's part.
set -euo pipefail
cd "$(dirname "$0")/../.."

[ "$(id -u)" = 0 ] || { echo "needs root, for chroot" >&2; exit 1; }
package=${1:-$(images/debian/build.sh)}
out=$PWD/target/package
mkdir -p "$out"
base=$out/debian.tar
if [ ! -e "$base" ]; then
    cat /etc/apt/sources.list /etc/apt/sources.list.d/*.{list,sources} 2>/dev/null >"$out/sources" || true
    # shellcheck disable=SC1091
    mmdebstrap --quiet --format=tar --variant=minbase \
        --include=systemd,softhsm2,opensc,openssl,nftables,ca-certificates \
        "$(. /etc/os-release && echo "$VERSION_CODENAME")" "$base.new" - <"$out/sources"
    mv "$base.new" "$base"
fi

box=$(mktemp -d)
served=
finish() {
    [ -z "$served" ] || { kill "$served" && wait "$served"; } 2>/dev/null || true
    umount "$box/proc" "$box/dev" 2>/dev/null || true
    rm -rf --one-file-system "$box"
}
trap finish EXIT
tar -C "$box" -xf "$base"
mount -t proc proc "$box/proc"
mount --bind /dev "$box/dev"

inside() { chroot "$box" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root DEBIAN_FRONTEND=noninteractive "$@"; }
step() { printf '== %s\n' "$*"; }
fail() {
    echo "FAILED: $*" >&2
    exit 1
}

step "lintian"
lintian --fail-on error,warning "$package" 2>/dev/null

step "install: users, directories, units; nothing runs"
cp "$package" "$box/first.deb"
inside apt-get install -y -qq --no-install-recommends /first.deb >/dev/null
inside chancery --version
for user in chancery-issuer chancery-web; do
    inside id "$user" >/dev/null || fail "there is no user $user"
    inside id -nG "$user" | grep -qw chancery || fail "$user is not in the group chancery"
done
modes=$(inside stat -c '%n %a %U' /var/lib/chancery/issuer /var/lib/chancery/web)
[ "$modes" = "/var/lib/chancery/issuer 700 chancery-issuer
/var/lib/chancery/web 700 chancery-web" ] || fail "directories: $modes"
for unit in multi-user.target.wants/chancery{.target,-issuer.service,-web.service} sockets.target.wants/chancery-web.socket; do
    [ -L "$box/etc/systemd/system/$unit" ] || fail "$unit is not enabled"
done
inside systemd-analyze verify --man=no chancery-issuer.service chancery-web.service chancery-web.socket chancery.target \
    chancery-backup.service chancery-backup.timer
timer=$box/etc/systemd/system/timers.target.wants/chancery-backup.timer
[ ! -L "$timer" ] || fail "backups are enabled that nobody asked for"

step "before there is a configuration: a clear word"
! said=$(inside chancery config check 2>&1) || fail "no configuration, and config check is content"
grep -q 'CHY-' <<<"$said" || fail "no code: $said"

step "a lab on it: token, ceremony, two users"
inside bash -c 'eval "$(/usr/share/chancery/hsm/sandbox.sh /var/lib/chancery-token)" && chancery --version' >/dev/null
cat >"$box/etc/chancery/chancery.toml" <<'TOML'
inherit = ["/usr/share/chancery/firmware-config/board/lab.toml", "/usr/share/chancery/firmware-config/fragment/two-users.toml"]

[state]
dir = "/var/lib/chancery"
pin = { file = "/var/lib/chancery-token/pin" }

[web]
base-url = "https://localhost:18443"
listen = ["127.0.0.1:18443"]
listen-http = ["127.0.0.1:18080"]
TOML
# Nobody has its identity.
recipient=age1qykh3afkrn3k0pvaptw793dtvudpvfzf2kd5ed23q8ur99vng59sq4klhf
conf=SOFTHSM2_CONF=/var/lib/chancery-token/softhsm2.conf
inside $conf chancery config check
inside $conf chancery ceremony run /usr/share/chancery/hsm/ceremony/lab.toml --yes >/dev/null
serve() {
    # In a network of its own: the ports are this test's alone.
    unshare --net bash -c 'ip link set lo up; exec "$@"' - chroot "$box" /usr/bin/env -i \
        PATH=/usr/sbin:/usr/bin:/sbin:/bin $conf chancery serve >"$out/serve.log" 2>&1 &
    served=$!
    for _ in $(seq 300); do
        nsenter --net="/proc/$served/ns/net" curl -fs -o /dev/null http://127.0.0.1:18080/readyz && return
        kill -0 "$served" 2>/dev/null || break
        sleep 0.1
    done
    tail -n 20 "$out/serve.log" >&2
    fail "it does not serve"
}
stop() {
    kill "$served"
    wait "$served" || fail "serve ended with $?"
    served=
}
serve
inside $conf chancery backup --to /var/backups --recipient "$recipient"
stop
[ "$(stat -c %a "$box"/var/backups/chancery-*.age)" = 600 ] || fail "an archive that others may read"
inside systemctl --quiet enable chancery-backup.timer
root=$(inside $conf chancery root | sha256sum)

step "upgrade: configuration, certificates and log stay"
next=$(images/debian/build.sh --program "$box/usr/bin/chancery" --version 999.0.0)
cp "$next" "$box/next.deb"
rm "$next"
inside apt-get install -y -qq --no-install-recommends /next.deb >/dev/null
[ "$(inside dpkg-query -W -f '${Version}' chancery)" = 999.0.0 ] || fail "not upgraded"
[ -L "$timer" ] || fail "the upgrade disabled backups"
serve
stop
inside $conf chancery log verify | tail -n 1
[ "$(inside $conf chancery root | sha256sum)" = "$root" ] || fail "another root"

step "remove: the program goes, all else stays"
inside apt-get remove -y -qq chancery >/dev/null
[ ! -e "$box/usr/bin/chancery" ] || fail "the program is still there"
[ -e "$box/var/lib/chancery/ca/authority.json" ] || fail "the CA went with the program"

step "purge: what is evidence stays, and it says so"
said=$(inside dpkg --purge chancery 2>&1)
grep -q 'are kept' <<<"$said" || fail "purge says nothing: $said"
[ -e "$box/var/lib/chancery/ca/authority.json" ] && [ -e "$box/etc/chancery/chancery.toml" ] || fail "purged"
[ ! -e "$box/etc/systemd/system/multi-user.target.wants/chancery-web.service" ] || fail "still enabled"
[ ! -L "$timer" ] || fail "backups are still enabled"

step "install again: it goes on where it was"
inside apt-get install -y -qq --no-install-recommends /first.deb >/dev/null
serve
stop
inside $conf chancery log verify | tail -n 1
[ "$(inside $conf chancery root | sha256sum)" = "$root" ] || fail "another root"
step "installs, upgrades, removes and purges cleanly"
