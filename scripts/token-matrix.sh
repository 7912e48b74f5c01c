#!/usr/bin/env bash
# Tests hsmkeys with every PKCS #11 module that can be started from Debian packages and
# emulators: the conformance suite of package token, the main job from the command line with
# a recovery to SoftHSM and back, and, if the token can be taken away in the middle, that
# too. Writes the results into the table of docs/tokens.md.
#
#     scripts/token-matrix.sh [MODULE...]      default: all, and the table is written
#
# The exit status is 0 if no test failed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

all=(softhsm opencryptoki nss tpm p11kit card)
modules=("${@:-${all[@]}}")
page=docs/tokens.md

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
say() { printf '%s: %s\n' token-matrix "$*" >&2; }

scripts/install-token-modules.sh
go build -trimpath -tags urfave_cli_no_docs -o "$work/hsmkeys" ./cmd/hsmkeys
go test -c -o "$work/conformance" ./token/conformance

failed=0

# attempt NAME LOG COMMAND...: runs a command with the module NAME; prints ok or failed.
attempt() {
	local name=$1 log=$2
	shift 2
	if timeout 600 "scripts/tokens/$name.sh" "$(mktemp -d "$work/$name.XXXX")/t" "$@" >"$log" 2>&1; then
		echo ok
	else
		say "$name: ${*: -1}: exit status $?; the end of its log:"
		tail -n 40 "$log" >&2
		echo failed
	fi
}

# versions NAME: prints the Debian packages of the module and their versions.
versions() {
	case $1 in
	softhsm) set -- softhsm2 ;;
	opencryptoki) set -- opencryptoki ;;
	nss) set -- libnss3 p11-kit-modules ;;
	tpm) set -- libtpm2-pkcs11-1 swtpm tpm2-abrmd ;;
	p11kit) set -- p11-kit-modules softhsm2 ;;
	card) set -- opensc-pkcs11 pcscd libcacard0 ;;
	esac
	dpkg-query -W -f '${Package} ${Version}, ' "$@" 2>/dev/null | sed 's/, $//'
}

# job NAME [VARIABLE=VALUE...]: runs the main job; its log shows what failed.
job() {
	local name=$1
	shift
	attempt "$name" "$work/job.$name.log" env "$@" "$PWD/scripts/tokens/job.sh" "$work/hsmkeys"
}

# away NAME [VARIABLE=VALUE...]: takes the token away in the middle; prints the result.
away() {
	local name=$1 result
	shift
	result=$(attempt "$name" "$work/away.$name.log" env "$@" "$PWD/scripts/tokens/away.sh" "$work/hsmkeys")
	if [ "$result" = ok ]; then tail -n 1 "$work/away.$name.log" | sed 's/ (.*//'; else echo failed; fi
}

row() { # CELL...
	local cell line='|'
	for cell; do
		cell=${cell//|/\\|}
		line+=" ${cell:--} |"
		if [ "$cell" = failed ]; then failed=1; fi
	done
	printf '%s\n' "$line" >>"$work/table"
}

# leaks NAME: prints the warnings of `hsmkeys token list`.
leaks() {
	timeout 60 "scripts/tokens/$1.sh" "$(mktemp -d "$work/$1.XXXX")/t" "$work/hsmkeys" token list 2>&1 >/dev/null |
		sed -n 's/^hsmkeys: warning: token "[^"]*" //p' | sed 's/:.*//' | sort -u
}

row Module Version Pair 'Session keys live in' 'OAEP hash' Signature 'Key wrap' 'Because, or warned about' 'Keeps the pin' Conformance 'Main job, recovery there and back' 'Taken away in the middle'
printf '|%s\n' "$(printf -- '---|%.0s' {1..12})" >>"$work/table"

for name in "${modules[@]}"; do
	say "$name"
	facts=$work/facts.$name
	: >"$facts"
	conformance=$(attempt "$name" "$work/conformance.$name.log" env MATRIX_FACTS="$facts" "$work/conformance" -test.v)
	warned=$(leaks "$name")
	records=$(sed -n 's/^records\t//p' "$facts")
	while IFS=$'\t' read -r pair residence oaep signature wrapping why; do
		[ "$pair" != records ] || continue
		result=- taken=-
		case "$name:$pair" in
		card:*ID*)
			result=$(job "$name" MATRIX_ADOPT="$pair")
			taken=$(away "$name" MATRIX_KEYS=20 MATRIX_ADOPT="$pair")
			;;
		card:*Encryption*) result=$(job "$name" MATRIX_ADOPT="$pair" HSMKEYS_SIGNING_KEY='CAC Email Signature Certificate') ;;
		card:*) ;;
		*:rsa2048)
			result=$(job "$name")
			case $name in
			softhsm | nss) ;; # there is nothing to take away
			*) taken=$(away "$name") ;;
			esac
			;;
		*) [ "$wrapping" = - ] || result=$(job "$name" MATRIX_KEY_TYPE="$pair") ;;
		esac
		row "$name" "$(versions "$name")" "$pair" "$residence" "$oaep" "$signature" "$wrapping" \
			"${why}${warned:+${why:+; }$warned}" "$records" "$conformance" "$result" "$taken"
	done < <(tr '\t' '\037' <"$facts" | sed 's/\x1f\x1f/\x1f-\x1f/g' | tr '\037' '\t')
	[ -s "$facts" ] || { row "$name" "$(versions "$name")" - - - - - - - failed - -; }
done

cat "$work/table"
if [ $# -eq 0 ]; then
	awk -v table="$work/table" '
		/^<!-- matrix -->$/ { print; print ""; while ((getline line < table) > 0) print line; print ""; skipping = 1; next }
		/^<!-- end of the matrix -->$/ { skipping = 0 }
		!skipping' "$page" >"$work/page"
	cat "$work/page" >"$page"
fi
exit "$failed"
