#!/bin/sh
# Runs the procedure of CryptoAPI's "Storing Session Keys" between hsmkeys, on a throw-away
# SoftHSM token, and CryptoAPI itself: Wine's, for which a test program is compiled
# (cryptoapi/peer.c). Tests every algorithm, both paddings, in both directions. Installs
# what is missing. HSMKEYS names the program, bin/hsmkeys by default.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
program=${HSMKEYS:-$here/../bin/hsmkeys}
# shellcheck source=scripts/packages.sh
. "$here/packages.sh"

# shellcheck source=scripts/wine.sh
. "$here/wine.sh"
module=$("$here/install-softhsm.sh" --module)
"$here/install-test-tools.sh"

dir=$(mktemp -d)
trap 'stop_wine; rm -rf "$dir"' EXIT
trap 'exit 1' INT TERM
cd "$dir"

use_prefix "$dir/wine"
export HOME="$dir"
"$compiler" -Wall -Wextra -Werror -O1 -o peer.exe "$here/cryptoapi/peer.c" -ladvapi32
peer() { "$wine" peer.exe <"$1" >peer.out 2>peer.err || { cat peer.err >&2; return 1; }; }

mkdir tokens
printf 'directories.tokendir = %s/tokens\nobjectstore.backend = file\nlog.level = ERROR\n' "$dir" >softhsm2.conf
random() { od -An -N8 -tx8 /dev/urandom | tr -d ' \n'; }
(umask 077; random >pin; random >so-pin)
export SOFTHSM2_CONF="$dir/softhsm2.conf" HSMKEYS_MODULE="$module" HSMKEYS_TOKEN=office \
	HSMKEYS_STORE="$dir/store" HSMKEYS_PIN_SOURCE="file:$dir/pin" HSMKEYS_CONFIG=/dev/null
hsmkeys() { "$program" "$@" 2>hsmkeys.err || { status=$?; cat hsmkeys.err >&2; return "$status"; }; }

step() { printf '%s\n' "$*"; }
# same FILE BLOB WHAT: checks that the key in the file is the one in the PLAINTEXTKEYBLOB.
same() { tail -c +13 "$2" | cmp -s - "$1" || die "$3: another key"; }
# turned FILE: prints its bytes in reverse order, the byte order of RSA numbers in CryptoAPI.
turned() { od -An -v -tx1 -w1 "$1" | tac | while read -r byte; do printf '%b' "\\0$(printf %o "0x$byte")"; done; }

echo 'The salaries of March 2004.' >letter

# Names, ALG_IDs, bits for CryptoAPI if the algorithm does not determine them, and the
# corresponding options of hsmkeys.
algorithms='rc2-40 6602 40 --bits=40 --effective-bits=40
rc2 6602 128 --bits=128 --effective-bits=128
rc4-40 6801 40 --bits=40
rc4 6801 128 --bits=128
des 6601 0
3des-112 6609 0
3des 6603 0
aes128 660e 0
aes192 660f 0
aes256 6610 0'

step "1. a token, its pair and a keyring; pairs in Windows"
hsmkeys token init office --so-pin-source file:so-pin >/dev/null
hsmkeys init --key-type rsa2048 >/dev/null
hsmkeys certificate --capi -o office.blob
for bits in 2048 1024 512; do
	printf 'pair w%s %s\npublic w%s w%s.public\nprivate w%s w%s.private\n' "$bits" "$bits" "$bits" "$bits" "$bits" "$bits"
done >commands
peer commands

step "2. session keys of Windows, exported to the token's pair, become keys of the keyring"
echo "$algorithms" | while read -r name id bits _; do
	for padding in v15 oaep; do
		echo "session $id $bits $padding office.blob $name-$padding.simple $name-$padding.plain"
	done
done >commands
peer commands
# As in CryptoAPI's documentation: the BLOB is signed with the key exchange key before it is
# stored, and the signature is validated before the BLOB is used.
for blob in *.simple; do
	pkcs11-tool --module "$module" --token-label office --login --pin "$(cat pin)" --label hsmkeys \
		--sign --mechanism SHA256-RSA-PKCS --input-file "$blob" --output-file signature >/dev/null 2>&1
	turned signature >"$blob.signed"
	echo "verify office.blob $blob $blob.signed"
done >commands
peer commands
cp aes256-v15.simple changed.simple
printf x | dd of=changed.simple bs=1 seek=100 conv=notrunc 2>/dev/null
echo "verify office.blob changed.simple aes256-v15.simple.signed" >commands
if peer commands 2>refused; then die "a changed BLOB was accepted as genuine"; fi
grep -q 'verify.*0x80090006' refused || die "refused for another reason: $(cat refused)" # NTE_BAD_SIGNATURE
echo "$algorithms" | while read -r name _ _ options; do
	for padding in v15 oaep; do
		[ "$padding" = v15 ] || options="$options --oaep"
		# shellcheck disable=SC2086 # options
		hsmkeys import "$name-$padding" --capi "$name-$padding.simple" $options >/dev/null
		hsmkeys reveal "$name-$padding" >revealed
		same revealed "$name-$padding.plain" "import of $name with $padding"
	done
done
hsmkeys verify >/dev/null

step "3. and go to Windows again, which opens them with its pair"
echo "$algorithms" | while read -r name _; do
	for padding in v15 oaep; do
		[ "$padding" = v15 ] && option= || option=--oaep
		# shellcheck disable=SC2086 # an option or none
		hsmkeys export "$name-$padding" --capi $option --to w2048.public -o "$name-$padding.back"
		echo "import w2048 $padding $name-$padding.back letter $name-$padding.back.encrypted"
		echo "encrypt $name-$padding.plain letter $name-$padding.encrypted"
	done
done >commands
peer commands
for back in *.back.encrypted; do
	cmp -s "$back" "${back%.back.encrypted}.encrypted" || die "$back: another key came back"
done

step "4. the pairs of Windows come onto the token, and what Windows had stored with them opens"
hsmkeys token import-pair w2048.private --label w2048 >/dev/null
hsmkeys token import-pair --legacy w1024.private --label w1024 >/dev/null
hsmkeys token import-pair --legacy w512.private --label w512 >/dev/null
for pair in w2048 w1024 w512; do
	# OAEP with 512 bits holds 22 bytes, and a signature of SHA-256 fits.
	for padding in v15 oaep; do
		echo "session 660e 0 $padding $pair.public $pair-$padding.stored $pair-$padding.plain"
		echo "sign $pair $pair-$padding.stored $pair-$padding.stored.signed"
	done
done >commands
peer commands
for pair in w2048 w1024 w512; do
	openssl rsa -pubin -inform MSBLOB -in "$pair.public" -pubout -out "$pair.pem" 2>/dev/null
	for padding in v15 oaep; do
		[ "$padding" = v15 ] && option= || option=--oaep
		turned "$pair-$padding.stored.signed" >signature
		openssl dgst -sha256 -verify "$pair.pem" -signature signature "$pair-$padding.stored" >/dev/null || die "$pair: the signature of Windows"
		# shellcheck disable=SC2086 # an option or none
		hsmkeys import "$pair-$padding" --capi "$pair-$padding.stored" --pair "$pair" $option >/dev/null
		hsmkeys reveal "$pair-$padding" >revealed
		same revealed "$pair-$padding.plain" "what was stored with $pair and $padding"
	done
done

step "5. the alternative: keys derived from a password"
printf 'p\303\244ssword' >utf8
printf 'p\000\344\000s\000s\000w\000o\000r\000d\000' >utf16le
printf 'two\nlines\000\377' >bytes
chmod 600 utf8 utf16le bytes
for hash in md4:8002 md5:8003 sha1:8004 sha256:800c sha384:800d sha512:800e; do
	echo "$algorithms" | while read -r name id bits option _; do
		for password in utf8 utf16le bytes; do
			to=${hash%:*}-$name-$password
			[ "$password" = utf16le ] && source=utf8 encoding=utf16le || source=$password encoding=utf8
			# shellcheck disable=SC2086 # an option or none
			hsmkeys derive --capi --hash "${hash%:*}" --algorithm "${name%-40}" $option --encoding "$encoding" --password-file "$source" --blob >"$to.ours"
			echo "derive ${hash#*:} $id $bits $password $to.theirs"
			echo "encrypt $to.ours letter $to.ours.encrypted"
			echo "encrypt $to.theirs letter $to.theirs.encrypted"
		done
	done
done >commands
peer commands
count=0
for ours in *.ours.encrypted; do
	cmp -s "$ours" "${ours%.ours.encrypted}.theirs.encrypted" || die "$ours: another key"
	count=$((count + 1))
done
[ "$count" -eq 180 ] || die "$count derived keys were compared"
step "done: CryptoAPI and hsmkeys agree"
