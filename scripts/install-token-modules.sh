#!/bin/sh
# Installs the PKCS #11 modules that scripts/tokens starts, and the programs behind them, if
# they are missing: SoftHSM, openCryptoki, NSS, p11-kit, a TPM and a smart card, both
# emulated. Does nothing, and needs no privileges, if all of them are installed already.
set -eu

# shellcheck source=scripts/packages.sh
. "$(dirname "$0")/packages.sh"

# A package of apt, and what it is needed for: a program, or the end of the path of a
# library or a header.
needs="
softhsm2                program softhsm2-util
softhsm2                file    softhsm/libsofthsm2.so
opensc                  program pkcs11-tool
opensc-pkcs11           file    opensc-pkcs11.so
opencryptoki            program pkcsslotd
opencryptoki            program pkcsconf
opencryptoki            file    pkcs11/libopencryptoki.so
libnss3                 file    libsoftokn3.so
libnss3-tools           program certutil
p11-kit                 program p11-kit
p11-kit-modules         file    pkcs11/p11-kit-client.so
p11-kit-modules         file    p11-kit-proxy.so
swtpm                   program swtpm
tpm2-abrmd              program tpm2-abrmd
tpm2-tools              program tpm2_shutdown
dbus-daemon             program dbus-daemon
dbus-bin                program dbus-send
libtss2-tcti-tabrmd0    file    libtss2-tcti-tabrmd.so.0
libtpm2-pkcs11-1        file    pkcs11/libtpm2_pkcs11.so
libtpm2-pkcs11-tools    program tpm2_ptool
pcscd                   program pcscd
vsmartcard-vpcd         file    pcsc/drivers/serial/libifdvpcd.so
gcc                     program gcc
libc6-dev               file    stdio.h
pkg-config              program pkg-config
libcacard-dev           file    cacard/libcacard.h
util-linux              program unshare
procps                  program pgrep
"

PATH=$PATH:/usr/sbin:/sbin

# Reports whether a file whose path ends in the argument is among the libraries and headers.
find_file() {
	for file in /usr/lib/"$1" /usr/lib/*-linux-gnu*/"$1" /usr/lib64/"$1" /usr/include/"$1"; do
		if [ -e "$file" ]; then return 0; fi
	done
	return 1
}

# Prints the packages to install, each once.
missing() {
	echo "$needs" | while read -r package kind name; do
		case $kind in
		program) command -v "$name" >/dev/null 2>&1 || echo "$package" ;;
		file) find_file "$name" || echo "$package" ;;
		esac
	done | sort -u | tr '\n' ' '
}

packages=$(missing)
if [ -z "$packages" ]; then exit 0; fi

command -v apt-get >/dev/null 2>&1 ||
	die "these are Debian packages; install your system's equivalents by hand: $packages"

say "missing: ${packages% }: installing"
# apt-get is present, so the lists for the other package managers are not used.
install_packages "$packages" "" "" "" ""

packages=$(missing)
[ -z "$packages" ] || die "installed, but still not found: ${packages% }"
