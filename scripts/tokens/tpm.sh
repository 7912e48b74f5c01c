#!/usr/bin/env bash
# Runs a command with a TPM 2.0: swtpm, the resource manager tpm2-abrmd on a bus of our
# own, and tpm2-pkcs11 as the module. All files are below DIR, a directory that is empty or
# does not exist yet:
#
#     scripts/tokens/tpm.sh DIR COMMAND [ARGUMENTS...]
#
# The environment of the command has HSMKEYS_MODULE, HSMKEYS_TOKEN, MATRIX_PIN and
# MATRIX_SO_PIN, and for the module TPM2_PKCS11_STORE, TPM2_PKCS11_TCTI and
# DBUS_SESSION_BUS_ADDRESS. MATRIX_STOP and MATRIX_START are programs: the first takes the
# TPM away, the second brings it back with the same state. The exit status is the command's,
# or 125 if the TPM did not come up.
set -euo pipefail

# shellcheck source=scripts/tokens/daemons.sh
. "$(dirname "${BASH_SOURCE[0]}")/daemons.sh"

# swtpm needs two ports.
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

start() {
	local port
	port=$(free_ports)
	echo "$port" >"$dir/port"
	rm -f "$dir/swtpm.up"
	# It writes its PID file once it serves both ports.
	daemon swtpm swtpm socket --tpm2 --tpmstate "dir=$dir/state" --flags not-need-init,startup-clear \
		--server "type=tcp,port=$port" --ctrl "type=tcp,port=$((port + 1))" --pid "file=$dir/swtpm.up"
	await swtpm test -s "$dir/swtpm.up"
	# Without the resource manager the TPM runs out of object contexts. It refuses to run as
	# root or on the session bus unless it is told to.
	daemon tpm2-abrmd tpm2-abrmd --allow-root --session --tcti "swtpm:host=127.0.0.1,port=$port"
	await tpm2-abrmd dbus-send --session --print-reply --dest=com.intel.tss2.Tabrmd \
		/com/intel/tss2/Tabrmd/Tcti org.freedesktop.DBus.Peer.Ping
}

# A TPM counts a missing shutdown as a wrong PIN, and tolerates few of those.
stop() {
	end tpm2-abrmd
	if running swtpm; then
		timeout 5 tpm2_shutdown --clear --tcti "swtpm:host=127.0.0.1,port=$(cat "$dir/port")" >"$dir/shutdown.log" 2>&1 ||
			say "the TPM was not shut down: $(cat "$dir/shutdown.log")"
	fi
	end swtpm
}

[ $# -ge 2 ] || die "usage: tpm.sh DIR COMMAND [ARGUMENTS...]"
mkdir -p "$1" || die "cannot make $1"
dir=$(cd "$1" && pwd)
shift
# The path is written to configuration files and an address; that of a socket has at most
# 107 bytes.
case $dir in *[!A-Za-z0-9/._-]*) die "$dir: the path may contain only letters, digits and ._-" ;; esac
[ "${#dir}" -le 90 ] || die "$dir: the path is too long for a socket in it"
PATH=$PATH:/usr/sbin

module=$(first_file /usr/lib/*/pkcs11/libtpm2_pkcs11.so /usr/lib64/pkcs11/libtpm2_pkcs11.so) ||
	die "libtpm2_pkcs11.so is missing: run scripts/install-token-modules.sh"
export DBUS_SESSION_BUS_ADDRESS=unix:path=$dir/bus

case $1 in
--stop) stop; exit ;;
--start) start; exit ;;
esac
[ -z "$(ls -A "$dir")" ] || die "$dir is not empty"

export HSMKEYS_MODULE=$module HSMKEYS_TOKEN=matrix MATRIX_PIN=12345678 MATRIX_SO_PIN=87654321
export TPM2_PKCS11_STORE=$dir/store
export TPM2_PKCS11_TCTI=tabrmd:bus_type=session TPM2TOOLS_TCTI=tabrmd:bus_type=session
# Both log every mechanism that they do not support.
export TPM2_PKCS11_LOG_LEVEL=${TPM2_PKCS11_LOG_LEVEL:-0} TSS2_LOG=${TSS2_LOG:-all+NONE}
export MATRIX_STOP=$dir/stop MATRIX_START=$dir/start
unset MATRIX_LABELS
for verb in stop start; do
	printf '#!/bin/sh\nexec %q %q --%s\n' "$(cd "$(dirname "$0")" && pwd)/tpm.sh" "$dir" "$verb" >"$dir/$verb"
	chmod +x "$dir/$verb"
done
mkdir "$dir/state" "$dir/store"

trap 'stop; end dbus-daemon' EXIT
trap 'exit 143' INT TERM HUP
daemon dbus-daemon dbus-daemon --session --nofork --nopidfile --address "$DBUS_SESSION_BUS_ADDRESS"
await dbus-daemon test -S "$dir/bus"
start
{
	# Like a TPM as shipped; by default three wrong PINs lock swtpm.
	tpm2_dictionarylockout --setup-parameters --max-tries 32 --recovery-time 600 --lockout-recovery-time 600 &&
		tpm2_ptool init &&
		tpm2_ptool addtoken --pid 1 --label "$HSMKEYS_TOKEN" --sopin "$MATRIX_SO_PIN" --userpin "$MATRIX_PIN"
} >"$dir/init.log" 2>&1 || die "the token was not initialised: $(cat "$dir/init.log")"

run "$@"
