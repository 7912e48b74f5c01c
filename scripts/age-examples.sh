#!/bin/sh
# Runs every example of docs/age.md, with sops, restic and cryptsetup, and installs those
# that are missing. sops is built from source, which takes some minutes the first time.
set -eu

SOPS=github.com/getsops/sops/v3/cmd/sops@v3.13.3

cd "$(dirname "$0")/.."
# shellcheck source=scripts/packages.sh
. scripts/packages.sh

PATH=$PATH:/usr/sbin:/sbin
for program in git restic cryptsetup; do
	command -v "$program" >/dev/null || missing="${missing-}$program "
done
if [ -n "${missing-}" ]; then
	say "missing: ${missing% }: installing"
	install_packages "git restic cryptsetup-bin" "git restic cryptsetup" "git restic cryptsetup" "git restic cryptsetup" "install ${missing% } by hand"
fi

bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
command -v sops >/dev/null || GOBIN=$bin "${GO:-go}" install "$SOPS"
PATH=$PATH:$bin HSMKEYS_TEST_ALL_EXAMPLES=1 "${GO:-go}" test -count=1 -v -run '^TestTheExamplesWithAge$' ./cmd/hsmkeys
