#!/usr/bin/env bash
# Runs a command with a smart card: a CAC card, emulated by vcard.c, in a reader that
# vpcd emulates in a pcscd of our own, with OpenSC as the module. All files are below DIR, a
# directory that is empty or does not exist yet:
#
#     scripts/tokens/card.sh DIR COMMAND [ARGUMENTS...]
#
# Objects cannot be created on the card. It comes with three RSA-2048 pairs and
# certificates, like a card that was issued. The environment of the command has
# HSMKEYS_MODULE, HSMKEYS_TOKEN, MATRIX_PIN, MATRIX_LABELS, the labels of the pairs, one per
# line, and PCSCLITE_CSOCK_NAME. MATRIX_STOP and MATRIX_START are programs: the first pulls
# the card, the second inserts it again. The exit status is the command's, or 125 if the
# card did not come up.
set -euo pipefail

# shellcheck source=scripts/tokens/daemons.sh
. "$(dirname "${BASH_SOURCE[0]}")/daemons.sh"

# Reports whether the module sees the card. shellcheck cannot tell what await runs.
# shellcheck disable=SC2317
present() { timeout 5 pkcs11-tool --module "$module" --list-token-slots 2>/dev/null | grep -q 'token label'; }
# shellcheck disable=SC2317
absent() { ! present; }

insert() {
	daemon vcard "$dir/vcard" "sql:$dir/db" "$(cat "$dir/port")" matrix signature encryption
	await vcard present
}

# pcscd looks for the card a few times a second.
pull() {
	end vcard
	await pcscd absent
}

# A reader needs two ports next to each other, for its two slots.
free_ports() {
	local port
	while :; do
		port=$((10000 + RANDOM % 20000))
		if ! (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null &&
			! (: <"/dev/tcp/127.0.0.1/$((port + 1))") 2>/dev/null; then
			echo "$port"
			return
		fi
	done
}

# pcscd's socket has a fixed place below /run, and pcscd uses every reader that it has a
# driver for: so it gets a /run of its own, and no driver but vpcd's.
start_pcscd() {
	local port namespace=(unshare --mount)
	[ "$(id -u)" -eq 0 ] || namespace=(unshare --map-root-user --mount)
	port=$(free_ports)
	echo "$port" >"$dir/port"
	printf 'FRIENDLYNAME "matrix"\nDEVICENAME   /dev/null:0x%x\nLIBPATH      %s\nCHANNELID    0x%x\n' \
		"$port" "$dir/libifdvpcd.so" "$port" >"$dir/readers/vpcd"
	# shellcheck disable=SC2016 # the inner shell's parameters
	daemon pcscd "${namespace[@]}" sh -c 'mount --bind "$1/run" /run && mount --bind "$1/none" /usr/lib/pcsc/drivers &&
		exec pcscd --foreground --error --config "$1/readers"' sh "$dir"
	await pcscd test -S "$dir/run/pcscd/pcscd.comm"
}

[ $# -ge 2 ] || die "usage: card.sh DIR COMMAND [ARGUMENTS...]"
mkdir -p "$1" || die "cannot make $1"
dir=$(cd "$1" && pwd -P)
shift
# The path is written to configuration files; that of a socket has at most 107 bytes.
case $dir in
*[!A-Za-z0-9/._-]*) die "$dir: the path may contain only letters, digits and ._-" ;;
/run/*) die "$dir: pcscd does not find it below /run" ;;
esac
[ "${#dir}" -le 80 ] || die "$dir: the path is too long for a socket in it"
here=$(cd "$(dirname "$0")" && pwd)
PATH=$PATH:/usr/sbin

driver=$(first_file /usr/lib/pcsc/drivers/serial/libifdvpcd.so) ||
	die "libifdvpcd.so is missing: run scripts/install-token-modules.sh"
module=$(first_file /usr/lib/*/opensc-pkcs11.so /usr/lib64/opensc-pkcs11.so) ||
	die "opensc-pkcs11.so is missing: run scripts/install-token-modules.sh"
export PCSCLITE_CSOCK_NAME=$dir/run/pcscd/pcscd.comm

case $1 in
--stop) pull; exit ;;
--start) insert; exit ;;
esac
[ -z "$(ls -A "$dir")" ] || die "$dir is not empty"

export HSMKEYS_MODULE=$module HSMKEYS_TOKEN=matrix MATRIX_PIN=12345678
for verb in stop start; do
	printf '#!/bin/sh\nexec %q %q --%s\n' "$here/card.sh" "$dir" "$verb" >"$dir/$verb"
	chmod +x "$dir/$verb"
done
mkdir "$dir/db" "$dir/run" "$dir/none" "$dir/readers"
cp "$driver" "$dir/libifdvpcd.so"

# The card uses the database's password as its PIN, OpenSC the first certificate's name as
# the token's label; the certificates' key usage determines what the pairs are for.
# shellcheck disable=SC2046 # a list of flags
make_card() {
	local serial=0 nickname usage
	gcc -O1 -Wall -o "$dir/vcard" "$here/vcard.c" $(pkg-config --cflags --libs libcacard) || return
	echo "$MATRIX_PIN" >"$dir/pin"
	head -c 64 /dev/urandom >"$dir/noise"
	certutil -N -d "sql:$dir/db" -f "$dir/pin" || return
	while read -r nickname usage; do
		serial=$((serial + 1))
		certutil -S -d "sql:$dir/db" -f "$dir/pin" -z "$dir/noise" -x -t ,, -k rsa -g 2048 \
			-n "$nickname" -s "CN=$nickname" -m "$serial" -v 120 --keyUsage "$usage" || return
	done <<-END
		matrix digitalSignature,nonRepudiation,keyEncipherment,dataEncipherment
		signature digitalSignature,nonRepudiation
		encryption keyEncipherment,dataEncipherment
	END
}
make_card >"$dir/setup.log" 2>&1 || die "the card was not made: $(cat "$dir/setup.log")"

trap 'end vcard; end pcscd' EXIT
trap 'exit 143' INT TERM HUP
start_pcscd
insert

export MATRIX_STOP=$dir/stop MATRIX_START=$dir/start
export MATRIX_LABELS='CAC ID Certificate
CAC Email Signature Certificate
CAC Email Encryption Certificate'
unset MATRIX_SO_PIN
run "$@"
