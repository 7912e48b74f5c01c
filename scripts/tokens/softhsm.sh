#!/usr/bin/env bash
# Runs a command with a SoftHSM token of its own, below DIR, a directory that is empty or
# does not exist yet:
#
#     scripts/tokens/softhsm.sh DIR COMMAND [ARGUMENTS...]
#
# The environment of the command has HSMKEYS_MODULE, HSMKEYS_TOKEN, MATRIX_PIN,
# MATRIX_SO_PIN and SOFTHSM2_CONF. There is no daemon to stop. The exit status is the
# command's, or 125 if the token did not come up.
set -euo pipefail

# shellcheck source=scripts/tokens/daemons.sh
. "$(dirname "${BASH_SOURCE[0]}")/daemons.sh"

[ $# -ge 2 ] || die "usage: softhsm.sh DIR COMMAND [ARGUMENTS...]"
mkdir -p "$1" || die "cannot make $1"
dir=$(cd "$1" && pwd)
shift
[ -z "$(ls -A "$dir")" ] || die "$dir is not empty"
case $dir in *[!A-Za-z0-9/._-]*) die "$dir: the path may contain only letters, digits and ._-" ;; esac

module=$(first_file "${SOFTHSM2_MODULE:-}" /usr/lib/softhsm/libsofthsm2.so /usr/lib/*/softhsm/libsofthsm2.so \
	/usr/lib64/softhsm/libsofthsm2.so /usr/lib64/pkcs11/libsofthsm2.so) ||
	die "libsofthsm2.so is missing: run scripts/install-token-modules.sh"

export HSMKEYS_MODULE=$module HSMKEYS_TOKEN=matrix MATRIX_PIN=12345678 MATRIX_SO_PIN=87654321
export SOFTHSM2_CONF=$dir/softhsm2.conf
unset MATRIX_STOP MATRIX_START MATRIX_LABELS

mkdir "$dir/tokens"
printf 'directories.tokendir = %s/tokens\nobjectstore.backend = file\nlog.level = ERROR\n' "$dir" >"$SOFTHSM2_CONF"
softhsm2-util --module "$module" --init-token --free --label "$HSMKEYS_TOKEN" \
	--so-pin "$MATRIX_SO_PIN" --pin "$MATRIX_PIN" >"$dir/init.log" 2>&1 ||
	die "the token was not initialised: $(cat "$dir/init.log")"

exec "$@"
