# shellcheck shell=sh
# Sourced by the scripts that install packages: uses the system's own package manager.

say() { printf '%s: %s\n' "$(basename "$0" .sh)" "$*" >&2; }
die() { say "$*"; exit 1; }

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
	# shellcheck disable=SC2086 # a list of packages
	as_root env DEBIAN_FRONTEND=noninteractive \
		apt-get install -y --no-install-recommends $1
}

# install_packages APT DNF APK BREW OTHERWISE: installs the packages, named for each package
# manager in one word; OTHERWISE is the message if there is no known package manager.
install_packages() {
	failed="the installation failed: see the lines above; is there a network?"
	# shellcheck disable=SC2086 # lists of packages
	if command -v apt-get >/dev/null 2>&1; then
		# If the package lists are empty or old, as on a fresh machine, the first try
		# fails; only then are they fetched.
		apt_install "$1" >&2 || { as_root apt-get update >&2 && apt_install "$1" >&2; } || die "$failed"
	elif command -v dnf >/dev/null 2>&1; then
		as_root dnf install -y $2 >&2 || die "$failed"
	elif command -v apk >/dev/null 2>&1; then
		as_root apk add --no-cache $3 >&2 || die "$failed"
	elif command -v brew >/dev/null 2>&1; then
		brew install $4 >&2 || die "$failed" # brew refuses to run as root
	else
		die "no known package manager (apt-get, dnf, apk, brew): $5"
	fi
}
