#!/usr/bin/env bash
# Puts tokens that no Debian package has into target/tools, and nowhere else:
#
#   tests/tokens/tools.sh           kryoptic, as target/tools/kryoptic/libkryoptic_pkcs11.so
#
# What was built of the same files stays. kryoptic's post-quantum algorithms need OpenSSL 3.5; Debian 12 has 3.0, so the sources
# that the crate openssl-src carries are built beside it, without what the token never uses. Its own `make` step is
# not used: that crate lacks a file which only loadable providers need.
set -euo pipefail
cd "$(dirname "$0")/../.."
tools=$PWD/target/tools/kryoptic
program=$PWD/tests/tokens/programs/kryoptic
module=$tools/libkryoptic_pkcs11.so
made_of=$(cat "$program"/* tests/tokens/tools.sh | sha256sum)
[ -e "$module" ] && [ "$(cat "$tools/made-of" 2>/dev/null)" = "$made_of" ] && exit 0

for command in cc make perl cargo; do
    command -v "$command" >/dev/null || { echo "kryoptic needs $command" >&2; exit 1; }
done
started=$SECONDS
rm -rf "$tools"
mkdir -p "$tools"
echo "building kryoptic and OpenSSL 3.5 from their crates into target/tools/kryoptic"

cargo fetch --quiet --locked --manifest-path "$program/Cargo.toml"
# Where cargo has unpacked the sources.
sources=$(cargo metadata --locked --offline --format-version 1 --manifest-path "$program/Cargo.toml" |
    grep -o '"manifest_path":"[^"]*/openssl-src-[^"]*/Cargo.toml"' | head -1 | cut -d'"' -f4)
cp -r "$(dirname "$sources")/openssl" "$tools/openssl"
chmod -R u+w "$tools/openssl"

(
    cd "$tools/openssl"
    without=(shared module legacy tests docs apps ssl tls dtls quic http cmp cms ct ocsp ts srp engine idea camellia bf
        aria cast des dsa rc2 rc4 rc5 rmd160 seed sm2 sm3 sm4 siphash whirlpool mdc2 md4 ec2m argon2 comp deprecated
        psk rfc3779 gost dso uplink sctp atexit)
    platform=
    [ "$(uname -m)" = x86_64 ] && platform="linux-x86_64 enable-ec_nistp_64_gcc_128"
    # shellcheck disable=SC2086 # two words
    ./Configure $platform "${without[@]/#/no-}" -O2
    make -s build_generated
    make -s -j"$(nproc)" libcrypto.a
) >"$tools/openssl.log" 2>&1 || { tail -20 "$tools/openssl.log" >&2; exit 1; }
echo "OpenSSL after $((SECONDS - started)) s"

# bindgen wants the compiler's own headers, which libclang does not bring.
export BINDGEN_EXTRA_CLANG_ARGS="-I$(cc -print-file-name=include)"
KRYOPTIC_OPENSSL_SOURCES=$tools/openssl cargo build --quiet --locked --offline \
    --manifest-path "$program/Cargo.toml" --target-dir "$tools/build"
cp "$tools/build/debug/libkryoptic_pkcs11.so" "$module.new"
strip --strip-debug "$module.new"
rm -rf "$tools/openssl" "$tools/build"
printf '%s\n' "$made_of" >"$tools/made-of"
mv "$module.new" "$module"
echo "kryoptic after $((SECONDS - started)) s"
