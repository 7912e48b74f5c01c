#!/usr/bin/env bash
# Makes a release of the commit that is checked out:
#
#     scripts/release.sh [--dry-run] VERSION        such as 0.1.0
#
# It moves what stands under "Unreleased" in the changelog to the version, commits that, tags it
# with that text, and builds the packages in dist/. It pushes nothing. With --dry-run all of it
# happens in a clone that is removed again; the text of the tag is printed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# shellcheck source=scripts/packages.sh
. scripts/packages.sh

usage() { die "usage: release.sh [--dry-run] VERSION, such as 0.1.0"; }
dry=
if [ "${1:-}" = --dry-run ]; then dry=yes && shift; fi
[ $# -eq 1 ] || usage
version=$1
# From 2.0.0 on, Go wants the major version in the path of the module.
[[ $version =~ ^(0|1)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)(-rc\.[1-9][0-9]*)?$ ]] || usage
tag=v$version

[ -z "$(git status --porcelain)" ] || die "there are changes that are in no commit: commit them, or git stash"
if git rev-parse -q --verify "refs/tags/$tag" >/dev/null; then die "$tag has been released: take the next version"; fi
newest=$(git tag --list 'v[0-9]*' | sed 's/^v//; s/-rc/~rc/' | sort -V | tail -n 1)
this=${version/-rc/\~rc}
[ -z "$newest" ] || [ "$(printf '%s\n%s\n' "$newest" "$this" | sort -V | tail -n 1)" = "$this" ] ||
	die "$version is not newer than ${newest/\~rc/-rc}"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ -n "$dry" ]; then
	git clone -q . "$work/source"
	cd "$work/source"
	git config user.name "$(git -C "$OLDPWD" config user.name || echo nobody)"
	git config user.email "$(git -C "$OLDPWD" config user.email || echo nobody@localhost)"
fi

# The section is whatever stands between its heading and the next one.
awk '/^## /{ inside = ($2 == "[Unreleased]"); next } inside' CHANGELOG.md | sed -e '/./,$!d' >"$work/notes"
grep -q '^- ' "$work/notes" || die 'CHANGELOG.md has nothing under "## [Unreleased]": what is released?'
sed "s/^## \[Unreleased\]\$/## [Unreleased]\n\n## [$version] - $(date -u +%Y-%m-%d)/" CHANGELOG.md >"$work/changelog"
cat "$work/changelog" >CHANGELOG.md

say "committing and tagging $tag"
git commit -qam "Release $tag"
{ printf 'hsmkeys %s\n\n' "$version" && cat "$work/notes"; } >"$work/message"
git tag --annotate --cleanup=verbatim --file="$work/message" "$tag"

say "building the packages"
scripts/dist.sh >"$work/log" 2>&1 || { cat "$work/log" >&2; die "the packages were not built; to take the release back: git tag -d $tag && git reset --hard HEAD~"; }
tar -xzf dist/hsmkeys_*_linux_*.tar.gz -C "$work" bin/hsmkeys
built=$("$work/bin/hsmkeys" --json version | sed -n 's/.*"version": "\(.*\)".*/\1/p')
[ "$built" = "$tag" ] || die "the program says that it is $built, not $tag"

if [ -n "$dry" ]; then
	cat "$work/message"
	ls -l dist
	say "$tag would be this; nothing was changed"
else
	say "$tag is made, with its packages in dist/; to publish it: git push origin HEAD $tag"
fi
