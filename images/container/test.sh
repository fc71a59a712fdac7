#!/usr/bin/env bash
# The container image built and used as README.md says: a token, the ceremony, both containers, a device's enrolment, attempts
# to get out of web. Everything it made is removed at the end.
#
#   images/container/test.sh [--program FILE] [--base IMAGE]
#
# Needs podman with runc, as root, and lego. Without --base a Debian 12 is made by mmdebstrap, so that no
# registry is asked. The network is the host's loopback.
set -euo pipefail
cd "$(dirname "$0")/../.."

program=() base=
while [ $# -gt 0 ]; do
    case "$1" in
    --program) program=(--program "$2") ;;
    --base) base=$2 ;;
    *)
        echo "usage: $0 [--program FILE] [--base IMAGE]" >&2
        exit 2
        ;;
    esac
    shift 2
done
say() { printf '== %s (%ss)\n' "$*" "$SECONDS" >&2; }
own=chancery-test-$$
dir=$(mktemp -d)
engine=(podman --runtime runc)
limits=(--ulimit nofile=4096:4096 --ulimit nproc=4096:4096)
done_with() {
    "${engine[@]}" rm --force "$own-issuer" "$own-web" "$own-dns" >/dev/null 2>&1 || true
    "${engine[@]}" volume rm --force "$own-state" "$own-token" >/dev/null 2>&1 || true
    rm -rf "$dir"
}
trap done_with EXIT

if [ -z "$base" ]; then
    base=localhost/chancery-test-debian:bookworm
    if ! "${engine[@]}" image exists "$base"; then
        say "a Debian to begin with"
        mmdebstrap --quiet --variant=minbase bookworm "$dir/base.tar"
        "${engine[@]}" import --quiet "$dir/base.tar" "$base" >/dev/null
        rm "$dir/base.tar"
    fi
fi
say "the image"
images/container/build.sh "${program[@]}" --base "$base" \
    --engine "${engine[*]} build --quiet --network host ${limits[*]}" >/dev/null

# What compose.yaml says of both, but for the ports: the network here is the host's, so nothing leads there.
sandbox=("${limits[@]}" --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges:true --pids-limit 256)
image=localhost/chancery:latest
read -r https http challenge < <(python3 -c '
import socket
free = [socket.socket() for _ in range(3)]
for s in free: s.bind(("127.0.0.1", 0))
print(*(s.getsockname()[1] for s in free))')
sed -e "s|https://ca.example.internal|https://localhost:$https|; s|ca.example.internal|localhost|" \
    -e "s|\[::\]:8443|127.0.0.1:$https|; s|\[::\]:8080|127.0.0.1:$http|" \
    images/container/chancery.toml.example >"$dir/chancery.toml"
# Gives every name the loopback address; the only thing here that a box at home does not have.
"${engine[@]}" run --detach --name "$own-dns" "${sandbox[@]}" --network host $image lab dns >/dev/null
until dns=$("${engine[@]}" logs "$own-dns" | grep -m 1 .); do sleep 0.2; done
cat >>"$dir/chancery.toml" <<END

[validation]
http-port = $challenge
redirect-ports = [$challenge]
allow-loopback = true
resolvers = [{ zone = ".", servers = ["$dns"] }]
END
chmod 0755 "$dir" && chmod 0644 "$dir/chancery.toml"
issuer=("${sandbox[@]}" --user chancery-issuer --network none --env SOFTHSM2_CONF=/var/lib/chancery-token/softhsm2.conf
    --volume "$own-state:/var/lib/chancery" --volume "$own-token:/var/lib/chancery-token")
configuration=(--volume "$dir/chancery.toml:/etc/chancery/chancery.toml:ro")
pin=(--volume "$dir/pin:/run/secrets/pin:ro")

say "the token"
"${engine[@]}" run --rm "${issuer[@]}" --entrypoint /usr/share/chancery/hsm/sandbox.sh $image /var/lib/chancery-token >/dev/null
"${engine[@]}" run --rm "${issuer[@]}" --entrypoint cat $image /var/lib/chancery-token/pin >"$dir/pin"
chown 2991 "$dir/pin" && chmod 0400 "$dir/pin"
say "the ceremony"
"${engine[@]}" run --rm "${issuer[@]}" "${configuration[@]}" "${pin[@]}" $image \
    ceremony run /usr/share/chancery/hsm/ceremony/lab.toml --yes
say "both containers"
"${engine[@]}" run --detach --name "$own-issuer" "${issuer[@]}" "${configuration[@]}" "${pin[@]}" $image issuer >/dev/null
"${engine[@]}" run --detach --name "$own-web" "${sandbox[@]}" --user chancery-web --network host \
    --volume "$own-state:/var/lib/chancery" "${configuration[@]}" $image web >/dev/null
ready() { curl --silent --fail --output "$1" "http://127.0.0.1:$http/$2"; }
until ready /dev/null readyz; do
    if [ "$SECONDS" -gt 600 ]; then
        "${engine[@]}" logs --tail 20 "$own-issuer" >&2
        "${engine[@]}" logs --tail 20 "$own-web" >&2
        echo "the box is not ready" >&2
        exit 1
    fi
    sleep 1
done
"${engine[@]}" exec "$own-web" chancery status

say "a device"
ready "$dir/root.pem" root.pem
LEGO_CA_CERTIFICATES=$dir/root.pem lego --server "https://localhost:$https/acme/directory" --path "$dir/lego" \
    --email device@localhost --accept-tos --domains device.plant.lan --http --http.port "127.0.0.1:$challenge" run
openssl verify -CAfile "$dir/root.pem" -untrusted "$dir/lego/certificates/device.plant.lan.issuer.crt" \
    "$dir/lego/certificates/device.plant.lan.crt"
say "attempts to get out of web"
"${engine[@]}" exec "$own-web" chancery web --try-escape --target /run/secrets/pin --target /var/lib/chancery/issuer/log
say "done"
