#!/usr/bin/env bash
# One step of build.sh, run as root (of a user namespace, if need be): makes root.squashfs, the pieces of the boot
# entry (boot/) and dpkg's status in DIR.
#
#   images/disk/root.sh DIR DEBIAN-TAR CHANCERY-DEB UPDATE-KEY
set -euo pipefail
work=$1
base=$2
package=$3
update_key=$4
here=$(dirname "$(realpath "$0")")
umask 022

tree=$work/tree
mkdir "$tree"
tar -C "$tree" -xf "$base" --exclude='./dev/*'
cp "$package" "$tree/chancery.deb"
# Not configured: that wants a /proc, and of what it would do only the users outlive /var, which is not in the image.
chroot "$tree" dpkg --unpack /chancery.deb >/dev/null
chroot "$tree" systemd-sysusers chancery.conf
chroot "$tree" systemctl --quiet enable chancery-issuer.service chancery-web.service chancery-web.socket
rm "$tree/chancery.deb"
cp "$tree/var/lib/dpkg/status" "$work/status"

# What is ours.
cp -r "$here/root/." "$tree/"
# For all to read, whatever the umask was under which this checkout was made.
find "$here/root" -mindepth 1 -type f ! -perm -u=x -printf '%P\0' | (cd "$tree" && xargs -0 chmod 644)
find "$here/root" -mindepth 1 \( -type d -o -perm -u=x \) -printf '%P\0' | (cd "$tree" && xargs -0 chmod 755)
install -D -m 644 "$update_key" "$tree/usr/lib/chancery-box/update-key.pem"
# The appliance has no SSH daemon, so nothing lets it in.
sed -e '/# SSH$/d' "$tree/usr/share/chancery/firmware-config/net/firewall.nft" >"$tree/etc/nftables.conf"
cat "$tree/usr/lib/chancery-box/firewall.nft" >>"$tree/etc/nftables.conf"
grep -qw 22 "$tree/etc/nftables.conf" && { echo "the firewall still names port 22" >&2; exit 1; }
system=$tree/etc/systemd/system
for unit in getty@ serial-getty@ console-getty container-getty@ autovt@ systemd-firstboot systemd-sysusers \
    systemd-hwdb-update systemd-journal-catalog-update ldconfig systemd-update-done systemd-boot-update \
    systemd-boot-system-token systemd-machine-id-commit dpkg-db-backup e2scrub_reap; do
    ln -sf /dev/null "$system/$unit.service"
done
for unit in getty.target dpkg-db-backup.timer e2scrub_all.timer fstrim.timer; do ln -sf /dev/null "$system/$unit"; done
rm -rf "$system"/{getty.target.wants,timers.target.wants}
chroot "$tree" systemctl --quiet enable nftables.service systemd-networkd.service systemd-networkd-wait-online.service \
    systemd-resolved.service systemd-timesyncd.service chancery-announce.service chancery-setup.service \
    chancery-console.service chancery-health.service chancery-keep.service
# What is written lies on the data partition.
rm -rf "$tree/etc/chancery" "$tree/etc/systemd/network"
ln -s ../var/lib/chancery-box/etc "$tree/etc/chancery"
ln -s ../../var/lib/chancery-box/network "$tree/etc/systemd/network"
ln -sf ../run/systemd/resolve/resolv.conf "$tree/etc/resolv.conf"
: >"$tree/etc/machine-id"
echo chancery >"$tree/etc/hostname"
echo '127.0.0.1 localhost' >"$tree/etc/hosts"
mkdir -p "$tree/efi"

# The boot entry's pieces, of which nothing is needed in the root file system.
boot=$work/boot
mkdir "$boot"
cp "$tree"/boot/vmlinuz-* "$boot/linux"
cp "$tree/usr/lib/systemd/boot/efi/linuxx64.efi.stub" "$boot/stub"
cp "$tree/usr/lib/systemd/boot/efi/systemd-bootx64.efi" "$boot/loader"
cp "$tree/usr/lib/os-release" "$boot/os-release"
"$here/initrd/build.sh" "$tree" "$boot/initrd"
rm -rf "${tree:?}"/{boot,vmlinuz*,initrd*,usr/lib/systemd/boot}

# Kernel modules of hardware that such a box does not have, or must not use.
modules=$(echo "$tree"/lib/modules/*)
for part in sound drivers/{gpu,media,staging,infiniband,isdn,bluetooth,net/wireless,net/can,firewire,iio,input/joystick} \
    drivers/{video,hwmon,mtd,pcmcia,parport,thunderbolt,target,accessibility,comedi,nfc,edac,w1,usb/gadget,usb/serial} \
    net/{bluetooth,wireless,mac80211,can,nfc,ceph,sctp,rds,tipc,dccp,batman-adv,9p,ieee802154,mac802154,openvswitch,sunrpc} \
    fs/{btrfs,xfs,jfs,ocfs2,gfs2,ceph,nfs,nfsd,smb,afs,f2fs,ntfs3,ntfs,hfs,hfsplus,reiserfs,ubifs,orangefs,9p,udf,dlm,nilfs2,coda,lockd}; do
    rm -rf "$modules/kernel/$part"
done
chroot "$tree" depmod "${modules##*/}" 2>/dev/null

# What only a package manager needs, and what a build leaves behind. /var is another file system at run time.
rm -rf "$tree"/{etc/{apt,dpkg,initramfs-tools,kernel},usr/share/{initramfs-tools,bug,lintian,bash-completion,zoneinfo/right}} \
    "$tree"/usr/lib/{initcpio,dracut} "$tree"/etc/{machine-id.*,*-,.pwd.lock,ld.so.cache~}
find "$tree/var" "$tree/tmp" "$tree/run" -mindepth 1 -delete
touch "$tree/etc/.updated"

# SOURCE_DATE_EPOCH bounds every time in it.
nice -n 10 mksquashfs "$tree" "$work/root.squashfs" -comp zstd -Xcompression-level "${SQUASH_LEVEL:-15}" \
    -b 256K -noappend -no-xattrs -no-exports -quiet -no-progress
rm -rf "$tree"
