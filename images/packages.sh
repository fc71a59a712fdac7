#!/usr/bin/env bash
# Makes sure that the Debian packages a purpose needs are there.
#
#   images/packages.sh run|test|bench|clients|tokens|fuzz|package|image|boot|arm64|container
#
# Says what it installs before it does. Without root it installs nothing, names what is missing and fails.
set -euo pipefail

# What is looked for (a command, or a file) and the package that has it.
run="cc=gcc make=make softhsm2-util=softhsm2 openssl=openssl curl=curl lego=lego"
test="$run pkcs11-tool=opensc python3=python3-venv gdb=gdb faketime=faketime nft=nftables strace=strace age=age
    systemd-analyze=systemd dnsmasq=dnsmasq-base avahi-daemon=avahi-daemon ip=iproute2 unshare=util-linux
    p11-kit=p11-kit /usr/lib/*/pkcs11/p11-kit-client.so=p11-kit-modules certutil=libnss3-tools pkcsslotd=opencryptoki
    swtpm=swtpm tpm2_getcap=tpm2-tools tpm2-abrmd=tpm2-abrmd dbus-daemon=dbus-daemon
    tpm2_ptool=libtpm2-pkcs11-tools /usr/lib/*/libtpm2_pkcs11.so.1=libtpm2-pkcs11-1
    /usr/lib/*/libtss2-tcti-tabrmd.so.0=libtss2-tcti-tabrmd0"
bench="$test pebble=pebble"
# Clients are unpacked by tests/clients/tools.sh; these are the libraries and commands that they expect around them.
clients="$test npm=npm unshare=util-linux /usr/lib/*/libcurl-gnutls.so.4=libcurl3-gnutls"
# kryoptic's build reads OpenSSL's headers with libclang.
tokens="$test perl=perl pkg-config=pkg-config /usr/lib/*/libclang-*.so.1=libclang1-14
    /usr/lib/*/libsqlite3.so=libsqlite3-dev"
fuzz="cc=gcc c++=g++ make=make"
package="cc=gcc make=make curl=curl dpkg-shlibdeps=dpkg-dev strip=binutils lintian=lintian mmdebstrap=mmdebstrap
    unshare=util-linux ip=iproute2"
image="cc=gcc make=make dpkg-shlibdeps=dpkg-dev strip=binutils mmdebstrap=mmdebstrap mksquashfs=squashfs-tools cpio=cpio
    zstd=zstd veritysetup=cryptsetup-bin objcopy=binutils sfdisk=fdisk mke2fs=e2fsprogs mkfs.vfat=dosfstools mcopy=mtools
    openssl=openssl sbsign=sbsigntool python3=python3"
boot="$image qemu-system-x86_64=qemu-system-x86 qemu-img=qemu-utils /usr/share/OVMF/OVMF_CODE_4M.fd=ovmf
    ip=iproute2 unshare=util-linux dnsmasq=dnsmasq-base lego=lego curl=curl swtpm=swtpm"

# mmdebstrap unpacks the C library and SoftHSM2 of arm64; qemu-user runs what was built.
arm64="$run python3=python3 dpkg-shlibdeps=dpkg-dev strip=binutils aarch64-linux-gnu-gcc=gcc-aarch64-linux-gnu
    /usr/aarch64-linux-gnu/include/stdio.h=libc6-dev-arm64-cross mmdebstrap=mmdebstrap qemu-aarch64=qemu-user"

# lego and curl are the device's; Debian's crun does not start where both kinds of control groups are mounted.
container="$package podman=podman runc=runc python3=python3 lego=lego openssl=openssl"

purpose=${1:-}
case "$purpose" in
run | test | bench | clients | tokens | fuzz | package | image | boot | arm64 | container) ;;
*)
    echo "usage: $0 run|test|bench|clients|tokens|fuzz|package|image|boot|arm64|container" >&2
    exit 2
    ;;
esac

# Where some of them are, and a user's PATH may not lead.
PATH=$PATH:/usr/sbin:/sbin
missing=()
set -f # a file's path may be a pattern
for pair in ${!purpose}; do
    case "$pair" in
    /*) compgen -G "${pair%%=*}" >/dev/null || missing+=("${pair##*=}") ;;
    *) command -v "${pair%%=*}" >/dev/null 2>&1 || missing+=("${pair##*=}") ;;
    esac
done
set +f
cargo_or_fail() {
    command -v cargo >/dev/null 2>&1 && return
    echo "cargo is missing: install Rust 1.95 or newer (https://rustup.rs)" >&2
    exit 1
}
if [ ${#missing[@]} -eq 0 ]; then
    cargo_or_fail
    exit 0
fi

if [ "$(id -u)" -ne 0 ]; then
    echo "missing Debian packages: ${missing[*]}" >&2
    echo "as root: apt-get install ${missing[*]}" >&2
    cargo_or_fail
    exit 1
fi
echo "installing Debian packages: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
cargo_or_fail
