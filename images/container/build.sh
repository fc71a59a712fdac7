#!/usr/bin/env bash
# Builds the container image localhost/chancery from this checkout.
#
#   images/container/build.sh [--program FILE] [--base IMAGE] [--engine 'podman build'|'docker build'|…]
#
# --program: a program that is built already goes into the package; --base: a Debian 12 other than the public one.
set -euo pipefail
cd "$(dirname "$0")/../.."

program=() base=() engine='podman build'
while [ $# -gt 0 ]; do
    case "$1" in
    --program) program=(--program "$2") ;;
    --base) base=(--build-arg "BASE=$2") ;;
    --engine) engine=$2 ;;
    *)
        echo "usage: $0 [--program FILE] [--base IMAGE] [--engine COMMAND]" >&2
        exit 2
        ;;
    esac
    shift 2
done
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
cp "$(images/debian/build.sh "${program[@]}")" "$context/chancery.deb"
cp images/container/Containerfile "$context/"
# shellcheck disable=SC2086
$engine --tag localhost/chancery:latest "${base[@]}" --file "$context/Containerfile" "$context"
