#!/bin/sh
# recover-with-openssl.sh BLOB SIGNER-CERT KEY [HOLDER-CERT]
#
# Prints the session key of a key blob in hex, with nothing but openssl, for when hsmkeys is
# no longer available. Each step can be followed by hand. docs/recovery.md explains when to
# use this, and what it does not check.
#
#   BLOB         a file keys/<name>/<version>.<revision>.<sha256>.cms
#   SIGNER-CERT  the certificate (PEM) of the signer, from a place that is not the store:
#                anyone who can write to the store could have put it there
#   KEY          the private key of a holder, a file or a pkcs11: URI. For a URI the
#                PKCS#11 engine is used, with the module in PKCS11_MODULE_PATH; it asks
#                for the PIN, or takes it from the file in the URI's pin-source, without
#                the line ending, which the engine itself would send as part of the PIN.
#   HOLDER-CERT  the certificate (PEM) of KEY, as it is in the keyring: needed if hsmkeys
#                did not make it, because its issuer then chose its subjectKeyIdentifier,
#                by which the blob names the holder
#
# Exit status: 0 done, 1 failed, 2 usage, 3 not genuine, 4 KEY does not belong to a holder.
#
# EC keys: openssl accepts the key of an AES key unwrap only on its command line, where other
# users of the machine can see it for a moment: use a machine of your own.
set -eu
umask 077
LC_ALL=C
export LC_ALL

die() { # STATUS MESSAGE
	echo "recover-with-openssl: $2" >&2
	exit "$1"
}

[ $# -eq 3 ] || [ $# -eq 4 ] || die 2 "usage: recover-with-openssl.sh BLOB SIGNER-CERT KEY [HOLDER-CERT]"
blob=$1 cert=$2 key=$3 holder=${4:-$2}
case $key in
*[Pp][Ii][Nn]-[Vv][Aa][Ll][Uu][Ee]*) die 2 "KEY has a PIN in it (pin-value), which others see in the list of processes; use pin-source=file:PATH" ;;
esac
for file in "$blob" "$cert" "$holder"; do
	[ -r "$file" ] || die 2 "cannot read $file"
done
work=$(mktemp -d /dev/shm/recover.XXXXXX 2>/dev/null) || work=$(mktemp -d) # in memory
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

hex() { od -An -v -tx1 | tr -d ' \n'; }
slice() { tail -c "+$(($2 + 1))" "$1" | head -c "$3"; } # FILE OFFSET LENGTH
# Prints a line "OFFSET LENGTH NAME" for each element in a DER file: where its content
# begins, its length, and its type with the value of an OBJECT.
elements() {
	openssl asn1parse -inform DER -in "$1" | sed -n \
		's/^ *\([0-9]*\):d=[0-9]* *hl= *\([0-9]*\) l= *\([0-9]*\) \(prim\|cons\): \(.*\)$/\1 \2 \3 \5/p' |
		while read -r offset header length name; do echo "$((offset + header)) $length $name"; done
}

# Prints a key's own identifier: the first 20 bytes of the SHA-256 of its public key's bits.
keyid() { # PUBLIC-KEY (DER)
	# shellcheck disable=SC2046 # offset and length
	set -- "$1" $(elements "$1" | grep 'BIT STRING')
	slice "$1" "$(($2 + 1))" "$(($3 - 1))" | openssl dgst -sha256 -binary | head -c 20 | hex
}
# Prints the identifier in a certificate, if it has one.
certid() { # CERT
	openssl x509 -in "$1" -noout -ext subjectKeyIdentifier 2>/dev/null |
		sed -n 's/^ *\([0-9A-F:]*\) *$/\1/p' | tr -d ':\n' | tr A-F a-f
}
pubkey() { openssl x509 -in "$1" -noout -pubkey | openssl pkey -pubin -outform DER; } # CERT

# Decodes %XX in a URI.
unescape() { # TEXT
	rest=$1
	while :; do
		case $rest in
		*%*) printf %s "${rest%%\%*}" && rest=${rest#*%} ;;
		*) printf %s "$rest" && return ;;
		esac
		case $rest in
		[0-9A-Fa-f][0-9A-Fa-f]*) ;;
		*) return 1 ;;
		esac
		# shellcheck disable=SC2059 # the format is the character, in octal
		printf "\\$(printf %03o "0x${rest%"${rest#??}"}")" && rest=${rest#??}
	done
}
# Makes the engine read the PIN from a private file without a line ending: a wrong PIN uses
# up a try.
privatepin() {
	case $key in *[?\&\;]pin-source=*) ;; *) return 0 ;; esac
	source=${key#*[?\&\;]pin-source=}
	before=${key%"$source"}
	after=${source#"${source%%[&;]*}"}
	source=$(unescape "${source%%[&;]*}") || die 2 "the pin-source of KEY has a broken escape"
	path=${source#file:}
	[ "$path" = "$source" ] || path=${path#//localhost}
	[ -r "$path" ] || die 2 "pin-source: cannot read a file $path"
	cat "$path" >"$work/line"
	size=$(wc -c <"$work/line")
	case $(tail -c 2 "$work/line" | hex) in
	0d0a) size=$((size - 2)) ;;
	*0a) size=$((size - 1)) ;;
	esac
	head -c "$size" "$work/line" >"$work/pin"
	if [ ! -s "$work/pin" ] || [ "$(tr -cd '\000\r\n' <"$work/pin" | wc -c)" -ne 0 ]; then
		die 2 "pin-source: $path holds no PIN, or more than one line; nothing was sent to the token"
	fi
	key=${before}file:$work/pin$after
}

# 1. The signature, before anything else. Only SIGNER-CERT counts (-nointern: none that
#    comes with the blob), and it is trusted as it is (-noverify is about its issuers).
#    openssl finds a certificate by its identifier. If it has none, a certificate is made
#    with the same key and the key's own identifier.
if [ -z "$(certid "$cert")" ]; then
	pubkey "$cert" >"$work/signer" || die 2 "$cert: no certificate could be read"
	echo "subjectKeyIdentifier=$(keyid "$work/signer")" >"$work/extensions"
	openssl pkey -pubin -inform DER -in "$work/signer" -out "$work/signer.pub"
	openssl ecparam -name prime256v1 -genkey -noout -out "$work/anybody"
	openssl x509 -new -subj /CN=signer -key "$work/anybody" -force_pubkey "$work/signer.pub" \
		-extfile "$work/extensions" -out "$work/signer.pem" || die 1 "openssl makes no certificate for the key in $cert"
	cert=$work/signer.pem
fi
openssl cms -verify -inform DER -in "$blob" -certfile "$cert" -nointern -noverify -binary \
	-out "$work/signed" 2>"$work/why" || die 3 "$blob: the signature does not verify: $(tail -n 1 "$work/why")"
elements "$blob" >"$work/blob"
read -r offset length _ <"$work/blob" # of the whole
[ $((offset + length)) -eq "$(wc -c <"$blob")" ] || die 3 "$blob: something stands behind it"
grep OBJECT "$work/blob" | sed -n 3p | grep -q ':id-smime-ct-contentInfo$' ||
	die 3 "$blob holds no wrapped key: it comes from a password, or is another object"

# 2. The key descriptor. Its name is signed, that of the file is not: check that it is the
#    key that you want. (keyDescriptor, docs/format.md)
descriptor='OBJECT *:1\.2\.840\.113556\.1\.8000\.2554\.47797\.52584\.63263\.19885\.34898\.7319848\.2394228\.1$'
[ "$(grep -c "$descriptor" "$work/blob")" = 1 ] || die 3 "$blob has not exactly one key descriptor"
sed -n "1,/$descriptor/d; p" "$work/blob" | sed -n 's/^.* UTF8STRING *:/key /p; s/^.* INTEGER *:/number /p' |
	sed -n '2,4p' | tr '\n' ' ' | sed 's/^key \(.*\) number \(.*\) number \(.*\) $/\1 \2 \3/' >"$work/name"
read -r name version revision <"$work/name" || true
echo "genuine: key $name, version $((0x$version)), revision $((0x$revision))" >&2

# 3. The holder to whom KEY belongs: the identifier in its certificate, else the key's own.
engine=
case $key in pkcs11:*) engine=1 ;; *) [ -r "$key" ] || die 2 "cannot read $key" ;; esac
if [ -n "$engine" ]; then privatepin; fi
openssl pkey ${engine:+-engine pkcs11 -inform engine} -in "$key" -pubout -outform DER -out "$work/public" ||
	die 1 "$key: no key could be read"
# shellcheck disable=SC2046 # offset and length
set -- $(elements "$work/public" | grep 'BIT STRING')
bits=$(($1 + 1)) # after the number of unused bits
pubkey "$holder" >"$work/holder" || die 2 "$holder: no certificate could be read"
id=
if cmp -s "$work/public" "$work/holder"; then id=$(certid "$holder"); fi
[ -n "$id" ] || id=$(keyid "$work/public")

# 4. The holder's entry: its identifier is followed by the algorithm (RSA) and the wrapped
#    key, and preceded (EC) by the sender's point and the algorithm.
elements "$work/signed" >"$work/content"
found=
while read -r offset length type; do
	case $type in
	'BIT STRING'*) point=$offset pointlen=$length ;;
	*dhSinglePass*) kdf=$type ;;
	*rsaesOaep*) hash=sha1 ;;
	*':sha256') hash=sha256 ;;
	'cont [ 0 ]'* | 'OCTET STRING'*)
		if [ -n "$found" ]; then
			case $type in cont*) continue ;; esac
			wrapped=$offset wrappedlen=$length
			break
		fi
		if [ "$length" = $((${#id} / 2)) ] && [ "$(slice "$work/signed" "$offset" "$length" | hex)" = "$id" ]; then found=1; fi ;;
	esac
done <"$work/content"
[ -n "$found" ] || die 4 "$key: the blob is not wrapped to this key under the identifier $id; if it has a certificate of an issuer, name that as HOLDER-CERT"
slice "$work/signed" "$wrapped" "$wrappedlen" >"$work/wrapped"

# 5. The session key.
decrypt() { openssl pkeyutl ${engine:+-engine pkcs11 -keyform engine} -inkey "$key" "$@"; }
if elements "$work/public" | grep -q ':rsaEncryption$'; then
	# RSAES-OAEP (RFC 8017 section 7.1).
	decrypt -decrypt -in "$work/wrapped" -out "$work/key" -pkeyopt rsa_padding_mode:oaep \
		-pkeyopt "rsa_oaep_md:$hash" -pkeyopt "rsa_mgf1_md:$hash" || die 1 "$key: cannot decrypt"
else
	# ECDH with the sender's point (RFC 5753): its public key is ours with another point.
	{ head -c "$bits" "$work/public"; slice "$work/signed" "$((point + 1))" "$((pointlen - 1))"; } >"$work/sender"
	decrypt -derive -peerkey "$work/sender" -peerform DER -out "$work/secret" || die 1 "$key: cannot agree"
	# The X9.63 key derivation: the hash of the secret, a counter of 1, and the DER of
	# ECC-CMS-SharedInfo (id-aes256-wrap, 256 bits).
	case $kdf in *sha256kdf*) hash=sha256 ;; *sha384kdf*) hash=sha384 ;; *) hash=sha512 ;; esac
	{ cat "$work/secret"; printf '\0\0\0\001\060\025\060\013\006\011\140\206\110\001\145\003\004\001\055\242\006\004\004\0\0\001\0'; } |
		openssl dgst "-$hash" -binary | head -c 32 >"$work/kek"
	# AES key wrap (RFC 3394).
	openssl enc -d -id-aes256-wrap -K "$(hex <"$work/kek")" -iv A6A6A6A6A6A6A6A6 \
		-in "$work/wrapped" -out "$work/key" || die 1 "$key: the wrapped key does not open"
fi
hex <"$work/key"
echo
