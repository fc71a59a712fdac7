#!/usr/bin/env bash
# The program for 64-bit Arm, and a box of it under emulation.
#
#   images/arm64.sh build [--release]   into target/arm64/aarch64-unknown-linux-gnu/{debug,release}/chancery; prints its path
#   images/arm64.sh run PROGRAM         a ceremony, the two processes, one device that enrols, the log verified, under qemu-user
#   images/arm64.sh package PROGRAM [--quick]
#                                       the Debian package for arm64, looked into; prints its path
#
# Debian's cross compiler builds it (aws-lc is C); Debian's arm64 SoftHSM2 and C library, unpacked into target/arm64/root, run
# it. Emulated, it is the program that a Raspberry Pi runs, but not its kernel: qemu-user has no Landlock.
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TARGET_DIR=$PWD/target/arm64
target=aarch64-unknown-linux-gnu
root=$CARGO_TARGET_DIR/root

build() {
    if ! [ -d "$(rustc --print target-libdir --target "$target")" ]; then
        echo "Rust's standard library for $target is missing" >&2
        command -v rustup >/dev/null || {
            echo "no rustup here to add it: install it by what this compiler came with (https://rustup.rs has both)" >&2
            exit 1
        }
        rustup target add "$target" >&2
    fi
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc CARGO_INCREMENTAL=0
    if [ "${1:-}" = --release ]; then
        CARGO_BUILD_TARGET=$target CARGO_BUILD_TARGET_DIR=$CARGO_TARGET_DIR images/program.sh >&2
        echo "$CARGO_TARGET_DIR/$target/release/chancery"
        return
    fi
    # To be tried once, under an emulator: what the compiler would optimize costs more time than it gives back.
    cargo build --locked --bin chancery --target "$target" --config 'profile.dev.debug=false' \
        --config 'profile.dev.package."*".opt-level=0' >&2
    echo "$CARGO_TARGET_DIR/$target/debug/chancery"
}

# What cannot be installed here is taken apart: for which machine, what it wants, and the same files as the package of this
# machine's own program would have.
package() {
    local program=$1 package names
    # Not local: what cleans up at the end reads it.
    dir=$(mktemp -d)
    trap 'rm -rf "$dir"' EXIT
    package=$(images/debian/build.sh ${2:+"$2"} --program "$program" | tail -n 1)
    fail() { echo "$package: $*" >&2 && exit 1; }
    [ "$(dpkg-deb -f "$package" Architecture)" = arm64 ] || fail "it is not for arm64"
    dpkg-deb -f "$package" Depends | grep -Eq '^libc6 \(>= [0-9.]+\), libgcc-s1 \(' ||
        fail "it depends on $(dpkg-deb -f "$package" Depends)"
    dpkg-deb -x "$package" "$dir"
    LC_ALL=C readelf -h "$dir/usr/bin/chancery" | grep -q 'Machine: *AArch64' || fail "its program is for another machine"
    [ "$(qemu-aarch64 -L "$root" "$dir/usr/bin/chancery" --version)" = "$(qemu-aarch64 -L "$root" "$program" --version)" ] ||
        fail "its program does not run"
    names=$(cd "$dir" && find . -type f | LC_ALL=C sort)
    for name in lib/systemd/system/chancery-{issuer,web,backup}.service lib/systemd/system/chancery-web.socket \
        lib/sysusers.d/chancery.conf lib/tmpfiles.d/chancery.conf share/chancery/hsm/sandbox.sh; do
        grep -qx "./usr/$name" <<<"$names" || fail "it has no $name"
    done
    (cd "$dir" && dpkg-deb --ctrl-tarfile "$OLDPWD/$package" | tar -xO ./md5sums | md5sum --quiet -c -) ||
        fail "its files are not those that it lists"
    echo "$package"
}

# The C library and SoftHSM2 of arm64, unpacked and nothing else: no emulator is needed for that.
unpack() {
    [ -e "$root/complete" ] && return 0
    echo "unpacking SoftHSM2 for arm64 from Debian into $root" >&2
    rm -rf "$root"
    mkdir -p "$root"
    local suite
    suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
    mmdebstrap --quiet --variant=extract --arch=arm64 --include=libc6,libgcc-s1,libsofthsm2 "$suite" "$root" >&2
    touch "$root/complete"
}

run() {
    # Not local: what cleans up at the end reads it.
    local program=$1 acme http dns challenge name=device-1.lab.test
    unpack
    dir=$(mktemp -d)
    pids=()
    finish() {
        trap - EXIT
        for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
        for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
        rm -rf "$dir"
    }
    trap finish EXIT
    read -r acme http dns challenge < <(python3 -c '
import socket
sockets = [socket.socket() for _ in range(4)]
for s in sockets: s.bind(("127.0.0.1", 0))
print(*(s.getsockname()[1] for s in sockets))')
    hsm/sandbox.sh "$dir/token" >/dev/null
    export SOFTHSM2_CONF=$dir/token/softhsm2.conf CHANCERY_CONFIG=$dir/chancery.toml
    cat >"$CHANCERY_CONFIG" <<TOML
inherit = ["$PWD/firmware-config/board/lab.toml"]

[state]
dir = "$dir/state"
pin = { file = "$dir/token/pin" }

[process]
unconfined = true

[web]
base-url = "https://localhost:$acme"
listen = ["127.0.0.1:$acme"]
listen-http = ["127.0.0.1:$http"]

[issuer]
tls-names = ["localhost", "127.0.0.1"]

[validation]
http-port = $challenge
redirect-ports = [$challenge]
resolvers = [{ zone = ".", servers = ["127.0.0.1:$dns"] }]
TOML
    chancery() { qemu-aarch64 -L "$root" "$program" "$@"; }
    say() { printf '== %s (%s s)\n' "$*" "$SECONDS"; }

    say "$(aarch64-linux-gnu-readelf -h "$program" | sed -n 's/ *Machine: *//p'): $(stat -c %s "$program") octets,\
 $(aarch64-linux-gnu-size "$program" | awk 'NR == 2 {print $1}') of code and constants"
    say "ceremony"
    chancery ceremony run hsm/ceremony/lab.toml --yes >"$dir/ceremony.log" 2>&1 || {
        cat "$dir/ceremony.log" >&2
        exit 1
    }
    # `serve` would start its processes by itself, which only a kernel that knows emulated programs can.
    qemu-aarch64 -L "$root" "$program" lab dns --listen "127.0.0.1:$dns" >"$dir/dns.log" 2>&1 &
    pids+=($!)
    qemu-aarch64 -L "$root" "$program" issuer >"$dir/issuer.log" 2>&1 &
    pids+=($!)
    qemu-aarch64 -L "$root" "$program" web >"$dir/web.log" 2>&1 &
    pids+=($!)
    say "start"
    local waited=0
    until curl -fs -o /dev/null "http://127.0.0.1:$http/readyz"; do
        waited=$((waited + 1))
        if [ "$waited" -gt 600 ]; then
            tail -n 20 "$dir/issuer.log" "$dir/web.log" >&2
            exit 1
        fi
        sleep 0.1
    done
    say "ready"
    curl -fs "http://127.0.0.1:$http/root.pem" -o "$dir/root.pem"
    LEGO_CA_CERTIFICATES=$dir/root.pem lego --server "https://localhost:$acme/acme/directory" --accept-tos \
        --email admin@lab.test --path "$dir/device" --http --http.port "127.0.0.1:$challenge" --domains "$name" run \
        >"$dir/lego.log" 2>&1 || {
        tail -n 20 "$dir/lego.log" "$dir/issuer.log" "$dir/web.log" >&2
        exit 1
    }
    say "enrolled: $(openssl x509 -in "$dir/device/certificates/$name.crt" -noout -subject -issuer -serial | tr '\n' ' ')"
    chancery log verify >"$dir/verify.log" 2>&1 || {
        cat "$dir/verify.log" >&2
        exit 1
    }
    say "$(grep -m1 -i sound "$dir/verify.log" || tail -1 "$dir/verify.log")"
}

case "${1:-}" in
build) build "${2:-}" ;;
run) run "${2:?usage: $0 run PROGRAM}" ;;
package) unpack && package "${2:?usage: $0 package PROGRAM}" "${3:-}" ;;
*)
    echo "usage: $0 build [--release] | run PROGRAM | package PROGRAM [--quick]" >&2
    exit 2
    ;;
esac
