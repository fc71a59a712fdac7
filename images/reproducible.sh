#!/usr/bin/env bash
# Builds the program and the Debian package twice, from two copies of this checkout in directories of other names, at
# another time of day, under another umask, time zone and language, and compares every octet.
#
#   images/reproducible.sh [--program FILE] [--profile PROFILE]
#
# --program: the package alone, with a program that is built already: seconds instead of minutes. --profile: another than
# release, for who changes this script. Prints the digests; fails where two differ, and leaves both below
# target/reproducible to be compared.
set -euo pipefail
cd "$(dirname "$0")/.."

program= profile=release
while [ $# -gt 0 ]; do
    case "$1" in
    --program) program=$(realpath "$2") ;;
    --profile) profile=$2 ;;
    *)
        echo "usage: $0 [--program FILE] [--profile PROFILE]" >&2
        exit 2
        ;;
    esac
    shift 2
done
[ -z "$(git status --porcelain --untracked-files=no)" ] ||
    echo "note: what is not committed is not built; the commit is" >&2

out=$PWD/target/reproducible
rm -rf "$out"
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH

# The package that a copy of the commit makes, with its program beside it.
build() { # DIRECTORY
    mkdir -p "$1"
    git archive HEAD | tar -x -C "$1"
    (
        cd "$1"
        # What a build elsewhere would have of its own.
        unset CARGO_TARGET_DIR CARGO_BUILD_TARGET_DIR
        export CHANCERY_PROFILE=$profile
        if [ -n "$program" ]; then
            images/debian/build.sh --program "$program" >/dev/null
        else
            images/debian/build.sh >/dev/null
            cp target/package/build/"${profile/#dev/debug}"/chancery target/package/chancery
        fi
    )
}
(umask 022 && TZ=UTC LC_ALL=C build "$out/one")
(umask 077 && TZ=Asia/Tokyo LC_ALL=C.UTF-8 build "$out/another-place/of/the/same")

differ=0
for file in $(cd "$out/one/target/package" && ls -- *.deb chancery 2>/dev/null); do
    one=$(sha256sum <"$out/one/target/package/$file")
    other=$(sha256sum <"$out/another-place/of/the/same/target/package/$file")
    if [ "$one" = "$other" ]; then
        echo "${one%% *}  $file: twice the same"
    else
        echo "$file: ${one%% *} and ${other%% *}" >&2
        differ=1
    fi
done
[ "$differ" = 0 ] || {
    echo "they differ; both are below $out (diffoscope says in what)" >&2
    exit 1
}
rm -rf "$out"
