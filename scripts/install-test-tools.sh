#!/bin/sh
# Installs the programs that the tests hold our output against, where they are
# missing: openssl, GnuTLS's certtool and OpenSC's pkcs11-tool. Does nothing, and
# needs no rights, where they are all there already.
set -eu

# shellcheck source=scripts/packages.sh
. "$(dirname "$0")/packages.sh"

# Prints the names of the missing programs.
missing() {
	for program in openssl certtool pkcs11-tool; do
		command -v "$program" >/dev/null 2>&1 || printf '%s ' "$program"
	done
}

programs=$(missing)
if [ -z "$programs" ]; then exit 0; fi

say "missing: ${programs% }: installing"
install_packages "openssl gnutls-bin opensc" "openssl gnutls-utils opensc" \
	"openssl gnutls-utils opensc" "openssl gnutls opensc" "install ${programs% } by hand"

programs=$(missing)
[ -z "$programs" ] || die "installed, but still not on the PATH: ${programs% }"
