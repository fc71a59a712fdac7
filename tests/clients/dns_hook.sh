#!/usr/bin/env sh
# acme.sh sources this (`--dns dns_hook`); hook.sh does the work.
dns_hook_add() { "$HOOK" add "$1" "$2"; }
dns_hook_rm() { "$HOOK" rm "$1" "$2"; }
