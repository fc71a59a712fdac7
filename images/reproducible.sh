#!/usr/bin/env bash
# Builds program, Debian package and disk image twice, from two copies of this checkout in directories of other names, at
# another time of day, under another umask, time zone and language, and compares every octet.
#
#   images/reproducible.sh [--program FILE] [--profile PROFILE] [--no-image] [--fetch-twice]
#
# --program: with a program that is built already, minutes less. --profile: another than release, for who changes this
# script. --no-image: program and package alone. Both images have the same key for updates, and of Debian what
# target/image/debian-*.tar has, or what the mirror gives once; --fetch-twice has each build fetch and unpack it anew.
# Prints the digests; fails where two differ, and leaves both below target/reproducible to be compared.
set -euo pipefail
cd "$(dirname "$0")/.."

program= profile=release image=yes fetch=once
while [ $# -gt 0 ]; do
    case "$1" in
    --program) program=$(realpath "$2"); shift ;;
    --profile) profile=$2; shift ;;
    --no-image) image= ;;
    --fetch-twice) fetch=twice ;;
    *)
        echo "usage: $0 [--program FILE] [--profile PROFILE] [--no-image] [--fetch-twice]" >&2
        exit 2
        ;;
    esac
    shift
done
[ -z "$(git status --porcelain --untracked-files=no)" ] ||
    echo "note: what is not committed is not built; the commit is" >&2
say() { printf '== %s (%s s)\n' "$*" "$SECONDS" >&2; }

out=$PWD/target/reproducible kept=$PWD/target/image
rm -rf "$out"
mkdir -p "$out"
# Whatever is committed meanwhile.
commit=$(git rev-parse HEAD)
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct "$commit")
export SOURCE_DATE_EPOCH
if [ -n "$image" ]; then
    (umask 077 && openssl genpkey -algorithm ed25519 -out "$out/update-key.pem" 2>/dev/null)
fi

# What a copy of the commit makes.
build() { # DIRECTORY
    mkdir -p "$1"
    # As whoever has this umask checks it out.
    git archive "$commit" | tar -x --no-same-permissions -C "$1"
    (
        cd "$1"
        # What a build elsewhere would have of its own.
        unset CARGO_TARGET_DIR CARGO_BUILD_TARGET_DIR
        export CHANCERY_PROFILE=$profile
        mkdir -p target/package target/image
        local own=$program
        if [ -z "$own" ]; then
            images/program.sh >&2
            own=target/package/build/${profile/#dev/debug}/chancery
            cp "$own" target/package/chancery
        fi
        say "$1"
        # The image's build makes the package too.
        if [ -z "$image" ]; then
            images/debian/build.sh --program "$own" >/dev/null
            exit 0
        fi
        [ "$fetch" = twice ] || cp --reflink=auto "$kept"/debian-*.tar target/image/ 2>/dev/null || true
        images/disk/build.sh --program "$own" --key "$out/update-key.pem" >/dev/null
        [ "$fetch" = twice ] || { mkdir -p "$kept" && cp --reflink=auto -n target/image/debian-*.tar "$kept/"; }
    )
}
one=$out/one/target other=$out/another-place/of/the/same/target
(umask 022 && TZ=UTC LC_ALL=C build "${one%/target}")
(umask 077 && TZ=Asia/Tokyo LC_ALL=C.UTF-8 build "${other%/target}")

say "comparing"
differ=0 compared=0
while read -r file; do
    digest=$(sha256sum <"$one/$file")
    again=$(sha256sum <"$other/$file" 2>/dev/null || echo nothing)
    if [ "$digest" = "$again" ]; then
        echo "${digest%% *}  $file: twice the same"
        compared=$((compared + 1))
    else
        echo "$file: ${digest%% *} and ${again%% *}" >&2
        differ=1
    fi
done < <(cd "$one" && find package image -maxdepth 2 -type f \
    \( -name '*.deb' -o -path package/chancery -o -path 'image/*' \) ! -path 'image/debian-*' | LC_ALL=C sort)
[ "$differ" = 0 ] || {
    echo "they differ; both are below $out (diffoscope says in what)" >&2
    exit 1
}
# The program, the package; disk, update, bill of materials, root file system, loader and the boot entry's four pieces.
least=1
[ -n "$program" ] || least=$((least + 1))
[ -z "$image" ] || least=$((least + 9))
[ "$compared" -ge "$least" ] || { echo "only $compared files were there to be compared" >&2; exit 1; }
rm -rf "$out"
say "$compared files, twice the same"
