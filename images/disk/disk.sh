#!/usr/bin/env bash
# The disk, target/image/chancery-VERSION.img, from chancery-VERSION.update and its loader: a GPT with the EFI system
# partition, two slots of which the first is filled, and the data partition, empty and last, so that it can grow.
#
#   images/disk/disk.sh VERSION [SEED]
#
# SEED, a directory, goes onto the data partition: the image of one box, which sets itself up at its first boot.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=$(realpath "${IMAGE_DIR:-target/image}")
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y Cargo.lock)}
export SOURCE_DATE_EPOCH PATH=$PATH:/usr/sbin:/sbin
version=$1
seed=${2:-}
umask 022
update=$out/chancery-$version.update
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

. firmware-config/update/slots.conf
disk=$out/chancery-$version.img
rm -f "$disk"
truncate -s $((1 + esp_mib + 2 * slot_mib + data_mib + 1))M "$disk"
# Nobody finds anything by these identifiers, so they may be the same on every box; names are what is looked for.
sfdisk --quiet "$disk" <<TABLE
label: gpt
label-id: 6A52C4B0-0A5D-4C7E-9E1B-43414E434552
first-lba: 2048
start=1MiB, size=${esp_mib}MiB, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, uuid=6A52C4B0-0A5D-4C7E-9E1B-000000000001, name=chancery-esp
size=${slot_mib}MiB, type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709, uuid=6A52C4B0-0A5D-4C7E-9E1B-000000000002, name=chancery-a
size=${slot_mib}MiB, type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709, uuid=6A52C4B0-0A5D-4C7E-9E1B-000000000003, name=chancery-b
size=${data_mib}MiB, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4, uuid=6A52C4B0-0A5D-4C7E-9E1B-000000000004, name=chancery-data
TABLE
at() { dd if="$1" of="$disk" bs=1M seek="$2" conv=notrunc,sparse status=none; }

tar -C "$work" -xf "$update"
[ "$(stat -c %s "$work/root")" -le $((slot_mib * 1048576)) ] || { echo "$0: the system does not fit into a slot" >&2; exit 1; }
at "$work/root" $((1 + esp_mib))

printf 'timeout 0\neditor no\nauto-entries no\nauto-firmware no\n' >"$work/loader.conf"
touch --date="@$SOURCE_DATE_EPOCH" "$work/boot" "$work/loader.conf" "$out/chancery-$version.loader"
export MTOOLS_SKIP_CHECK=1 TZ=UTC
fat=$work/esp
truncate -s ${esp_mib}M "$fat"
mkfs.vfat --invariant -F 32 -n CHANCERYESP "$fat" >/dev/null
faketime() { env SOURCE_DATE_EPOCH="$SOURCE_DATE_EPOCH" "$@"; }
faketime mmd -i "$fat" ::/EFI ::/EFI/BOOT ::/EFI/Linux ::/loader
faketime mcopy -m -i "$fat" "$out/chancery-$version.loader" ::/EFI/BOOT/BOOTX64.EFI
faketime mcopy -m -i "$fat" "$work/loader.conf" ::/loader/loader.conf
faketime mcopy -m -i "$fat" "$work/boot" "::/EFI/Linux/chancery_$version.efi"
at "$fat" 1

mkdir -p "$work/data/lib"
[ -z "$seed" ] || { mkdir "$work/data/lib/chancery-box" && cp -r "$seed" "$work/data/lib/chancery-box/seed"; }
find "$work/data" -exec touch --date="@$SOURCE_DATE_EPOCH" {} +
truncate -s ${data_mib}M "$work/ext4"
# Journalled data costs little here and orders nothing wrongly; metadata checksums find what a bad disk did.
E2FSPROGS_FAKE_TIME=$SOURCE_DATE_EPOCH mke2fs -q -F -t ext4 -L chancery-data -U 6a52c4b0-0a5d-4c7e-9e1b-000000000005 \
    -E "hash_seed=6a52c4b0-0a5d-4c7e-9e1b-000000000006,root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0,resize=268435456" \
    -O metadata_csum,64bit -m 1 -d "$work/data" "$work/ext4"
# It takes whose they are, and when they were changed last, from what it copied.
(cd "$work/data" && find . -mindepth 1 -printf '%P\n') | LC_ALL=C sort | while read -r name; do
    printf 'set_inode_field "/%s" %s\n' "$name" uid\ 0 "$name" gid\ 0 "$name" "ctime @$SOURCE_DATE_EPOCH"
done >"$work/fields"
E2FSPROGS_FAKE_TIME=$SOURCE_DATE_EPOCH debugfs -w -f "$work/fields" "$work/ext4" >/dev/null 2>"$work/said"
grep -v '^debugfs ' "$work/said" >&2 && { echo "$0: debugfs refused" >&2; exit 1; }
at "$work/ext4" $((1 + esp_mib + 2 * slot_mib))
