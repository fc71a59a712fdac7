#!/usr/bin/env bash
# Unpacks Debian's Prometheus, with promtool, into target/tools/prometheus: installed, it would start as a service.
# What cannot be had here is named; with CI set that is a failure.
set -euo pipefail
cd "$(dirname "$0")/../.."
dir=$PWD/target/tools/prometheus
[ -x "$dir/usr/bin/promtool" ] && exit 0
echo "unpacking prometheus from Debian into $dir"
rm -rf "$dir"
mkdir -p "$dir"
apt-cache show prometheus >/dev/null 2>&1 || [ "$(id -u)" -ne 0 ] || apt-get update -qq
if (cd "$dir" && apt-get download -qq prometheus 2>download.log) && dpkg -x "$dir"/prometheus_*.deb "$dir"; then
    rm -rf "$dir"/prometheus_*.deb "$dir/usr/share"
else
    echo "not to be had here: prometheus (as root: apt-get update; $(tail -1 "$dir/download.log"))" >&2
    [ -z "${CI:-}" ] || exit 1
fi
