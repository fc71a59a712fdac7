#!/usr/bin/env bash
# What an operator's hook would do, for the clients that leave challenges to one. It publishes
#
#   http-01      a file below $HOOK_WWW/.well-known/acme-challenge
#   dns-01       a TXT line in $HOOK_RECORDS/_acme-challenge.NAME, which `chancery lab dns` reads
#   tls-alpn-01  the client's own challenge certificate, by `openssl s_server` at $HOOK_TLS
#
# Each client calls its hook in its own way; `case` below knows them all.
set -euo pipefail

publish() { # METHOD NAME TOKEN VALUE
    case "$1" in
    http-01) printf '%s' "$4" >"$HOOK_WWW/.well-known/acme-challenge/$3" ;;
    dns-01) printf 'TXT %s\n' "$4" >>"$HOOK_RECORDS/_acme-challenge.$2" ;;
    *) exit 1 ;;
    esac
}

remove() { # METHOD NAME TOKEN
    case "$1" in
    http-01) rm -f "$HOOK_WWW/.well-known/acme-challenge/$3" ;;
    dns-01) rm -f "$HOOK_RECORDS/_acme-challenge.$2" ;;
    esac
}

case "$1" in
# lego (exec): present|cleanup _acme-challenge.NAME. VALUE
present | cleanup)
    name=${2#_acme-challenge.}
    name=${name%.}
    if [ "$1" = present ]; then publish dns-01 "$name" - "$3"; else remove dns-01 "$name" -; fi
    ;;
# dehydrated: deploy_challenge|clean_challenge NAME TOKEN VALUE; the method is known from its configuration.
deploy_challenge)
    if [ "${CHALLENGETYPE:-}" = tls-alpn-01 ]; then
        openssl s_server -quiet -accept "$HOOK_TLS" -alpn acme-tls/1 -naccept 8 \
            -cert "$PWD/alpn-certs/$2.crt.pem" -key "$PWD/alpn-certs/$2.key.pem" </dev/null >/dev/null 2>&1 &
        echo $! >"$PWD/s_server.pid"
        sleep 0.3
    else
        publish "${CHALLENGETYPE:-dns-01}" "$2" "$3" "$4"
    fi
    ;;
clean_challenge)
    if [ -e "$PWD/s_server.pid" ]; then
        kill "$(cat "$PWD/s_server.pid")" 2>/dev/null || true
        rm "$PWD/s_server.pid"
    else
        remove "${CHALLENGETYPE:-dns-01}" "$2" "$3"
    fi
    ;;
# uacme: begin|done|failed METHOD NAME TOKEN VALUE; exit code 1 declines a method.
begin)
    [ -z "${HOOK_METHOD:-}" ] || [ "$2" = "$HOOK_METHOD" ] || exit 1
    publish "$2" "$3" "$4" "$5"
    ;;
done | failed) remove "$2" "$3" "$4" ;;
# certbot: what it is about stands in the environment.
certbot) publish dns-01 "$CERTBOT_DOMAIN" - "$CERTBOT_VALIDATION" ;;
# mod_md: setup|teardown NAME VALUE
setup) publish dns-01 "$2" - "$3" ;;
teardown) remove dns-01 "$2" - ;;
# acme.sh (through dns_hook.sh): add|rm _acme-challenge.NAME VALUE
add) publish dns-01 "${2#_acme-challenge.}" - "$3" ;;
rm) remove dns-01 "${2#_acme-challenge.}" - ;;
# dehydrated calls its hook for much else.
*) : ;;
esac
