#!/usr/bin/env bash
# Builds strangers' C2SP programs from their Go modules, pinned by go.mod and go.sum, into target/tools/bin:
#
#   reader       verifies checkpoint, tiles and proofs with golang.org/x/mod/sumdb, transparency-dev/merkle, formats
#                and tessera's client
#   omniwitness  transparency-dev/witness, a witness of the public network's kind, as it is
#
# What cannot be had here is named; with CI set that is a failure.
set -euo pipefail
cd "$(dirname "$0")"
tools=$PWD/../../target/tools
mkdir -p "$tools/bin"
tools=$(cd "$tools" && pwd)
export GOFLAGS=-buildvcs=false

if ! command -v go >/dev/null 2>&1; then
    echo "not to be had here: reader, omniwitness (need Go 1.26: https://go.dev/dl)" >&2
    [ -z "${CI:-}" ] || exit 1
    exit 0
fi
missing=()
(cd reader && go build -o "$tools/bin/reader" .) || missing+=(reader)

# The witness's go.mod names a commit of transparency-dev/merkle of which not every module proxy has the content. The
# newest release has all that add-checkpoint needs; what it lacks, for the optional sign-subtree, is put beside it.
omniwitness() {
    local merkle
    merkle=$(cd reader && go list -m -f '{{.Dir}}' github.com/transparency-dev/merkle) || return
    rm -rf "$tools/strangers"
    mkdir -p "$tools/strangers/witness"
    cp -r "$merkle" "$tools/strangers/merkle"
    chmod -R u+w "$tools/strangers/merkle"
    cp witness/subtree.go.txt "$tools/strangers/merkle/proof/subtree.go"
    cp witness/go.mod witness/go.sum "$tools/strangers/witness/"
    (cd "$tools/strangers/witness" &&
        go build -o "$tools/bin/omniwitness" github.com/transparency-dev/witness/cmd/omniwitness)
}
[ -x "$tools/bin/omniwitness" ] || omniwitness || missing+=(omniwitness)
if [ ${#missing[@]} -gt 0 ]; then
    printf 'not to be had here: %s\n' "${missing[@]}" >&2
    [ -z "${CI:-}" ] || exit 1
fi
