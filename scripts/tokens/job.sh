#!/usr/bin/env bash
# Runs the main job on the token that the environment names (see softhsm.sh and the others),
# a recovery from it to SoftHSM, and one back to it:
#
#     scripts/tokens/job.sh HSMKEYS
#
# HSMKEYS is the program. The exit status is 0 if everything worked.
set -euo pipefail

hsmkeys=$1
scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

export HSMKEYS_STORE=$work/store HSMKEYS_PIN_SOURCE=env:MATRIX_PIN XDG_STATE_HOME=$work/state
export XDG_CONFIG_HOME=$work/config XDG_CACHE_HOME=$work/cache
printf 'for the board\n' >letter

say() { printf -- '-- %s\n' "$*"; }
die() { printf 'job: %s\n' "$*" >&2; exit 1; }
on_token() { "$hsmkeys" "$@"; }

# Two additional SoftHSM tokens of our own: a backup authority's, and a spare.
softhsm=$("$scripts/install-softhsm.sh" --module)
mkdir tokens
printf 'directories.tokendir = %s/tokens\nobjectstore.backend = file\nlog.level = ERROR\n' "$work" >softhsm2.conf
on_softhsm() {
	local token=$1
	shift
	env -u HSMKEYS_SIGNING_KEY SOFTHSM2_CONF="$work/softhsm2.conf" HSMKEYS_MODULE="$softhsm" HSMKEYS_TOKEN="$token" "$hsmkeys" "$@"
}
for label in vault spare; do
	SOFTHSM2_CONF=$work/softhsm2.conf softhsm2-util --module "$softhsm" --init-token --free --label "$label" --so-pin 87654321 --pin "$MATRIX_PIN" >/dev/null
	on_softhsm "$label" init --pair-only --key-type rsa2048 >/dev/null
	on_softhsm "$label" certificate >"$label.pem"
done

say "found the keyring"
if [ -n "${MATRIX_ADOPT:-}" ]; then
	on_token init --adopt "$MATRIX_ADOPT"
	HSMKEYS_TOKEN="pkcs11:token=$HSMKEYS_TOKEN;object=${MATRIX_ADOPT// /%20}"
else
	on_token init --key-type "${MATRIX_KEY_TYPE:-rsa2048}"
fi
on_token certificate >owner.pem
signs=owner.pem
if [ -n "${HSMKEYS_SIGNING_KEY:-}" ]; then
	signs=owner-signs.pem
	on_token certificate --signing >"$signs"
fi
on_token authority add vault.pem --label vault --yes

say "the main job"
for key in payroll:aes256:wrap disk:aes128:encrypt mac:hmac-sha256:mac; do
	IFS=: read -r name algorithm purpose <<<"$key"
	on_token create "$name" --algorithm "$algorithm" --purpose "$purpose"
done
on_token show payroll
on_token encrypt --key payroll -o letter.age letter
on_token decrypt -o back letter.age
cmp letter back
[ "$(on_token reveal mac | wc -c)" -eq 32 ] || die "the revealed key has the wrong length"
on_token rotate payroll
on_token list
on_token verify
on_token verify --certificate "$signs"
on_token drill --prove

say "age"
ln -s "$hsmkeys" age-plugin-hsmkeys
age=$(cd "$scripts/.." && go tool -n filippo.io/age/cmd/age)
export PATH=$work:$PATH
on_token age identity >office.txt
on_token age recipient payroll >payroll.txt
"$age" -R payroll.txt -o key.age letter
"$age" -d -i office.txt key.age | cmp - letter
if on_token age recipient --pair >pair.txt 2>pair.err; then
	env -u HSMKEYS_MODULE -u HSMKEYS_TOKEN -u HSMKEYS_STORE "$age" -R pair.txt -o pair.age letter
	"$age" -d -i office.txt pair.age | cmp - letter
	"$age" -d -j hsmkeys pair.age | cmp - letter
else
	cat pair.err
	grep -q 'age has no recipient for a pair on P-' pair.err
fi

say "what must not work"
refused() { # STATUS COMMAND...
	local want=$1 got=0
	shift
	"$@" >refused.out 2>refused.err || got=$?
	sed 's/^/   /' refused.err
	[ "$got" -eq "$want" ] || die "exit status $got, expected $want: $*"
}
if on_token certificate --capi -o owner.blob 2>capi.err; then
	say "session keys from CryptoAPI"
	openssl rsa -pubin -inform MSBLOB -in owner.blob -pubout -out owner.rsa 2>/dev/null
	simple() { # ALG_ID PADDED: PUBLICKEYSTRUC, the other ALG_ID, and the ciphertext turned round
		openssl pkeyutl -encrypt -pubin -inkey owner.rsa -in session.key -out session.enc -pkeyopt "rsa_padding_mode:$2"
		# shellcheck disable=SC2059 # octal escapes
		printf "\\001\\002\\000\\000$1\\000\\000\\000\\244\\000\\000" >session.simple
		# shellcheck disable=SC2059 # the same
		od -An -v -tx1 -w1 session.enc | tac | while read -r byte; do printf "\\$(printf %03o "0x$byte")"; done >>session.simple
	}
	openssl rand -out session.key 32
	simple '\020\146' pkcs1
	on_token import aes --capi session.simple
	on_token reveal aes | cmp - session.key
	openssl rand -out session.key 24
	simple '\003\146' oaep
	on_token import 3des --capi session.simple --oaep
	on_token reveal 3des | cmp - session.key
	# A wrong padding and a wrong length yield the same answer. A module that hides wrong
	# padding (NSS) makes up a key, once in a few hundred tries of this length.
	refused 3 on_token import no --capi session.simple --check-value 000000
	cp refused.err no.err
	openssl rand -out session.key 23
	simple '\003\146' pkcs1
	refused 3 on_token import no --capi session.simple --check-value 000000
	cmp refused.err no.err
else
	grep -q RSA capi.err
fi

blob=$(echo store/keys/payroll/2.1.*.cms)
cp "$blob" swap
chmod u+w "$blob"
byte=$(od -An -tu1 -j700 -N1 swap)
# shellcheck disable=SC2059 # an octal escape
printf "\\$(printf %o $((byte ^ 1)))" | dd of="$blob" bs=1 seek=700 conv=notrunc status=none
refused 3 on_token show payroll
cat swap >"$blob"
on_token verify payroll
if [ "$(on_token --json show payroll | sed -n 's/.*"residence": "\(.*\)".*/\1/p')" = memory ]; then
	refused 5 on_token --require-token reveal payroll
fi

say "load"
on_token load mac --label "app $$" || [ $? -eq 5 ]

say "the token is lost: recovery to SoftHSM"
on_softhsm vault recover --from "$signs" --to spare.pem --label spare --reason "the token is lost" --yes
on_softhsm spare join --vouched-by vault.pem --yes
on_softhsm spare rewrap
on_softhsm spare decrypt letter.age | cmp - letter
on_softhsm spare verify

say "and back"
rm -rf state
on_softhsm vault recover --from spare.pem --to owner.pem ${HSMKEYS_SIGNING_KEY:+--signing-certificate "$signs"} --label again --reason "the token is found" --yes
on_token join --vouched-by vault.pem --yes
on_token rewrap
on_token decrypt letter.age | cmp - letter
on_token verify
say "done"
