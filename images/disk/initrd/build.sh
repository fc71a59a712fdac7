#!/usr/bin/env bash
# One step of root.sh: the initramfs, from what the TREE has.
#
#   images/disk/initrd/build.sh TREE OUT
set -euo pipefail
tree=$(realpath "$1")
out=$(realpath -m "$2")
here=$(dirname "$(realpath "$0")")
# Inside the tree, where its own modprobe and depmod reach it.
initrd=$tree/initramfs
mkdir "$initrd"
trap 'rm -rf "$initrd"' EXIT
umask 022

mkdir -p "$initrd"/{bin,lib64,lib/modules,proc,sys,dev,run,root,etc}
install -m 755 "$here/init" "$initrd/init"
cp "$tree/bin/busybox" "$initrd/bin/busybox"
for tool in veritysetup e2fsck resize2fs sfdisk resizepart; do
    path=$(find "$tree"/usr/sbin "$tree"/sbin/ "$tree"/usr/bin "$tree"/bin/ -maxdepth 1 -name "$tool" -printf '%p\n' -quit)
    path=${path#"$tree/"}
    cp "$tree/$path" "$initrd/bin/$tool"
    chroot "$tree" ldd "/$path" | sed -n 's/.*[[:space:]]\(\/[^ ]*\) (.*/\1/p'
done | sort -u | while read -r library; do
    mkdir -p "$initrd$(dirname "$library")"
    cp -L "$tree$library" "$initrd$library"
done

kernel=$(basename "$tree"/lib/modules/*)
modules=$initrd/lib/modules/$kernel
mkdir -p "$modules"
cp "$tree/lib/modules/$kernel"/modules.{order,builtin,builtin.modinfo} "$modules/"
sed 's/#.*//' "$here/modules" | xargs -n 1 >"$initrd/modules"
while read -r module; do
    # What is built in has no file.
    chroot "$tree" modprobe --set-version "$kernel" --show-depends "$module" || echo "no module $module" >&2
done <"$initrd/modules" | sed -n 's/^insmod \([^ ]*\).*/\1/p' | sort -u | while read -r file; do
    target=$modules/kernel/${file##*/"$kernel"/kernel/}
    mkdir -p "$(dirname "$target")"
    cp "$tree$file" "$target"
done
chroot "$tree" depmod --basedir /initramfs "$kernel"

find "$initrd" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
(cd "$initrd" && find . -print0 | LC_ALL=C sort -z | cpio --quiet --null --create --format=newc --reproducible --owner=+0:+0) |
    zstd --quiet "-${SQUASH_LEVEL:-19}" -T1 >"$out"
