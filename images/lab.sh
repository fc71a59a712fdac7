#!/usr/bin/env bash
# A lab in .lab/: SoftHSM2 token, ceremony, `chancery serve` on high ports of loopback, a test DNS
# server, and a first device that enrols with lego over http-01. Serves until Ctrl-C; state is kept and
# used again by the next run. Touches nothing outside .lab/ and target/.
set -euo pipefail
cd "$(dirname "$0")/.."

lab=$PWD/.lab
acme=${LAB_ACME_PORT:-8443}
http=${LAB_HTTP_PORT:-8080}
dns=${LAB_DNS_PORT:-8053}
challenge=${LAB_CHALLENGE_PORT:-8402}
name=device-1.lab.test

say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }

say "building (release)"
cargo build --release --quiet
chancery=$PWD/target/release/chancery

say "token: SoftHSM2 in .lab/token"
mkdir -p "$lab"
hsm/sandbox.sh "$lab/token" >/dev/null
export SOFTHSM2_CONF=$lab/token/softhsm2.conf
export CHANCERY_CONFIG=$lab/chancery.toml

cat >"$CHANCERY_CONFIG" <<TOML
inherit = ["$PWD/firmware-config/board/lab.toml"]

[state]
dir = "$lab/state"
pin = { file = "$lab/token/pin" }

[web]
base-url = "https://localhost:$acme"
listen = ["127.0.0.1:$acme", "[::1]:$acme"]
listen-http = ["127.0.0.1:$http", "[::1]:$http"]

[issuer]
tls-names = ["localhost", "127.0.0.1", "::1"]

[validation]
http-port = $challenge
redirect-ports = [$challenge]
resolvers = [{ zone = ".", servers = ["127.0.0.1:$dns"] }]
TOML

if [ ! -e "$lab/state/ca/authority.json" ]; then
    say "ceremony: root, issuing, log and TLS keys are made on the token"
    "$chancery" ceremony run hsm/ceremony/lab.toml --yes
fi

pids=()
finish() {
    trap - EXIT INT TERM
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
}
trap finish EXIT
trap 'exit 0' INT TERM

mkdir -p "$lab/dns"
"$chancery" lab dns --listen "127.0.0.1:$dns" --records "$lab/dns" >"$lab/dns.log" 2>&1 &
pids+=($!)
say "serving https://localhost:$acme (log in .lab/serve.log)"
"$chancery" serve >"$lab/serve.log" 2>&1 &
serve=$!
pids+=("$serve")
for _ in $(seq 300); do
    curl -fs -o /dev/null "http://127.0.0.1:$http/readyz" && break
    if ! kill -0 "$serve" 2>/dev/null; then
        tail -n 20 "$lab/serve.log" >&2
        exit 1
    fi
    sleep 0.1
done
curl -fs -o /dev/null "http://127.0.0.1:$http/readyz" || {
    tail -n 20 "$lab/serve.log" >&2
    exit 1
}
curl -fs "http://127.0.0.1:$http/root.pem" -o "$lab/root.pem"

say "first device: lego enrols $name over http-01"
device=$lab/device
LEGO_CA_CERTIFICATES=$lab/root.pem lego --server "https://localhost:$acme/acme/directory" \
    --accept-tos --email admin@lab.test --path "$device" \
    --http --http.port "127.0.0.1:$challenge" --domains "$name" run
say "its certificate"
openssl x509 -in "$device/certificates/$name.crt" -noout -subject -issuer -serial -dates -ext subjectAltName,extendedKeyUsage
serial=$(openssl x509 -in "$device/certificates/$name.crt" -noout -serial | cut -d= -f2)
say "its record in the log"
"$chancery" log show "$serial"
say "the checkpoint that covers it"
curl -fs "http://127.0.0.1:$http/checkpoint"

certbot=
command -v certbot >/dev/null || certbot=" (certbot is not installed: apt-get install certbot)"
cat <<TEXT

== The box serves until Ctrl-C. In another terminal, from this directory$certbot:

   REQUESTS_CA_BUNDLE=$lab/root.pem certbot certonly --non-interactive --agree-tos -m admin@lab.test --standalone \\
       --http-01-address 127.0.0.1 --http-01-port $challenge \\
       --server https://localhost:$acme/acme/directory -d device-2.lab.test \\
       --config-dir .lab/certbot --work-dir .lab/certbot --logs-dir .lab/certbot

   curl --cacert $lab/root.pem https://localhost:$acme/acme/directory
   curl http://127.0.0.1:$http/checkpoint

   export CHANCERY_CONFIG=$CHANCERY_CONFIG SOFTHSM2_CONF=$SOFTHSM2_CONF PATH=$PWD/target/release:\$PATH
   chancery status
   chancery doctor
   chancery log list
TEXT
wait "$serve"
