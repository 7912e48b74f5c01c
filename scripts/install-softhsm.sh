#!/bin/sh
# Installs SoftHSM2 if it is missing, with the system's own package manager. Does nothing,
# and needs no privileges, if it is installed already. With --module it prints the path of
# the PKCS #11 module on stdout.
set -eu

# shellcheck source=scripts/packages.sh
. "$(dirname "$0")/packages.sh"

# The same places, with the same precedence, as FindModule in package softhsm.
find_module() {
	if [ -n "${SOFTHSM2_MODULE:-}" ]; then
		[ -f "$SOFTHSM2_MODULE" ] ||
			die "SOFTHSM2_MODULE names $SOFTHSM2_MODULE, which is not a file: correct it, or unset it to have SoftHSM2 found or installed"
		module=$SOFTHSM2_MODULE
		return 0
	fi
	for module in \
		/usr/lib/softhsm/libsofthsm2.so \
		/usr/lib64/softhsm/libsofthsm2.so \
		/usr/lib64/pkcs11/libsofthsm2.so \
		/usr/lib64/libsofthsm2.so \
		/usr/lib/pkcs11/libsofthsm2.so \
		/usr/lib/*/softhsm/libsofthsm2.so \
		/usr/local/lib/softhsm/libsofthsm2.so \
		/opt/homebrew/lib/softhsm/libsofthsm2.so \
		/home/linuxbrew/.linuxbrew/lib/softhsm/libsofthsm2.so \
		/run/current-system/sw/lib/softhsm/libsofthsm2.so; do
		if [ -f "$module" ]; then return 0; fi
	done
	return 1
}

found() {
	if [ "${1:-}" = --module ]; then echo "$module"; fi
	exit 0
}

if find_module; then found "$@"; fi

say "SoftHSM2 is missing: installing it"
install_packages softhsm2 softhsm softhsm softhsm \
	"install SoftHSM2 by hand, or set SOFTHSM2_MODULE to its libsofthsm2.so"

if find_module; then found "$@"; fi
die "installed, but libsofthsm2.so is not in any known place: set SOFTHSM2_MODULE to its path"
