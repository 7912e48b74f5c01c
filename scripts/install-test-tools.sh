#!/bin/sh
# Installs the programs that the tests hold our output against, where they are
# missing: openssl, GnuTLS's certtool and OpenSC's pkcs11-tool. Does nothing, and
# needs no rights, where they are all there already.
set -eu

say() { printf 'install-test-tools: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# Prints the names of the missing programs.
missing() {
	for program in openssl certtool pkcs11-tool; do
		command -v "$program" >/dev/null 2>&1 || printf '%s ' "$program"
	done
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

programs=$(missing)
if [ -z "$programs" ]; then exit 0; fi

say "missing: ${programs% }: installing"
failed="the installation failed: see the lines above; is there a network?"
if command -v apt-get >/dev/null 2>&1; then
	set -- openssl gnutls-bin opensc
	# The package lists of a fresh machine are empty or old: then, and only then,
	# the first try fails and they are fetched.
	apt_install "$@" >&2 || { as_root apt-get update >&2 && apt_install "$@" >&2; } || die "$failed"
elif command -v dnf >/dev/null 2>&1; then
	as_root dnf install -y openssl gnutls-utils opensc >&2 || die "$failed"
elif command -v apk >/dev/null 2>&1; then
	as_root apk add --no-cache openssl gnutls-utils opensc >&2 || die "$failed"
elif command -v brew >/dev/null 2>&1; then
	brew install openssl gnutls opensc >&2 || die "$failed" # brew refuses to run as root
else
	die "no known package manager (apt-get, dnf, apk, brew): install ${programs% } by hand"
fi

programs=$(missing)
[ -z "$programs" ] || die "installed, but still not on the PATH: ${programs% }"
