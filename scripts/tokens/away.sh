#!/usr/bin/env bash
# Takes the token away in the middle of an operation over many keys, and brings it back
# (MATRIX_STOP, MATRIX_START, see p11kit.sh and the others):
#
#     scripts/tokens/away.sh HSMKEYS
#
# The operation must succeed by itself; if it cannot, it must leave nothing half-written and
# succeed when it is run again. The last line on stdout says which of the two happened.
set -euo pipefail

hsmkeys=$1
scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
keys=${MATRIX_KEYS:-60}

export HSMKEYS_STORE=$work/store HSMKEYS_PIN_SOURCE=env:MATRIX_PIN XDG_STATE_HOME=$work/state XDG_CONFIG_HOME=$work/config

die() { printf 'away: %s\n' "$*" >&2; exit 1; }
rewrapped() { find store/keys -name '1.2.*.cms' | wc -l; } # so far, recorded or not

if [ -n "${MATRIX_ADOPT:-}" ]; then
	"$hsmkeys" init --adopt "$MATRIX_ADOPT" >&2
	HSMKEYS_TOKEN="pkcs11:token=$HSMKEYS_TOKEN;object=${MATRIX_ADOPT// /%20}"
else
	"$hsmkeys" init --key-type rsa2048 >&2
fi
for ((i = 0; i < keys; i++)); do "$hsmkeys" create "key$i" >/dev/null 2>&1; done

mkdir tokens
softhsm=$("$scripts/install-softhsm.sh" --module)
printf 'directories.tokendir = %s/tokens\nobjectstore.backend = file\nlog.level = ERROR\n' "$work" >softhsm2.conf
SOFTHSM2_CONF=$work/softhsm2.conf softhsm2-util --module "$softhsm" --init-token --free --label vault --so-pin 87654321 --pin "$MATRIX_PIN" >/dev/null
vault() {
	env -u HSMKEYS_SIGNING_KEY SOFTHSM2_CONF="$work/softhsm2.conf" HSMKEYS_MODULE="$softhsm" HSMKEYS_TOKEN=vault "$hsmkeys" "$@"
}
vault init --pair-only --key-type rsa2048 >/dev/null
vault certificate >vault.pem
"$hsmkeys" authority add vault.pem --label vault --yes >/dev/null

"$hsmkeys" rewrap >rewrap.log 2>&1 &
rewrap=$!
while [ "$(rewrapped)" -lt 3 ]; do
	kill -0 "$rewrap" 2>/dev/null || break
	sleep 0.005
done
"$MATRIX_STOP" >&2 2>&1
at=$(rewrapped)
sleep 1
"$MATRIX_START" >&2 2>&1
outcome="came back by itself"
if ! wait "$rewrap"; then
	sed 's/^/   /' rewrap.log >&2
	outcome="ended with an error, and was run again"
	"$hsmkeys" rewrap >&2 || die "rewrap fails after the token is back"
fi
[ "$at" -lt "$keys" ] || outcome="was too fast to be disturbed"
recorded=$("$hsmkeys" list --json 2>/dev/null | grep -c '"revision": 2,')
[ "$recorded" -eq "$keys" ] || die "$recorded of $keys keys are rewrapped"
[ "$(find store -name '.*' -type f | wc -l)" -eq 0 ] || die "something is half-written"
"$hsmkeys" verify >/dev/null || die "verify fails"
printf '%s (taken away after %d of %d keys)\n' "$outcome" "$at" "$keys"
