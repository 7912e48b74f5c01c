#!/usr/bin/env bash
# Tests the results of make dist: two builds are identical, the checksums are right, and the
# .deb, installed below a directory of its own, has a program that does the main job, manual
# pages, and completion that loads. Like dist.sh, it uses the commit that is checked out.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
here=$PWD

# shellcheck source=scripts/packages.sh
. scripts/packages.sh

missing=
for program in dpkg rpm man bash zsh fish unzip; do
	command -v "$program" >/dev/null 2>&1 || missing+="$program "
done
if [ -n "$missing" ]; then
	say "missing: ${missing% }: installing"
	install_packages "dpkg rpm man-db zsh fish unzip" "dpkg rpm man-db zsh fish unzip" "dpkg rpm man-db zsh fish unzip" "dpkg rpm man-db zsh fish unzip" "install ${missing% } by hand"
fi
scripts/install-softhsm.sh

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
umask 022

say "the same bytes twice, of another directory and with nothing in the build cache"
scripts/dist.sh "$work/one"
git clone -q . "$work/elsewhere"
git -C "$work/elsewhere" checkout -q --detach "$(git rev-parse HEAD)"
GOCACHE=$work/cache "$work/elsewhere/scripts/dist.sh" "$work/two"
diff -r "$work/one" "$work/two" || die "the second build differs from the first"

say "sums, and what is in the program"
cd "$work/one"
sha256sum --check --strict --quiet SHA256SUMS
[ "$(wc -l <SHA256SUMS)" -eq $(($(find . -type f | wc -l) - 1)) ] || die "not every file has a sum"
commit=$(git -C "$here" rev-parse HEAD)
for sbom in ./*.sbom.txt; do
	grep -q "vcs.revision=$commit" "$sbom" || die "$sbom does not name the commit"
	grep -q 'dep.*github.com/miekg/pkcs11.*h1:' "$sbom" || die "$sbom does not name the modules"
done

say "the .zip for Windows"
unzip -q -d "$work/windows" ./*.zip
for file in hsmkeys.exe age-plugin-hsmkeys.exe README.md LICENSE THIRD-PARTY-LICENSES windows.md; do
	[ -s "$work/windows/hsmkeys/$file" ] || die "the .zip lacks $file"
done
objdump -f "$work/windows/hsmkeys/hsmkeys.exe" | grep -q pei-x86-64 || die "hsmkeys.exe is no program for Windows"
# Of the compiler's own libraries none: nobody has them.
objdump -p "$work/windows/hsmkeys/hsmkeys.exe" | grep -i 'DLL Name' | grep -viE 'kernel32|msvcrt|ws2_32|advapi32|bcrypt' &&
	die "hsmkeys.exe needs more than what Windows has"

say "the .deb, installed"
root=$work/root
mkdir -p "$root/var/lib/dpkg/info" "$root/var/lib/dpkg/updates"
touch "$root/var/lib/dpkg/status" "$root/var/lib/dpkg/available"
# Its dependencies are in the system, not below the directory.
in_root() { dpkg --root="$root" --log="$work/dpkg.log" --force-depends --force-not-root --force-script-chrootless "$@" 2>&1; }
in_root --install ./*.deb >"$work/log" || die "dpkg: $(cat "$work/log")"
in_root --listfiles hsmkeys | grep '^/usr/.*[^/]$' | sort >"$work/deb.list"

PATH=$root/usr/bin:$PATH
hash -r
[ "$(command -v hsmkeys)" = "$root/usr/bin/hsmkeys" ] || die "a different hsmkeys is found first"
hsmkeys version | tee "$work/version"
hsmkeys-kms --version
for unit in system/hsmkeys-kms.service user/hsmkeys-agent.socket user/hsmkeys-agent.service; do
	[ -s "$root/usr/lib/systemd/$unit" ] || die "the package lacks the unit $unit"
done
grep -q "^commit $commit of ....-..-..T" "$work/version" || die "the program does not know its commit"
[ "$(readlink -f "$root/usr/bin/age-plugin-hsmkeys")" = "$root/usr/bin/hsmkeys" ] || die "the link of the age plugin leads elsewhere"
# The C library and the dynamic linker, and nothing else.
ldd "$root/usr/bin/hsmkeys" | grep -v 'linux-vdso\|libc\.so\|ld-linux' && die "the program needs more than the C library"

say "the main job from there, and a recovery"
HSMKEYS_CONFIG=/dev/null "$here/scripts/tokens/softhsm.sh" "$work/token" "$here/scripts/tokens/job.sh" hsmkeys >"$work/log" 2>&1 ||
	{ cat "$work/log" >&2; die "the main job failed"; }

say "throw-away tokens, without a C compiler"
# shellcheck disable=SC2016 # for the other sh
CC=/nonexistent hsmkeys softhsm run -- sh -ec 'hsmkeys init --key-type p256; hsmkeys softhsm lose "$HSMKEYS_TOKEN"; ! hsmkeys create x; hsmkeys softhsm restore "$HSMKEYS_TOKEN"; hsmkeys create x' >"$work/log" 2>&1 ||
	{ cat "$work/log" >&2; die "throw-away tokens do not work"; }
mkdir "$work/tree"
tar -C "$work/tree" -xzf ./*.tar.gz
CC=/nonexistent "$work/tree/bin/hsmkeys" softhsm run -- true || die "the .tar.gz has no module for throw-away tokens"

say "the manual"
for page in hsmkeys hsmkeys-token-init hsmkeys-format hsmkeys-config; do
	man -M "$root/usr/share/man" "$page" >"$work/page" 2>"$work/log" || die "man $page: $(cat "$work/log")"
	grep -q "^ *$page" "$work/page" || die "man $page shows something else"
done

say "completion"
share=$root/usr/share
# shellcheck disable=SC2016 # for the other bash
[ "$(bash --norc -c '. "$1"; COMP_LINE="hsmkeys rec" COMP_WORDS=(hsmkeys rec) COMP_CWORD=1; _hsmkeys; echo "${COMPREPLY[@]}"' - \
	"$share/bash-completion/completions/hsmkeys")" = recover ] || die "bash completes something else"
# shellcheck disable=SC2016 # for fish
[ "$(XDG_DATA_DIRS=$share fish --no-config -c 'source $argv[1]; complete -C "hsmkeys rec"' "$share/fish/vendor_completions.d/hsmkeys.fish" | cut -f 1)" = recover ] ||
	die "fish completes something else"
# shellcheck disable=SC2016 # for zsh
[ "$(zsh -f -c 'fpath=("$1" $fpath); autoload -U compinit; compinit -u -D; echo $_comps[hsmkeys]' - "$share/zsh/vendor-completions")" = _hsmkeys ] ||
	die "zsh does not find its completion"

say "the .rpm has the same"
rpm --query --list --package ./*.rpm 2>"$work/log" | sed 's,/zsh/site-functions/,/zsh/vendor-completions/,' | sort >"$work/rpm.list"
# dpkg also lists the parent directories.
grep -vxFf "$work/rpm.list" "$work/deb.list" | while read -r path; do
	[ -d "$root$path" ] || die "the .rpm lacks $path"
done
grep -vxFf "$work/deb.list" "$work/rpm.list" && die "the .rpm has what the .deb lacks"
rpm --checksig --nosignature ./*.rpm >/dev/null

say "and removed"
in_root --remove hsmkeys >"$work/log" || die "dpkg: $(cat "$work/log")"
[ ! -e "$root/usr" ] || die "something was left behind: $(find "$root/usr")"
say "done"
