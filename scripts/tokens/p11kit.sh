#!/usr/bin/env bash
# Runs a command with a remote token: a SoftHSM token of its own, served by
# `p11-kit server` on a socket, and p11-kit's client as the module at the other end.
# All of it lies below DIR, a directory that is empty or not there yet:
#
#     scripts/tokens/p11kit.sh DIR COMMAND [ARGUMENTS...]
#
# The command finds HSMKEYS_MODULE, HSMKEYS_TOKEN, MATRIX_PIN and MATRIX_SO_PIN in its
# environment, and P11_KIT_SERVER_ADDRESS. MATRIX_STOP and MATRIX_START are programs:
# the first ends the server, the second starts it again with the same token. The exit
# status is the command's, or 125 where the token did not come up.
set -euo pipefail

say() { printf 'tokens/p11kit: %s\n' "$*" >&2; }
die() { say "$*"; exit 125; }

# The first of these files that is there.
first_file() { local file; for file; do if [ -f "$file" ]; then echo "$file"; return; fi; done; return 1; }

# running NAME: a daemon that nobody has waited for yet is not running any more.
running() {
	local pid
	pid=$(cat "$dir/$1.pid" 2>/dev/null) && kill -0 "$pid" 2>/dev/null &&
		! grep -q '^State:[[:space:]]*Z' "/proc/$pid/status" 2>/dev/null
}

# daemon NAME COMMAND...: starts one that outlives this shell, its output in NAME.log.
daemon() {
	local name=$1
	shift
	setsid "$@" </dev/null >"$dir/$name.log" 2>&1 &
	echo $! >"$dir/$name.pid"
	disown # or bash tells when it was ended
}

# await NAME COMMAND...: until the command succeeds, for ten seconds.
await() {
	local name=$1 deadline=$((SECONDS + 10))
	shift
	while [ "$SECONDS" -le "$deadline" ]; do
		if "$@" >/dev/null 2>&1; then return; fi
		running "$name" || break
		sleep 0.1
	done
	say "waited for $name in vain; its log:"
	cat "$dir/$name.log" >&2
	exit 125
}

# end NAME: ends a daemon of ours and its children, which serve a connection each; by
# force after five seconds.
end() {
	local i signal=TERM
	for ((i = 0; i < 100; i++)); do
		running "$1" || break
		if [ "$i" -eq 50 ]; then signal=KILL; fi
		if [ $((i % 50)) -eq 0 ]; then kill -"$signal" -- "-$(cat "$dir/$1.pid")" 2>/dev/null || true; fi
		sleep 0.1
	done
	rm -f "$dir/$1.pid"
}

# Runs the command; a signal that reaches only us is handed on to it.
run() {
	local status=0
	"$@" <&0 &
	child=$!
	trap 'kill "$child" 2>/dev/null || true; wait "$child" || true; exit 143' INT TERM HUP
	wait "$child" || status=$?
	exit "$status"
}

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
# The path stands in configuration files and in an address; a socket's has 107 bytes.
case $dir in *[!A-Za-z0-9/._-]*) die "$dir: only letters, digits and ._- may stand in the path" ;; esac
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
