#!/usr/bin/env bash
# Builds the disk image of the appliance, without a container engine and without mounting anything.
#
#   images/disk/build.sh [--program FILE] [--version VERSION] [--key FILE] [--secure-boot KEY CERTIFICATE]
#
#   --program       a program that is built already; without, a release build is made
#   --version       of the image; without, the program's own
#   --key           Ed25519 private key, PEM, that signs updates: its public half is in the image, and a box takes no
#                   update that another key signed. Without, a throw-away key in target/image/update-key.pem
#   --secure-boot   the key that signs what the firmware loads (sbsign); without, nothing is signed, and the firmware
#                   must not ask
#
# In target/image/, for VERSION: chancery-VERSION.img, the disk (sparse); chancery-VERSION.update, the same system for
# a box that has another; chancery-VERSION.spdx.json, what is in it; root.squashfs. Debian's packages come from
# MIRROR (http://deb.debian.org/debian) and MIRROR_SECURITY; two builds have the same bytes if these serve the same, as
# http://snapshot.debian.org/archive/debian/DATE does for ever. Needs root or a user namespace.
set -euo pipefail
cd "$(dirname "$0")/../.."

program=
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
key=
secure_boot=()
while [ $# -gt 0 ]; do
    case "$1" in
    --program) program=$2; shift 2 ;;
    --version) version=$2; shift 2 ;;
    --key) key=$2; shift 2 ;;
    --secure-boot) secure_boot=(--secure-boot "$2" "$3"); shift 3 ;;
    *)
        sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
        exit 2
        ;;
    esac
done
here=images/disk
out=${IMAGE_DIR:-target/image}
mkdir -p "$out"
out=$(realpath "$out")
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y Cargo.lock)}
export SOURCE_DATE_EPOCH
export PATH=$PATH:/usr/sbin:/sbin
say() { printf '== %s (%ss)\n' "$*" "$SECONDS" >&2; }

if [ -z "$key" ]; then
    key=$out/update-key.pem
    [ -s "$key" ] || (umask 077 && openssl genpkey -algorithm ed25519 -out "$key")
    echo "updates are signed by a throw-away key, $key: not for a box that matters" >&2
fi

say "the program and its package"
package=$(images/debian/build.sh ${program:+--program "$program"} | tail -n 1)

mirror=${MIRROR:-http://deb.debian.org/debian}
security=${MIRROR_SECURITY:-http://deb.debian.org/debian-security}
suite=bookworm
wanted=$(sed 's/#.*//' $here/packages | xargs | tr ' ' ,)
# What Debian gives is kept as long as it is asked for the same, over many commits: its times are none of theirs, but
# at most the suite's release.
released=1686355200
base=$out/debian-$(sha256sum <<<"$mirror $security $suite $wanted $released" | cut -c 1-16).tar
if [ ! -s "$base" ]; then
    say "Debian: $suite from $mirror"
    # No initramfs is made of its kernel: ours has an init of its own.
    INITRD=No SOURCE_DATE_EPOCH=$released nice -n 10 mmdebstrap --quiet --variant=essential --format=tar --include="$wanted" \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
        "$suite" "$base.new" "deb $mirror $suite main" "deb $mirror $suite-updates main" \
        "deb $security $suite-security main"
    mv "$base.new" "$base"
fi

say "the root file system"
work=$(mktemp -d "$out/work.XXXXXX")
trap 'rm -rf "$work" 2>/dev/null || in_namespace rm -rf "$work"' EXIT
in_namespace() {
    if [ "$(id -u)" = 0 ]; then "$@"; else mmdebstrap --unshare-helper "$@"; fi
}
openssl pkey -in "$key" -pubout -out "$work/update-key.pem" 2>/dev/null
in_namespace $here/root.sh "$work" "$base" "$package" "$work/update-key.pem"
images/sbom.py --version "$version" --dpkg "$work/status" --lock Cargo.lock --epoch "$SOURCE_DATE_EPOCH" \
    >"$out/chancery-$version.spdx.json"
mv "$work/root.squashfs" "$out/root.squashfs"
rm -rf "$out/boot"
mv "$work/boot" "$out/boot"

say "slot, boot entry and update"
$here/bundle.sh --version "$version" --key "$key" "${secure_boot[@]}"

say "the disk"
$here/disk.sh "$version"
say "done: $(du -h --apparent-size "$out/chancery-$version.img" | cut -f1) disk, $(du -h "$out/chancery-$version.img" | cut -f1) of it used"
sha256sum "$out/chancery-$version.img" "$out/chancery-$version.update"
