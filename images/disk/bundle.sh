#!/usr/bin/env bash
# From target/image/root.squashfs and boot/ (build.sh): what a slot holds, the boot entry that names its root hash, and
# the signed update that has both.
#
#   images/disk/bundle.sh --version VERSION --key FILE [--secure-boot KEY CERTIFICATE]
#       [--cmdline WORDS] [--initrd-extra FILE] [--tries N]
#
# --cmdline and --initrd-extra are for tests: further words on the kernel's command line, a second initramfs.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=$(realpath "${IMAGE_DIR:-target/image}")
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y Cargo.lock)}
export SOURCE_DATE_EPOCH PATH=$PATH:/usr/sbin:/sbin
. firmware-config/update/slots.conf
version= key= secure_key= secure_certificate= words= extra=
while [ $# -gt 0 ]; do
    case "$1" in
    --version) version=$2; shift 2 ;;
    --key) key=$2; shift 2 ;;
    --secure-boot) secure_key=$2 secure_certificate=$3; shift 3 ;;
    --cmdline) words=$2; shift 2 ;;
    --initrd-extra) extra=$2; shift 2 ;;
    --tries) tries=$2; shift 2 ;;
    *) echo "$0: $1?" >&2; exit 2 ;;
    esac
done
[[ $version =~ ^[0-9A-Za-z.~]+$ ]] || { echo "$0: no version: '$version'" >&2; exit 2; }
boot=$out/boot
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The slot: the file system, and its hash tree behind it. Salt and UUID follow from the version, nothing is by chance.
salt=$(sha256sum <<<"chancery $version" | cut -c 1-64)
uuid=$(sed 's/^\(.\{8\}\)\(.\{4\}\).\(.\{3\}\).\(.\{3\}\)\(.\{12\}\).*/\1-\2-4\3-8\4-\5/' <<<"$salt")
cp --sparse=never "$out/root.squashfs" "$work/root"
size=$(stat -c %s "$work/root")
offset=$(((size + 4095) / 4096 * 4096))
truncate -s "$offset" "$work/root"
roothash=$(veritysetup format "$work/root" "$work/root" --hash-offset="$offset" --data-blocks=$((offset / 4096)) \
    --salt="$salt" --uuid="$uuid" | sed -n 's/^Root hash:[[:space:]]*//p')

# The boot entry, a unified kernel image: kernel, initramfs and command line are one file with one signature.
cat >"$work/os-release" <<TEXT
ID=chancery
IMAGE_ID=chancery
NAME=Chancery
PRETTY_NAME="Chancery $version"
IMAGE_VERSION=$version
VERSION_ID=$version
TEXT
printf '%s' "ro quiet panic=10 systemd.gpt_auto=no console=tty0 console=ttyS0,115200 chancery.version=$version" \
    " chancery.root=$roothash chancery.tree=$offset${words:+ $words}" >"$work/cmdline"
cat "$boot/initrd" ${extra:+"$extra"} >"$work/initrd"
# Each section begins at a page after the one before it; the stub's own end is where they may begin.
next=0
while read -r size address; do
    end=$((16#$size + 16#$address))
    [ "$end" -le "$next" ] || next=$end
done < <(objdump -h -w "$boot/stub" | awk '$2 ~ /^\./ { print $3, $4 }')
[ "$next" -gt 0 ] || { echo "$0: objdump says nothing about the stub" >&2; exit 1; }
next=$(((next + 4095) / 4096 * 4096))
sections=()
for pair in osrel=os-release cmdline=cmdline initrd=initrd linux=linux; do
    file=$work/${pair#*=}
    [ -e "$file" ] || file=$boot/${pair#*=}
    sections+=(--add-section ".${pair%%=*}=$file" --change-section-vma ".${pair%%=*}=$next")
    next=$(((next + $(stat -c %s "$file") + 4095) / 4096 * 4096))
done
objcopy "${sections[@]}" "$boot/stub" "$work/boot"
# objcopy notes in the PE header when it ran, and sums that up with all else: the commit's time instead, and no sum, which
# only drivers of another system need.
python3 - "$work/boot" "$SOURCE_DATE_EPOCH" <<'PYTHON'
import struct
import sys

with open(sys.argv[1], "r+b") as file:
    file.seek(0x3C)
    header = struct.unpack("<I", file.read(4))[0]
    file.seek(header)
    if file.read(4) != b"PE\0\0":
        sys.exit("the boot entry is no PE file")
    file.seek(header + 8)
    file.write(struct.pack("<I", int(sys.argv[2]) & 0xFFFFFFFF))
    file.seek(header + 24 + 64)
    file.write(bytes(4))
PYTHON
cp "$boot/loader" "$work/loader"
if [ -n "$secure_key" ]; then
    for file in boot loader; do
        sbsign --key "$secure_key" --cert "$secure_certificate" --output "$work/$file" "$work/$file" 2>/dev/null
    done
fi

cat >"$work/manifest" <<TEXT
chancery-update 1
version $version
architecture x86_64
tries $tries
roothash $roothash
root $(stat -c %s "$work/root") $(sha256sum "$work/root" | cut -c 1-64)
boot $(stat -c %s "$work/boot") $(sha256sum "$work/boot" | cut -c 1-64)
TEXT
openssl pkeyutl -sign -rawin -inkey "$key" -in "$work/manifest" -out "$work/manifest.sig"
tar -C "$work" --format=ustar --owner=0 --group=0 --numeric-owner --mode=0644 --mtime="@$SOURCE_DATE_EPOCH" \
    -cf "$out/chancery-$version.update" manifest manifest.sig boot root
mv "$work/loader" "$out/chancery-$version.loader"
