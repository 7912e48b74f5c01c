# shellcheck shell=sh
# Read by the scripts that install something: the system's own package manager.

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

# install_packages APT DNF APK BREW OTHERWISE: the names of the packages for each
# package manager, in one word, and what to say where there is none of these.
install_packages() {
	failed="the installation failed: see the lines above; is there a network?"
	# shellcheck disable=SC2086 # lists of packages
	if command -v apt-get >/dev/null 2>&1; then
		# The package lists of a fresh machine are empty or old: then, and only
		# then, the first try fails and they are fetched.
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
