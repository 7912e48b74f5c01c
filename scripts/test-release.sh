#!/usr/bin/env bash
# Tries scripts/release.sh on clones of the commit that is checked out: what it refuses, that
# --dry-run changes nothing, and what a release makes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# shellcheck source=scripts/packages.sh
. scripts/packages.sh

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
git clone -q . "$work/source"
cd "$work/source"
git checkout -q -B release
git config user.name tester
git config user.email tester@localhost
before=$(git rev-parse HEAD)

unchanged() {
	[ "$(git rev-parse HEAD) $(git status --porcelain)$(git tag --points-at HEAD)" = "$before " ] || die "$1 has changed something"
}
# refuses TEXT ARGUMENTS...: release.sh fails, says that, and changes nothing.
refuses() {
	text=$1
	shift
	if scripts/release.sh "$@" >"$work/log" 2>&1; then die "release.sh $* was accepted"; fi
	grep -q -- "$text" "$work/log" || die "release.sh $*: $(cat "$work/log")"
}

say "what is refused"
for wrong in "" v1.0.0 2.0.0 1.0 1.0.0.0 01.0.0 1.0.0-beta "1.0.0 " --help; do
	refuses usage "$wrong"
	unchanged "release.sh $wrong"
done
refuses usage
refuses usage 1.0.0 2.0.0
touch new && git add new
refuses 'in no commit' 0.9000.0
git rm -qf new
sed -i '/^## \[Unreleased\]/,$d' CHANGELOG.md && printf '## [Unreleased]\n' >>CHANGELOG.md && git commit -qam "Nothing to release"
refuses 'nothing under' 0.9000.0
git reset -q --hard "$before"

say "a candidate, then the release"
scripts/release.sh 0.9000.0-rc.1 >"$work/log" 2>&1 || die "$(cat "$work/log")"
git tag --list --format='%(contents)' v0.9000.0-rc.1 | grep -q '^### Added' || die "the tag lacks the text of the changelog"
grep -q "^## \[0.9000.0-rc.1\] - $(date -u +%Y-)" CHANGELOG.md || die "the changelog lacks the version"
grep -q '^## \[Unreleased\]$' CHANGELOG.md || die "the changelog has no place for what comes next"
[ -z "$(git status --porcelain)" ] || die "something is in no commit"
ls dist/hsmkeys_0.9000.0*_linux_*.tar.gz dist/hsmkeys_0.9000.0*_windows_amd64.zip >/dev/null
refuses 'has been released' 0.9000.0-rc.1
refuses 'nothing under' 0.9000.0
refuses 'is not newer' 0.8999.0
sed -i 's/^## \[Unreleased\]$/&\n\n### Fixed\n\n- One thing./' CHANGELOG.md && git commit -qam "Mend one thing"
before=$(git rev-parse HEAD)
scripts/release.sh --dry-run 0.9000.0 >"$work/log" 2>&1 || die "$(cat "$work/log")"
grep -q '^- One thing' "$work/log" || die "a dry run does not show the text of the tag"
unchanged "--dry-run"
say "done"
