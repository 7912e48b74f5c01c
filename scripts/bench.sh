#!/usr/bin/env bash
# Runs every benchmark in alternation with its counterpart and writes the tables and charts
# of docs/performance.md. Options are passed to scripts/bench, see its -help: -only NAME for
# a part, -keys N for a smaller store, -dir DIRECTORY for the disk to be measured. It takes
# about half an hour and 10 GB of disk; run nothing else meanwhile.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# shellcheck source=scripts/packages.sh
. scripts/packages.sh

scripts/install-softhsm.sh
scripts/install-test-tools.sh
scripts/install-token-modules.sh
if ! command -v hyperfine >/dev/null 2>&1; then
	say "missing: hyperfine: installing"
	install_packages hyperfine hyperfine hyperfine hyperfine "install hyperfine by hand"
fi
exec go run ./scripts/bench "$@"
