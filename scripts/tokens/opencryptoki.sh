#!/usr/bin/env bash
# Runs a command with openCryptoki's software token, with a pkcsslotd of its own:
#
#     scripts/tokens/opencryptoki.sh DIR COMMAND [ARGUMENTS...]
#
# DIR is a directory that is empty or does not exist yet. openCryptoki has fixed places below
# /var/lib and /run and shared memory: for the command too, all of these are below DIR in
# namespaces of our own, which requires root. The machine's own tokens are not touched; the
# script refuses to run while one is in use. Several instances can run at a time.
#
# The environment of the command has HSMKEYS_MODULE, HSMKEYS_TOKEN, MATRIX_PIN and
# MATRIX_SO_PIN. MATRIX_STOP and MATRIX_START are programs for the command to run: the first
# stops pkcsslotd, the second starts it again. The exit status is the command's, or 125 if
# the token did not come up.
set -euo pipefail

# shellcheck source=scripts/tokens/daemons.sh
. "$(dirname "${BASH_SOURCE[0]}")/daemons.sh"

start() {
	rm -f /run/pkcsslotd.socket /run/pkcsslotd.pid
	daemon pkcsslotd pkcsslotd -f
	await pkcsslotd test -S /run/pkcsslotd.socket
}

# By force: while a program has the token open, nothing else stops pkcsslotd.
stop() {
	if running pkcsslotd; then kill -KILL "$(cat "$dir/pkcsslotd.pid")"; fi
	while running pkcsslotd; do sleep 0.05; done
	rm -f "$dir/pkcsslotd.pid"
}

# Mounts DIR's directories over those of the system, visible only to this process and its
# children. Everything else in /run stays reachable through links.
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
*[!A-Za-z0-9/._-]*) die "$dir: the path may contain only letters, digits and ._-" ;;
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
# Slot 3 is the software token. 87654321 and 12345678 are its default PINs, which it does
# not accept as new ones.
{
	printf '87654321\n%s\n' "$HSMKEYS_TOKEN" | pkcsconf -I -c 3 &&
		pkcsconf -P -c 3 -S 87654321 -n "$MATRIX_SO_PIN" &&
		pkcsconf -u -c 3 -S "$MATRIX_SO_PIN" -n "$MATRIX_PIN"
} >"$dir/init.log" 2>&1 || die "the token was not initialised: $(cat "$dir/init.log")"

run "$@"
