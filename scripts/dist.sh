#!/usr/bin/env bash
# Makes what is handed out: a .deb, an .rpm, a .tar.gz, a .zip for Windows, what is in the
# programs (SBOM) and the sums of them all.
#
#     scripts/dist.sh [DIRECTORY]      default: dist, which is emptied; another must be empty
#
# They are built from the commit that is checked out, in a clone, so that they contain
# nothing that is not committed, and the program knows its commit. With the same Go and C
# compiler, the same commit yields the same bytes in any directory and at any time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

NFPM=github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.0

# shellcheck source=scripts/packages.sh
. scripts/packages.sh
compiler=x86_64-w64-mingw32-gcc
if ! command -v "$compiler" >/dev/null || ! command -v zip >/dev/null; then
	say "$compiler or zip is missing: installing"
	install_packages "gcc-mingw-w64-x86-64 zip" "mingw64-gcc zip" "mingw-w64-gcc zip" "mingw-w64 zip" "install $compiler and zip by hand"
fi

if [ $# -eq 0 ]; then rm -rf dist; fi
out=${1:-dist}
mkdir -p "$out"
out=$(cd "$out" && pwd)
[ -z "$(ls -A "$out")" ] || die "$out is not empty"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
umask 022
export LC_ALL=C TZ=UTC

commit=$(git rev-parse HEAD)
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct "$commit")
export SOURCE_DATE_EPOCH
[ -z "$(git status --porcelain)" ] || say "there are uncommitted changes: they are left out"
git clone -q --no-checkout . "$work/source"
git -C "$work/source" checkout -q --detach "$commit"
cd "$work/source"

# As static as possible: where Go has its own implementation, the C library is not used. But
# PKCS #11 modules are shared libraries that their vendors have linked to the system's C
# library, and dlopen(3) can load them only into a program that uses it too.
root=$work/root
mkdir -p "$root/usr/bin"
CGO_ENABLED=1 go build -trimpath -buildvcs=true -tags netgo,osusergo,urfave_cli_no_docs -ldflags '-s -w -buildid=' -o "$root/usr/bin/" ./cmd/hsmkeys ./cmd/hsmkeys-kms
hsmkeys=$root/usr/bin/hsmkeys
ln -s hsmkeys "$root/usr/bin/age-plugin-hsmkeys"
# For hsmkeys softhsm, on machines without a C compiler.
front=$root/usr/lib/hsmkeys/faulty-softhsm.so
mkdir -p "$root/usr/lib/hsmkeys"
(cd softhsm/fault && "${CC:-cc}" -shared -fPIC -O1 -s -Wl,--build-id=none -o "$front" module.c -ldl -lpthread)
chmod 0644 "$front"

# v1.2.3, or between versions v1.2.4-0.20060102150405-abcdef123456, in the form of packages.
PACKAGE_VERSION=$("$hsmkeys" --json version | sed -n 's/.*"version": "v\(.*\)".*/\1/p' | sed 's/-/~/; s/-/./g')
PACKAGE_ARCH=$(go env GOARCH)
GLIBC=$(objdump -T "$hsmkeys" "$front" | grep -o 'GLIBC_[0-9.]*' | sed 's/GLIBC_//' | sort -uV | tail -n 1)
[ -n "$PACKAGE_VERSION" ] || die "the program has no version: is git installed?"
[ -n "$GLIBC" ] || die "the program requires no version of glibc"
export PACKAGE_VERSION PACKAGE_ARCH GLIBC
name=hsmkeys_${PACKAGE_VERSION}_linux_$PACKAGE_ARCH

go run -buildvcs=true -tags manual ./cmd/hsmkeys "$root/usr/share/man"
find "$root/usr/share/man" -type f -exec gzip -9n {} +
mkdir "$work/completion"
for shell in bash zsh fish; do
	HSMKEYS_CONFIG=/dev/null "$hsmkeys" completion "$shell" >"$work/completion/hsmkeys.$shell"
done
doc=$root/usr/share/doc/hsmkeys
mkdir -p "$doc"
cp README.md CHANGELOG.md LICENSE docs/*.md "$doc"
cp -R docs/performance "$doc"
cp scripts/kubernetes/hsmkeys-kms.yaml "$doc"
install -D -m 0644 -t "$root/usr/lib/systemd/system" scripts/systemd/hsmkeys-kms.service
install -D -m 0644 -t "$root/usr/lib/systemd/user" scripts/systemd/hsmkeys-agent.socket scripts/systemd/hsmkeys-agent.service

windows=$work/windows/hsmkeys
mkdir -p "$windows"
GOOS=windows GOARCH=amd64 CGO_ENABLED=1 CC=$compiler \
	go build -trimpath -buildvcs=true -tags urfave_cli_no_docs -ldflags '-s -w -buildid=' -o "$windows/hsmkeys.exe" ./cmd/hsmkeys
cp "$windows/hsmkeys.exe" "$windows/age-plugin-hsmkeys.exe"
cp README.md CHANGELOG.md LICENSE docs/windows.md "$windows"

# The licences of what is linked in ask to be handed on.
{ go version -m "$hsmkeys" && go version -m "$hsmkeys-kms" && go version -m "$windows/hsmkeys.exe"; } | sort -u | awk '$1 == "dep" { print $2 "@" $3 }' | while read -r module; do
	dir=$(go list -m -f '{{.Dir}}' "${module%@*}")
	for licence in "$dir"/LICEN[CS]E* "$dir"/COPYING*; do
		[ -f "$licence" ] || continue
		printf '==== %s\n\n' "$module"
		cat "$licence"
		printf '\n'
	done
done >"$doc/THIRD-PARTY-LICENSES"
cp "$doc/THIRD-PARTY-LICENSES" "$windows"

# Every time of a file is that of the commit.
find "$work/root" "$work/completion" "$work/windows" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +

cd "$work"
for packager in deb rpm; do
	go run "$NFPM" package --config source/scripts/nfpm.yaml --packager "$packager" --target "$out" >&2
done

# The same files for other systems; completions are where most systems look for them.
mkdir -p root/usr/share/bash-completion/completions root/usr/share/zsh/site-functions root/usr/share/fish/vendor_completions.d
cp completion/hsmkeys.bash root/usr/share/bash-completion/completions/hsmkeys
cp completion/hsmkeys.zsh root/usr/share/zsh/site-functions/_hsmkeys
cp completion/hsmkeys.fish root/usr/share/fish/vendor_completions.d/hsmkeys.fish
tar --sort=name --format=ustar --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner -C root/usr -cf - bin lib share |
	gzip -9n >"$out/$name.tar.gz"

(cd windows && find hsmkeys -type f | sort | zip -q -9 -X -@ "$out/hsmkeys_${PACKAGE_VERSION}_windows_amd64.zip")

# What is in the programs: modules with their versions and sums, and how it was built.
(cd root/usr/bin && go version -m hsmkeys hsmkeys-kms) >"$out/$name.sbom.txt"
(cd "$windows" && go version -m hsmkeys.exe) >"$out/hsmkeys_${PACKAGE_VERSION}_windows_amd64.sbom.txt"
(cd "$out" && sha256sum -- * >"$work/SHA256SUMS" && mv "$work/SHA256SUMS" .)
say "hsmkeys $PACKAGE_VERSION of commit $commit is in $out"
