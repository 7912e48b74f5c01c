#!/bin/sh
# Builds hsmkeys for Windows, and tries in Wine what needs no PKCS #11 module: the tests of blobs, of
# the signed state and of the stores, and the commands that read a keyring with a certificate, on a
# store that the program for this system has made with a throw-away SoftHSM token. Installs what is
# missing. HSMKEYS names the program for this system, bin/hsmkeys by default.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
program=$(realpath "${HSMKEYS:-$here/../bin/hsmkeys}")
# shellcheck source=scripts/packages.sh
. "$here/packages.sh"
# shellcheck source=scripts/wine.sh
. "$here/wine.sh"
"$here/install-softhsm.sh"

dir=$(mktemp -d)
trap 'stop_wine; rm -rf "$dir"' EXIT
trap 'exit 1' INT TERM
cd "$here/.."

say "building the program for Windows"
GOOS=windows CGO_ENABLED=1 CC=$compiler go build -trimpath -tags urfave_cli_no_docs -o "$dir/hsmkeys.exe" ./cmd/hsmkeys

say "preparing wine"
use_prefix "$dir/wine"
"$wine" wineboot -i >"$dir/log" 2>&1 || { cat "$dir/log" >&2; die "wine does not start"; }
"$compiler" -shared -O1 -o "$WINEPREFIX/drive_c/windows/system32/bcryptprimitives.dll" "$here/windows/bcryptprimitives.c" -ladvapi32

# Go falls back where Windows is too old for a way of removing files. Wine 8 lacks it too, but says
# so with STATUS_NOT_IMPLEMENTED, which Go does not expect: for the tests it does.
removes=$(go env GOROOT)/src/internal/syscall/windows/at_windows.go
sed 's/case STATUS_INVALID_INFO_CLASS,/case NTStatus(0xC0000002), STATUS_INVALID_INFO_CLASS,/' "$removes" >"$dir/at_windows.go"
if cmp -s "$removes" "$dir/at_windows.go"; then die "$removes has changed: what is replaced in it is not there"; fi
printf '{"Replace": {"%s": "%s"}}\n' "$removes" "$dir/at_windows.go" >"$dir/overlay.json"

for package in blob blob/keyspec blob/capi blob/store/dir blob/store/mem ledger; do
	say "the tests of $package"
	# The OpenSSL of this system cannot be called from there: its tests run here.
	CGO_ENABLED=0 GOOS=windows go test -c -overlay "$dir/overlay.json" -o "$dir/test.exe" "./$package"
	(cd "$package" && "$wine" "$dir/test.exe" -test.skip 'OpenSSL|TestAPrivateExponentIsComputedFromThePrimes|TestASimpleBlob') >"$dir/log" 2>&1 ||
		{ cat "$dir/log" >&2; die "they fail"; }
	tail -n 1 "$dir/log"
done

say "a keyring with two keys, made here"
mkdir "$dir/here"
# shellcheck disable=SC2016 # for the other sh
HSMKEYS_CONFIG=/dev/null HSMKEYS_PIN_SOURCE=env:MATRIX_PIN HSMKEYS_STORE="$dir/store" XDG_STATE_HOME="$dir/here" program=$program work=$dir \
	"$here/tokens/softhsm.sh" "$dir/token" sh -ec '
		"$program" init --label office
		"$program" create payroll
		"$program" certificate --output "$work/office.pem"
		cp -R "$HSMKEYS_STORE" "$work/older"
		"$program" create audit
		"$program" rotate payroll' >"$dir/log" 2>&1 || { cat "$dir/log" >&2; die "it was not made"; }

# here and there run the program for this system and for Windows on the store.
here() { HSMKEYS_CONFIG=/dev/null XDG_STATE_HOME="$dir/here" "$program" --store "$dir/store" "$@"; }
there() { (cd "$dir" && "$wine" hsmkeys.exe --store store "$@"); }
# ends STATUS COMMAND...: the command's exit status.
ends() {
	want=$1 got=0
	shift
	"$@" >"$dir/out" 2>"$dir/err" || got=$?
	[ "$got" -eq "$want" ] || { cat "$dir/out" "$dir/err" >&2; die "$* ended with $got, not $want"; }
}

for command in verify "list --columns name,version,algorithm,state,created,holders" log; do
	say "$command with the certificate"
	# shellcheck disable=SC2086 # a command and its options
	(cd "$dir" && here $command --certificate office.pem) >"$dir/expected"
	# shellcheck disable=SC2086
	ends 0 there $command --certificate office.pem
	tr -d '\r' <"$dir/out" | diff "$dir/expected" - || die "$command prints something else on Windows"
done

say "output files, pins, and what is wrong"
ends 0 there list --json --certificate office.pem
ends 0 there export payroll --cms --certificate office.pem --output exported.cms
[ -s "$dir/exported.cms" ] || die "export wrote nothing"
mv "$dir/store" "$dir/newer" && mv "$dir/older" "$dir/store"
ends 3 there verify --certificate office.pem # the state from before, which the pin knows to be old
rm -r "$dir/store" && mv "$dir/newer" "$dir/store"
for blob in "$dir"/store/keys/payroll/2.1.*; do cp "$dir"/store/keys/audit/1.1.* "$blob"; done
ends 3 there verify --certificate office.pem
ends 4 there --store none verify --certificate office.pem
ends 2 there verify --certificate
ends 5 there --module 'C:\none.dll' token list
say "done"
