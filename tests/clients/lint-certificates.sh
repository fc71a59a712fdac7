#!/usr/bin/env bash
# Runs pkilint and zlint over a folder of certificates (*.pem, one each) and CRLs (*.crl, PEM) and
# fails on any finding of level error. Without the folder, a test writes samples of every kind there.
#
#   tests/clients/lint-certificates.sh [FOLDER]
#
# The linters are put into target/tools at the first run: pkilint from PyPI, zlint by `go install`.
# A linter that cannot be installed here is named, and the run fails unless LINT_OPTIONAL=1.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=${1:-target/samples}
tools=$PWD/target/tools
mkdir -p "$tools"

# The newest zlint whose dependencies every module proxy has; tried when the very newest fails.
zlint_known_good=v3.6.8

if ! ls "$folder"/*.pem >/dev/null 2>&1; then
    CHANCERY_SAMPLES="$PWD/$folder" cargo test --quiet --test certificates samples_for_the_linters
fi

missing=
if ! [ -x "$tools/pkilint/bin/lint_pkix_cert" ]; then
    echo "installing pkilint into $tools/pkilint"
    python3 -m venv "$tools/pkilint"
    "$tools/pkilint/bin/pip" install --quiet --disable-pip-version-check pkilint || missing="pkilint"
fi
if ! [ -x "$tools/zlint" ]; then
    echo "installing zlint into $tools"
    if ! command -v go >/dev/null; then
        missing="$missing zlint (needs go: apt install golang-go)"
    else
        for version in latest "$zlint_known_good"; do
            GOBIN=$tools go install "github.com/zmap/zlint/v3/cmd/zlint@$version" 2>"$tools/zlint.log" && break
            echo "zlint@$version does not install: $(tail -1 "$tools/zlint.log")"
        done
        [ -x "$tools/zlint" ] || missing="$missing zlint"
    fi
fi
if [ -n "$missing" ]; then
    echo "not installed: $missing" >&2
    [ "${LINT_OPTIONAL:-}" = 1 ] || exit 1
fi

FOLDER=$folder TOOLS=$tools exec python3 - <<'PYTHON'
import json, os, re, subprocess, sys
from pathlib import Path

folder, tools = Path(os.environ["FOLDER"]), Path(os.environ["TOOLS"])
pkilint, zlint = tools / "pkilint/bin", tools / "zlint"

# Findings of level error that do not apply here: (linter, code, message, why).
ALLOWED = [
    (
        "pkilint", r"pkix\.invalid_domain_name_syntax", r'Invalid domain name syntax: "[a-z0-9-]+"',
        "one label is a name in preferred syntax (RFC 1034 section 3.5, RFC 5280 section 4.2.1.10), "
        "and `lan` or `local` is what a private network constrains to; pkilint wants a public suffix",
    ),
]

# zlint by source: what RFCs say. Left out are the rules that root programmes make for public CAs
# (CABF_BR, CABF_EV, CABF_SMIME_BR, CABF_CS_BR, Mozilla, Apple, ETSI_ESI): public suffixes, policy OIDs,
# SCTs, no private addresses; RFC6962 (no SCTs here) and RFC6960 (no OCSP here).
SOURCES = "RFC3279,RFC5280,RFC5480,RFC5891,RFC8813,Community"


def run(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    try:
        return json.loads(done.stdout)
    except ValueError:
        sys.exit(f"{command[0]} gave no JSON: {done.stdout}{done.stderr}")


def by_pkilint(linter, *arguments):
    if not (pkilint / linter).exists():
        return
    found = run(pkilint / linter, "lint", *arguments[:-1], "-s", "NOTICE", "-f", "JSON", arguments[-1])
    for result in found["results"]:
        for finding in result["finding_descriptions"]:
            yield "pkilint", finding["severity"], finding["code"], finding["message"] or "", result["node_path"]


def by_zlint(path):
    if not zlint.exists():
        return
    for code, result in run(zlint, "-includeSources", SOURCES, path).items():
        if result["result"] not in ("pass", "NA", "NE"):
            yield "zlint", result["result"].upper(), code, result.get("details", ""), ""


def findings():
    certificates, crls = sorted(folder.glob("*.pem")), sorted(folder.glob("*.crl"))
    if not certificates:
        sys.exit(f"no certificate in {folder}")
    print(f"{len(certificates)} certificates and {len(crls)} CRLs in {folder}")
    for path in certificates:
        yield from ((path.name, *finding) for finding in by_pkilint("lint_pkix_cert", path))
        yield from ((path.name, *finding) for finding in by_zlint(path))
    for path in crls:
        kind = ("-t", "ARL" if path.stem == "root" else "CRL", "-p", "PKIX")
        yield from ((path.name, *finding) for finding in by_pkilint("lint_crl", *kind, path))
        yield from ((path.name, *finding) for finding in by_zlint(path))
    for issuer, subjects in (("root", ["issuing.pem"]), ("issuing", ["leaf.pem"])):
        for subject in subjects:
            above, below = folder / f"{issuer}.pem", folder / subject
            if above.exists() and below.exists():
                pair = by_pkilint("lint_pkix_signer_signee_cert_chain", above, below)
                yield from ((f"{issuer}.pem → {subject}", *finding) for finding in pair)


errors = 0
for where, linter, severity, code, message, node in findings():
    why = next((why for who, code_pattern, text, why in ALLOWED
                if who == linter and re.fullmatch(code_pattern, code) and re.fullmatch(text, message)), None)
    if severity in ("ERROR", "FATAL") and why is None:
        errors += 1
        verdict = "error"
    else:
        verdict = "allowed" if why else severity.lower()
    print(f"{verdict}: {where}: {linter} {code} {message} {node}".rstrip())
print(f"{errors} errors")
sys.exit(1 if errors else 0)
PYTHON
