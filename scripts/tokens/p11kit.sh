#!/usr/bin/env bash
# Runs a command with a remote token: a SoftHSM token of its own, served by
# `p11-kit server` on a socket, and p11-kit's client as the module at the other end.
# All files are below DIR, a directory that is empty or does not exist yet:
#
#     scripts/tokens/p11kit.sh DIR COMMAND [ARGUMENTS...]
#
# The environment of the command has HSMKEYS_MODULE, HSMKEYS_TOKEN, MATRIX_PIN,
# MATRIX_SO_PIN and P11_KIT_SERVER_ADDRESS. MATRIX_STOP and MATRIX_START are programs: the
# first stops the server, the second starts it again with the same token. The exit status
# is the command's, or 125 if the token did not come up.
set -euo pipefail

# shellcheck source=scripts/tokens/daemons.sh
. "$(dirname "${BASH_SOURCE[0]}")/daemons.sh"

start() {
	rm -f "$dir/socket"
	daemon p11-kit-server env SOFTHSM2_CONF="$dir/softhsm2.conf" \
		p11-kit server --foreground --name "$dir/socket" --provider "$provider" pkcs11:token=matrix
	await p11-kit-server test -S "$dir/socket"
}

stop() {
	end p11-kit-server
	rm -f "$dir/socket"
}

[ $# -ge 2 ] || die "usage: p11kit.sh DIR COMMAND [ARGUMENTS...]"
mkdir -p "$1" || die "cannot make $1"
dir=$(cd "$1" && pwd)
shift
# The path is written to configuration files and an address; that of a socket has at most
# 107 bytes.
case $dir in *[!A-Za-z0-9/._-]*) die "$dir: the path may contain only letters, digits and ._-" ;; esac
[ "${#dir}" -le 90 ] || die "$dir: the path is too long for a socket in it"

provider=$(first_file "${SOFTHSM2_MODULE:-}" /usr/lib/softhsm/libsofthsm2.so /usr/lib/*/softhsm/libsofthsm2.so \
	/usr/lib64/softhsm/libsofthsm2.so /usr/lib64/pkcs11/libsofthsm2.so) ||
	die "libsofthsm2.so is missing: run scripts/install-token-modules.sh"
module=$(first_file /usr/lib/*/pkcs11/p11-kit-client.so /usr/lib64/pkcs11/p11-kit-client.so) ||
	die "p11-kit-client.so is missing: run scripts/install-token-modules.sh"

case $1 in
--stop) stop; exit ;;
--start) start; exit ;;
esac
[ -z "$(ls -A "$dir")" ] || die "$dir is not empty"

export HSMKEYS_MODULE=$module HSMKEYS_TOKEN=matrix MATRIX_PIN=12345678 MATRIX_SO_PIN=87654321
export P11_KIT_SERVER_ADDRESS=unix:path=$dir/socket
export MATRIX_STOP=$dir/stop MATRIX_START=$dir/start
unset MATRIX_LABELS SOFTHSM2_CONF
for verb in stop start; do
	printf '#!/bin/sh\nexec %q %q --%s\n' "$(cd "$(dirname "$0")" && pwd)/p11kit.sh" "$dir" "$verb" >"$dir/$verb"
	chmod +x "$dir/$verb"
done

mkdir "$dir/tokens"
printf 'directories.tokendir = %s/tokens\nobjectstore.backend = file\nlog.level = ERROR\n' "$dir" >"$dir/softhsm2.conf"
SOFTHSM2_CONF=$dir/softhsm2.conf softhsm2-util --module "$provider" --init-token --free --label "$HSMKEYS_TOKEN" \
	--so-pin "$MATRIX_SO_PIN" --pin "$MATRIX_PIN" >"$dir/init.log" 2>&1 ||
	die "the token was not initialised: $(cat "$dir/init.log")"

trap stop EXIT
start
run "$@"
