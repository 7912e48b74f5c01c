#!/usr/bin/env bash
# Runs every fuzz target for the time in the first argument, 10m by default, and stops at the first
# that fails. Failing inputs are in testdata/fuzz of the package.
#
# `go test -fuzz` takes one target at a time and links the package again for each, so each package
# is built once here. Without a limit the minimiser spends all of the time on the seeds, which are
# whole blobs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

time=${1:-10m}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cache=$(go env GOCACHE)/fuzz

# Package testing now and then reports the end of the time as a failure (golang.org/issue/75804). A
# target that fails also writes its input, or says that it hung or was terminated.
time_is_up() {
	grep -qx ' *context deadline exceeded' "$work/log" && ! grep -qE 'Failing input|hung|terminated|panic' "$work/log"
}

grep -rl --include='*_test.go' '^func Fuzz' . | xargs -n1 dirname | sort -u | while read -r package; do
	go test -c -fuzz=. -o "$work/fuzz.test" "$package"
	(cd "$package" && "$work/fuzz.test" -test.list '^Fuzz') | while read -r target; do
		echo "== $package $target, $time"
		(cd "$package" && "$work/fuzz.test" -test.run='^$' -test.fuzz="^$target\$" -test.fuzztime="$time" \
			-test.fuzzminimizetime=10x -test.fuzzcachedir="$cache/$package" </dev/null) >"$work/log" 2>&1 ||
			time_is_up || { cat "$work/log" && exit 1; }
		tail -n 3 "$work/log"
	done
done
