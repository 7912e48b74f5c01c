#!/bin/sh
# Installs the programs that the tests check our output with, if they are missing: openssl
# with its PKCS #11 engine, GnuTLS's certtool, NSS's cmsutil and OpenSC's pkcs11-tool;
# p11-kit, which serves a token that can go away; the shells with completion; mandoc, which
# reads the manual pages; rsync, which copies stores; strace, which makes system calls fail;
# rsyslogd, journald and logrotate, which take records of use; xmllint, which reads reports; and shellcheck, for `make lint`.
# Does nothing, and needs no privileges, if all of them are installed already.
set -eu

# shellcheck source=scripts/packages.sh
. "$(dirname "$0")/packages.sh"

# Prints the names of the missing programs.
missing() {
	for program in openssl certtool cmsutil pkcs11-tool p11-kit bash zsh fish mandoc rsync strace rsyslogd logrotate systemd-journald xmllint shellcheck; do
		case $program in strace | rsyslogd | logrotate | systemd-journald)
			if [ "$(uname)" != Linux ]; then continue; fi ;;
		esac
		case $program in rsyslogd | logrotate) # which are for root
			if [ -x "/usr/sbin/$program" ]; then continue; fi ;;
		systemd-journald)
			if [ -x /usr/lib/systemd/systemd-journald ]; then continue; fi ;;
		esac
		command -v "$program" >/dev/null 2>&1 || printf '%s ' "$program"
	done
	if ! openssl engine pkcs11 >/dev/null 2>&1; then printf 'engine-pkcs11 '; fi
	for module in /usr/lib/*/pkcs11/p11-kit-client.so /usr/lib64/pkcs11/p11-kit-client.so \
		/usr/lib/pkcs11/p11-kit-client.so /opt/homebrew/lib/pkcs11/p11-kit-client.so; do
		if [ -f "$module" ]; then return; fi
	done
	printf 'p11-kit-client.so '
}

programs=$(missing)
if [ -z "$programs" ]; then exit 0; fi

say "missing: ${programs% }: installing"
install_packages "openssl libengine-pkcs11-openssl gnutls-bin libnss3-tools opensc p11-kit p11-kit-modules bash zsh fish mandoc rsync strace rsyslog logrotate systemd libxml2-utils shellcheck" "openssl openssl-pkcs11 gnutls-utils nss-tools opensc p11-kit p11-kit-server bash zsh fish mandoc rsync strace rsyslog logrotate systemd libxml2 ShellCheck" \
	"openssl libp11 gnutls-utils nss-tools opensc p11-kit p11-kit-server bash zsh fish mandoc rsync strace rsyslog logrotate systemd libxml2-tools shellcheck" "openssl libp11 gnutls nss opensc p11-kit bash zsh fish mandoc rsync libxml2 shellcheck" "install ${programs% } by hand"

programs=$(missing)
[ -z "$programs" ] || die "installed, but still not found: ${programs% }"
