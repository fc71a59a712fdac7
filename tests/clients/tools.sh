#!/usr/bin/env bash
# Puts ACME clients into target/tools, and nowhere else:
#
#   tests/clients/tools.sh          the newest certbot, which `cargo test` uses
#   tests/clients/tools.sh all      every client of `make clients`
#
# What is there already stays. Debian's clients are unpacked, not installed: Caddy and Apache would start as
# services. A client that cannot be had here is named; with CI set that is a failure.
set -euo pipefail
cd "$(dirname "$0")/../.."
tools=$PWD/target/tools
programs=$PWD/tests/clients/programs
mkdir -p "$tools/bin"
missing=()

# The newest step whose dependencies every module proxy has; tried when the very newest fails.
step_known_good=v0.21.0

has() { command -v "$1" >/dev/null 2>&1; }

python() { # DIRECTORY PACKAGE…: a virtual environment
    local dir=$tools/$1
    shift
    [ -e "$dir/complete" ] && return
    echo "installing $* from PyPI into $dir"
    rm -rf "$dir"
    if python3 -m venv "$dir" && "$dir/bin/pip" install --quiet --disable-pip-version-check "$@"; then
        touch "$dir/complete"
    else
        missing+=("$*")
    fi
}

debian() { # PACKAGE…: unpacked into target/tools/debian
    local dir=$tools/debian
    [ -e "$dir/complete" ] && return
    echo "unpacking $* from Debian into $dir"
    rm -rf "$dir" "$tools/archives"
    mkdir -p "$dir" "$tools/archives"
    apt-cache show caddy >/dev/null 2>&1 || [ "$(id -u)" -ne 0 ] || apt-get update -qq
    if (cd "$tools/archives" && apt-get download -qq "$@" 2>"$tools/debian.log"); then
        for package in "$tools"/archives/*.deb; do dpkg -x "$package" "$dir"; done
        touch "$dir/complete"
    else
        missing+=("$* (as root: apt-get update; $(tail -1 "$tools/debian.log"))")
    fi
}

node() { # acme-client and the script that uses it
    cp "$programs/node/client.mjs" "$programs/node/package.json" "$tools/node/"
    [ -d "$tools/node/node_modules/acme-client" ] && return
    if ! has npm; then
        missing+=("acme-client (needs npm: apt install npm)")
        return
    fi
    echo "installing acme-client from npm into $tools/node"
    npm install --silent --no-audit --no-fund --prefix "$tools/node" || missing+=("acme-client")
}

go_programs() {
    if ! has go; then
        missing+=("acmez, autocert, step (need Go 1.26: https://go.dev/dl)")
        return
    fi
    (cd "$programs/go" && GOFLAGS=-buildvcs=false go build -o "$tools/bin/client" .) || missing+=("acmez, autocert")
    [ -x "$tools/bin/step" ] && return
    echo "building step from its Go module into $tools/bin"
    for version in latest "$step_known_good"; do
        GOBIN=$tools/bin go install "github.com/smallstep/cli/cmd/step@$version" 2>"$tools/step.log" && return
        echo "step@$version does not install: $(tail -1 "$tools/step.log")"
    done
    missing+=("step")
}

# The newest lego that module proxies have, with one of its 180 DNS providers, the one that runs a program: the others
# bring the libraries of as many companies. Not a failure where it cannot be had: Debian's is run besides.
lego() {
    local version=4.35.2 module
    has go && [ ! -x "$tools/lego/lego" ] || return 0
    echo "building lego $version from its Go module into $tools/lego"
    rm -rf "$tools/lego"
    mkdir -p "$tools/lego"
    if module=$(cd "$tools/lego" && go mod download -json "github.com/go-acme/lego/v4@v$version" | sed -n 's/.*"Dir": "\(.*\)",*$/\1/p') &&
        cp -r "$module" "$tools/lego/source" && chmod -R u+w "$tools/lego/source" &&
        cp "$programs/lego/providers.go.txt" "$tools/lego/source/providers/dns/zz_gen_dns_providers.go" &&
        (cd "$tools/lego/source" && GOFLAGS=-buildvcs=false go build -ldflags "-X main.version=$version" -o ../lego ./cmd/lego); then
        rm -rf "$tools/lego/source"
    else
        echo "not to be had here: lego $version"
    fi
}

rust_program() {
    cargo build --quiet --locked --manifest-path "$programs/rustls-acme/Cargo.toml" --target-dir "$tools/rustls-acme" &&
        cp "$tools/rustls-acme/debug/chancery-rustls-acme" "$tools/bin/rustls-acme" || missing+=("rustls-acme")
}

python certbot certbot
if [ "${1:-}" = all ]; then
    python python acme-tiny
    debian uacme dehydrated caddy apache2-bin libapr1 libaprutil1 libev4 liblua5.3-0
    mkdir -p "$tools/node"
    node
    go_programs
    lego
    rust_program
fi
if [ ${#missing[@]} -gt 0 ]; then
    printf 'not to be had here: %s\n' "${missing[@]}" >&2
    [ -z "${CI:-}" ] || exit 1
fi
