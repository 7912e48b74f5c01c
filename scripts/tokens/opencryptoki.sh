#!/usr/bin/env bash
# Runs a command with openCryptoki's software token, with a pkcsslotd of its own:
#
#     scripts/tokens/opencryptoki.sh DIR COMMAND [ARGUMENTS...]
#
# DIR is a directory that is empty or not there yet. openCryptoki has fixed places below
# /var/lib and /run and shared memory: all of these, for the command too, lie below DIR
# in namespaces of our own, which takes root. A token of the machine's is not touched;
# where one is in use it refuses all the same. Several of ours can run at a time.
#
# The command finds HSMKEYS_MODULE, HSMKEYS_TOKEN, MATRIX_PIN and MATRIX_SO_PIN in its
# environment. MATRIX_STOP and MATRIX_START are programs, to be run by the command: the
# first ends pkcsslotd, the second starts it again. The exit status is the command's, or
# 125 where the token did not come up.
set -euo pipefail

# shellcheck source=scripts/tokens/daemons.sh
. "$(dirname "${BASH_SOURCE[0]}")/daemons.sh"

start() {
	rm -f /run/pkcsslotd.socket /run/pkcsslotd.pid
	daemon pkcsslotd pkcsslotd -f
	await pkcsslotd test -S /run/pkcsslotd.socket
}

# By force: while a program has the token open, pkcsslotd does not end for less.
stop() {
	if running pkcsslotd; then kill -KILL "$(cat "$dir/pkcsslotd.pid")"; fi
	while running pkcsslotd; do sleep 0.05; done
	rm -f "$dir/pkcsslotd.pid"
}

# Lays DIR's directories over those of the system, as far as this process and its
# children see. What else is in /run stays, by way of links.
mount_ours() {
	local file
	mkdir "$dir/lib" "$dir/run" "$dir/run.system" "$dir/log"
	cp -a /var/lib/opencryptoki/. "$dir/lib"
	find "$dir/lib" -type f -delete # a token of the machine's
	mkdir -p "$dir/lib/swtok/TOK_OBJ"
	chgrp -R pkcs11 "$dir/lib"
	chmod -R u=rwX,g=rwX,o= "$dir/lib"
	mount --bind "$dir/lib" /var/lib/opencryptoki

	mount --rbind /run "$dir/run.system"
	mount --bind "$dir/run" /run
	for file in "$dir"/run.system/*; do
		case ${file##*/} in
		pkcsslotd.* | lock | opencryptoki | '*') ;;
		*) ln -s "$file" /run/ ;;
		esac
	done
	mkdir -m 1777 /run/lock
	(
		umask 007
		mkdir -p /run/lock/opencryptoki/swtok
		chgrp -R pkcs11 /run/lock/opencryptoki
	)

	mount -t tmpfs -o mode=1777 tmpfs /dev/shm
}

[ $# -ge 2 ] || die "usage: opencryptoki.sh DIR COMMAND [ARGUMENTS...]"
mkdir -p "$1" || die "cannot make $1"
dir=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
shift
case $dir in
*[!A-Za-z0-9/._-]*) die "$dir: only letters, digits and ._- may stand in the path" ;;
/run/* | /var/run/* | /dev/shm/*) die "$dir: not below /run or /dev/shm, which are replaced" ;;
esac
PATH=$PATH:/usr/sbin

module=$(first_file /usr/lib/*/pkcs11/libopencryptoki.so /usr/lib64/pkcs11/libopencryptoki.so) ||
	die "libopencryptoki.so is missing: run scripts/install-token-modules.sh"

case $1 in
--stop) stop; exit ;;
--start) start; exit ;;
esac

if [ "${1:-}" != --inside ]; then
	[ -z "$(ls -A "$dir")" ] || die "$dir is not empty"
	[ "$(id -u)" -eq 0 ] || die "not root: openCryptoki's places cannot be kept apart from the machine's"
	for pid in $(pgrep -x pkcsslotd); do
		[ "$(readlink "/proc/$pid/ns/ipc")" != "$(readlink /proc/self/ns/ipc)" ] ||
			die "the machine's own pkcsslotd is running, process $pid: stop it first"
	done
	exec unshare --mount --ipc "$here/opencryptoki.sh" "$dir" --inside "$@"
fi
shift
mount_ours 2>"$dir/mount.log" || die "the directories were not mounted: $(cat "$dir/mount.log")"

export HSMKEYS_MODULE=$module HSMKEYS_TOKEN=matrix MATRIX_PIN=23456789 MATRIX_SO_PIN=76543210
export MATRIX_STOP=$dir/stop MATRIX_START=$dir/start
unset MATRIX_LABELS
for verb in stop start; do
	printf '#!/bin/sh\nexec %q %q --%s\n' "$here/opencryptoki.sh" "$dir" "$verb" >"$dir/$verb"
	chmod +x "$dir/$verb"
done

trap stop EXIT
trap 'exit 143' INT TERM HUP
start
# Slot 3 is the software token. 87654321 and 12345678 are the PINs that it comes with,
# and refuses as new ones.
{
	printf '87654321\n%s\n' "$HSMKEYS_TOKEN" | pkcsconf -I -c 3 &&
		pkcsconf -P -c 3 -S 87654321 -n "$MATRIX_SO_PIN" &&
		pkcsconf -u -c 3 -S "$MATRIX_SO_PIN" -n "$MATRIX_PIN"
} >"$dir/init.log" 2>&1 || die "the token was not initialised: $(cat "$dir/init.log")"

run "$@"
