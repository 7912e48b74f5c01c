#!/bin/sh
# Installs SoftHSM2 where it is missing, with the system's own package manager.
# Does nothing, and needs no rights, where it is there already. With --module it
# prints the path of the PKCS #11 module on stdout.
set -eu

say() { printf 'install-softhsm: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# The same places, in the same order of meaning, as FindModule in package softhsm.
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

# Runs a command as root.
as_root() {
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	elif command -v sudo >/dev/null 2>&1; then
		sudo "$@"
	else
		die "not root, and there is no sudo: run as root: $*"
	fi
}

apt_install() {
	as_root env DEBIAN_FRONTEND=noninteractive \
		apt-get install -y --no-install-recommends "$@"
}

found() {
	if [ "${1:-}" = --module ]; then echo "$module"; fi
	exit 0
}

if find_module; then found "$@"; fi

say "SoftHSM2 is missing: installing it"
failed="the installation failed: see the lines above; is there a network?"
if command -v apt-get >/dev/null 2>&1; then
	# The package lists of a fresh machine are empty or old: then, and only then,
	# the first try fails and they are fetched.
	apt_install softhsm2 >&2 || { as_root apt-get update >&2 && apt_install softhsm2 >&2; } || die "$failed"
elif command -v dnf >/dev/null 2>&1; then
	as_root dnf install -y softhsm >&2 || die "$failed"
elif command -v apk >/dev/null 2>&1; then
	as_root apk add --no-cache softhsm >&2 || die "$failed"
elif command -v brew >/dev/null 2>&1; then
	brew install softhsm >&2 || die "$failed" # brew refuses to run as root
else
	die "no known package manager (apt-get, dnf, apk, brew): install SoftHSM2 by hand, or set SOFTHSM2_MODULE to its libsofthsm2.so"
fi

if find_module; then found "$@"; fi
die "installed, but libsofthsm2.so is in none of the known places: set SOFTHSM2_MODULE to its path"
