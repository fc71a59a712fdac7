#!/usr/bin/env bash
# Builds the Debian package of this checkout into target/package/.
#
#   images/debian/build.sh [--program FILE] [--version VERSION] [--quick]
#
# --program takes a program that is built already, for whatever architecture it was built (another than this machine's
# wants Debian's cross compiler for it: images/packages.sh arm64); without, a release build is made whose bytes depend on the
# sources, the compiler and the system's C library and linker alone: no path, no time. Prints the package's path.
set -euo pipefail
cd "$(dirname "$0")/../.."

program=
compression=(-Zxz)
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
while [ $# -gt 0 ]; do
    case "$1" in
    --program) program=$2 ;;
    --version) version=$2 ;;
    # Hardly compressed: for tests.
    --quick)
        compression=(-Zgzip -z1)
        shift
        continue
        ;;
    *)
        echo "usage: $0 [--program FILE] [--version VERSION] [--quick]" >&2
        exit 2
        ;;
    esac
    shift 2
done

out=target/package
mkdir -p "$out"
# All times in the package, and the least an honest clock shows, are the commit's.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y Cargo.lock)}
export SOURCE_DATE_EPOCH
if [ -z "$program" ]; then
    images/program.sh >&2
    profile=${CHANCERY_PROFILE:-release}
    program=target/package/build/${profile/#dev/debug}/chancery
fi

tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
chmod 755 "$tree"
umask 022
root=$tree/root
share=$root/usr/share
doc=$share/doc/chancery
mkdir -p "$root"/{DEBIAN,etc/chancery,usr/bin,usr/lib/{sysusers.d,tmpfiles.d,systemd/system}} \
    "$share"/{chancery,lintian/overrides} "$doc/examples"

install -m 755 "$program" "$root/usr/bin/chancery"
own=$(dpkg --print-architecture)
case "$(LC_ALL=C readelf -h "$program" | sed -n 's/^ *Machine: *//p')" in
AArch64) architecture=arm64 ;;
*X86-64) architecture=amd64 ;;
*) architecture=$own ;;
esac
tools= libraries=()
if [ "$architecture" != "$own" ]; then
    tools=$(dpkg-architecture -a "$architecture" -q DEB_HOST_GNU_TYPE 2>/dev/null)
    libraries=("-l/usr/$tools/lib")
    tools=$tools-
fi
"${tools}strip" --strip-unneeded --remove-section=.comment "$root/usr/bin/chancery"
cp -r firmware-config hsm "$share/chancery/"
find "$share/chancery" -type f -exec chmod 644 {} + -o -type d -exec chmod 755 {} +
chmod 755 "$share/chancery/hsm/sandbox.sh" "$share/chancery/firmware-config/net/firewall.nft"
# These are where systemd looks for them; the drop-ins stay, for the operator to link what fits the token.
rm "$share"/chancery/firmware-config/unit/{*.service,*.socket,*.target,*.timer,sysusers.conf,tmpfiles.conf}
install -m 644 firmware-config/unit/*.{service,socket,target,timer} "$root/usr/lib/systemd/system/"
install -m 644 firmware-config/unit/sysusers.conf "$root/usr/lib/sysusers.d/chancery.conf"
install -m 644 firmware-config/unit/tmpfiles.conf "$root/usr/lib/tmpfiles.d/chancery.conf"
install -m 644 docs/manual.md docs/runbook.md docs/commands.md docs/errors.md docs/records.md "$doc/"
install -m 644 images/debian/example.toml "$doc/examples/chancery.toml"
install -m 644 images/debian/lintian-overrides "$share/lintian/overrides/chancery"
cat >"$doc/copyright" <<'TEXT'
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: 2026 The Chancery developers
License: Apache-2.0
 On Debian systems the text is in /usr/share/common-licenses/Apache-2.0.
TEXT
{
    printf 'chancery (%s) unstable; urgency=medium\n\n' "$version"
    printf '  * See /usr/share/doc/chancery/CHANGELOG.md.gz.\n\n'
    printf ' -- The Chancery developers <chancery@localhost>  %s\n' "$(date -u -R -d "@$SOURCE_DATE_EPOCH")"
} | gzip -9n >"$doc/changelog.gz"
gzip -9n <CHANGELOG.md >"$doc/CHANGELOG.md.gz"
find "$doc" -name '*.md' -size +4k -exec gzip -9n {} +

# dpkg-shlibdeps wants a source package around it.
mkdir "$tree/debian"
printf 'Source: chancery\n\nPackage: chancery\nArchitecture: any\n' >"$tree/debian/control"
# A cross compiler's libraries are in packages named for it, which nobody installs on the box.
depends=$(cd "$tree" && DEB_HOST_ARCH=$architecture dpkg-shlibdeps "${libraries[@]}" -O -e root/usr/bin/chancery \
    2>/dev/null | sed "s/^shlibs:Depends=//; s/-$architecture-cross//g; s/:$architecture//g")
sed -e "s/@VERSION@/$version/; s/@ARCHITECTURE@/$architecture/; s/@DEPENDS@/$depends/" \
    -e "s/@SIZE@/$(du -sk --apparent-size --exclude=DEBIAN "$root" | cut -f1)/" \
    images/debian/control.in >"$root/DEBIAN/control"
install -m 755 images/debian/{postinst,prerm,postrm} "$root/DEBIAN/"
(cd "$root" && find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"
find "$root" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +

package=$out/chancery_${version}_$architecture.deb
dpkg-deb --root-owner-group --build "${compression[@]}" "$root" "$package" >&2
echo "$package"
