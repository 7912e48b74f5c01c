#!/usr/bin/env bash
# Runs a command with NSS's softokn and a database of its own, behind p11-kit's proxy,
# since softokn does not start without parameters. All files are below DIR, a directory
# that is empty or does not exist yet:
#
#     scripts/tokens/nss.sh DIR COMMAND [ARGUMENTS...]
#
# p11-kit has fixed places for its configuration: ours is mounted over them, for the command
# only, in a mount namespace. So the proxy shows none of the machine's modules. Without root
# this needs a user namespace, in which the command sees itself as root.
#
# The environment of the command has HSMKEYS_MODULE, HSMKEYS_TOKEN and MATRIX_PIN. There is
# no security officer, and no daemon to stop. The exit status is the command's, or 125 if
# the token did not come up.
set -euo pipefail

# shellcheck source=scripts/tokens/daemons.sh
. "$(dirname "${BASH_SOURCE[0]}")/daemons.sh"

[ $# -ge 2 ] || die "usage: nss.sh DIR COMMAND [ARGUMENTS...]"
mkdir -p "$1" || die "cannot make $1"
dir=$(cd "$1" && pwd)
shift
[ -z "$(ls -A "$dir")" ] || die "$dir is not empty"
case $dir in *[!A-Za-z0-9/._-]*) die "$dir: the path may contain only letters, digits and ._-" ;; esac

softokn=$(first_file /usr/lib/*/libsoftokn3.so /usr/lib/*/nss/libsoftokn3.so /usr/lib64/libsoftokn3.so) ||
	die "libsoftokn3.so is missing: run scripts/install-token-modules.sh"
module=$(first_file /usr/lib/*/p11-kit-proxy.so /usr/lib64/p11-kit-proxy.so) ||
	die "p11-kit-proxy.so is missing: run scripts/install-token-modules.sh"

export HSMKEYS_MODULE=$module HSMKEYS_TOKEN='NSS Certificate DB' MATRIX_PIN=12345678
unset MATRIX_SO_PIN MATRIX_STOP MATRIX_START MATRIX_LABELS

mkdir "$dir/db" "$dir/modules" "$dir/none"
echo "$MATRIX_PIN" >"$dir/pin"
certutil -N -d "sql:$dir/db" -f "$dir/pin" >"$dir/init.log" 2>&1 ||
	die "the database was not made: $(cat "$dir/init.log")"
cat >"$dir/modules/nss.module" <<-END
	module: $softokn
	x-init-reserved: configdir='sql:$dir/db' certPrefix='' keyPrefix='' secmod='' flags=
END

namespace=(unshare --mount)
[ "$(id -u)" -eq 0 ] || namespace=(unshare --map-root-user --mount)
# shellcheck disable=SC2016 # the inner shell's parameters
exec "${namespace[@]}" sh -c '
	dir=$1 && shift
	{
		mount --bind "$dir/modules" /usr/share/p11-kit/modules &&
			if [ -d /etc/pkcs11/modules ]; then mount --bind "$dir/none" /etc/pkcs11/modules; fi
	} >"$dir/mount.log" 2>&1 ||
		{ echo "tokens/nss: the configuration was not mounted: $(cat "$dir/mount.log")" >&2; exit 125; }
	exec "$@"' sh "$dir" "$@"
