#!/bin/sh
# Builds versitygw, an S3 service on a directory, with which the store in a bucket is tested, unless
# that was done: it takes about three minutes. Prints the path of the program.
set -eu

# shellcheck source=scripts/packages.sh
. "$(dirname "$0")/packages.sh"

version=v1.8.0
dir=${XDG_CACHE_HOME:-$HOME/.cache}/hsmkeys-tests
program=$dir/versitygw-$version

# Several tests may ask at once: the one that comes first builds.
mkdir -p "$dir"
if [ ! -x "$program" ]; then
	exec 9>"$dir/lock"
	if command -v flock >/dev/null 2>&1; then flock 9; fi
fi
if [ ! -x "$program" ]; then
	say "building versitygw $version, once"
	build=$(mktemp -d "$dir/build.XXXXXX")
	trap 'rm -rf "$build"' EXIT
	GOBIN=$build GOFLAGS='' "${GO:-go}" install "github.com/versity/versitygw/cmd/versitygw@$version" >&2
	mv "$build/versitygw" "$program"
fi
echo "$program"
