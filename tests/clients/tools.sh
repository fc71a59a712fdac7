#!/usr/bin/env bash
# Puts the newest certbot into target/tools/certbot (a virtual environment), for names and addresses:
# Debian 12's own knows no IP identifiers. Does nothing when it is there.
set -euo pipefail
cd "$(dirname "$0")/../.."
tools=$PWD/target/tools
[ -x "$tools/certbot/bin/certbot" ] && exit 0
mkdir -p "$tools"
python3 -m venv "$tools/certbot"
"$tools/certbot/bin/pip" install --quiet --disable-pip-version-check certbot
