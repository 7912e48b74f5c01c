#!/bin/sh
# A complete demonstration on throw-away SoftHSM tokens, with real files: the main job,
# attacks on the storage, and the loss of the token and the recovery from it. It does not
# touch the user's files, and leaves nothing behind. HSMKEYS names the program, bin/hsmkeys
# by default. Where BUCKET_DIR is set, the store is in a bucket, see scripts/bucket.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
program=${HSMKEYS:-$here/../bin/hsmkeys}
module=$("$here/install-softhsm.sh" --module)
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' INT TERM

# Headings are bold on a terminal that supports it, unless NO_COLOR is set.
bold='' plain=''
if [ -t 1 ] && [ -z "${NO_COLOR-}" ] && [ -n "${TERM-}" ] && [ "$TERM" != dumb ]; then
	bold=$(printf '\033[1m') plain=$(printf '\033[0m')
fi
say()  { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
fail() { echo "demo: $*" >&2; exit 1; }
# command_line prints a command line, quoted for the shell.
command_line() {
	printf '$ hsmkeys'
	for word do
		case $word in *[!A-Za-z0-9/._:@%=+,-]*) printf " '%s'" "$word" ;; *) printf ' %s' "$word" ;; esac
	done
	echo
}
run()  { command_line "$@"; "$program" "$@"; }

# refused STATUS ARGUMENTS: the program must fail, with exactly this status.
refused() {
	want=$1; shift
	command_line "$@"
	got=0; "$program" "$@" || got=$?
	[ "$got" -eq "$want" ] || fail "exit status $got, expected $want"
	echo "-> refused, exit status $got"
}

mkdir "$dir/tokens"
printf 'directories.tokendir = %s/tokens\nobjectstore.backend = file\nlog.level = ERROR\n' "$dir" >"$dir/softhsm2.conf"
random() { od -An -N8 -tx8 /dev/urandom | tr -d ' \n'; }
(umask 077; random >"$dir/pin"; random >"$dir/so-pin")

export SOFTHSM2_CONF="$dir/softhsm2.conf" HSMKEYS_MODULE="$module" HSMKEYS_TOKEN=demo \
	HSMKEYS_PIN_SOURCE="file:$dir/pin" HSMKEYS_CONFIG=/dev/null \
	XDG_STATE_HOME="$dir/state" XDG_CACHE_HOME="$dir/cache"
# What the attacks below do is done where the objects lie.
if [ -n "${BUCKET_DIR-}" ]; then
	store=$BUCKET_DIR
	echo "The store is in a bucket: HSMKEYS_STORE=$HSMKEYS_STORE AWS_ENDPOINT_URL=$AWS_ENDPOINT_URL"
else
	export HSMKEYS_STORE="$dir/store"
	store=$HSMKEYS_STORE
fi

say '1. A token, a key exchange pair, a keyring'
run token init demo --so-pin-source "file:$dir/so-pin"
run token list
run init
"$program" certificate >"$dir/owner.pem"

say '2. Session keys: made, wrapped and signed inside the token'
run create payroll
run create backup --algorithm aes128
run show payroll
run list

say '3. Files under a session key'
echo 'The salaries of March.' >"$dir/letter.txt"
head -c 67108864 /dev/urandom >"$dir/big.bin"
for file in letter.txt big.bin; do
	run encrypt --key payroll -o "$dir/$file.age" "$dir/$file"
	run decrypt -o "$dir/$file.back" "$dir/$file.age"
	cmp "$dir/$file" "$dir/$file.back" || fail "$file came back different"
	echo "-> $file: $(wc -c <"$dir/$file") bytes, the same after the round trip"
done
run verify
run verify --certificate "$dir/owner.pem"

say '4. The attack: a session key of a stranger, wrapped to OUR public key'
echo 'The storage is open to everybody, and so is the certificate. The stranger makes a'
echo 'session key, wraps it to our key, signs with a key of their own, and swaps the blob.'
cp -a "$store" "$dir/honest"
blob=$(echo "$store"/keys/payroll/1.1.*.cms)
(cd "$here/.." && go run ./scripts/attack "$dir/owner.pem" "$store" payroll)
refused 3 verify payroll
refused 3 encrypt --key payroll -o "$dir/leak.age" "$dir/letter.txt"
[ ! -e "$dir/leak.age" ] || fail 'something was written'

restore() { rm -rf "$store"; cp -a "$dir/honest" "$store"; }

say '5. The attack: one bit flipped'
restore
byte=$(od -An -j400 -N1 -tu1 "$blob" | tr -d ' ')
# shellcheck disable=SC2059 # the format is the byte
printf "\\$(printf '%03o' $((byte ^ 1)))" | dd of="$blob" bs=1 seek=400 conv=notrunc 2>/dev/null
refused 3 show payroll

say '6. The attack: our own blob under another name'
restore
mkdir "$store/keys/billing"
cp "$blob" "$store/keys/billing/"
refused 4 show billing
echo 'No signed state names it, so for every command it is not there; verify counts it.'
run verify

restore
say '7. The attack that surprises most: a leaked key, put back after its rotation'
echo 'Somebody has got hold of a key, so it is rotated. The keeper of the storage, who has'
echo 'the leaked key, puts the store back as it was before: every blob in it is genuine.'
run create leaked
cp -a "$store" "$dir/before"
run rotate leaked
mv "$store" "$dir/after"
cp -a "$dir/before" "$store"
refused 3 encrypt --key leaked -o "$dir/leak.age" "$dir/letter.txt"
[ ! -e "$dir/leak.age" ] || fail 'something was written'
refused 3 rotate leaked
diff -r "$dir/before" "$store" || fail 'something was written'
echo 'What was encrypted before can be read all the same, by who asks for it.'
run --older-state decrypt -o "$dir/letter.txt.back" "$dir/letter.txt.age"
echo 'Or takes only the new version away, and leaves everything else:'
rm -r "$store"
cp -a "$dir/after" "$store"
rm "$store"/keys/leaked/2.1.*.cms
refused 3 encrypt --key leaked -o "$dir/leak.age" "$dir/letter.txt"
echo 'And the signed state too that names it:'
for slot in "$store"/state/*/*; do last=$slot; done
rm "$last"
refused 3 encrypt --key leaked -o "$dir/leak.age" "$dir/letter.txt"
[ ! -e "$dir/leak.age" ] || fail 'something was written'

rm -r "$store"
mv "$dir/after" "$store"
say 'Without an attacker, all is well'
run verify
run log

say '8. What if the token is lost? The rehearsal says: everything'
refused 1 drill

say '9. A backup authority, with a token of its own'
run token init vault --so-pin-source "file:$dir/so-pin"
run --token vault init --pair-only
"$program" --token vault certificate >"$dir/vault.pem"
run authority add "$dir/vault.pem" --yes
run rewrap
echo 'The authority proves that it could: every key is really unwrapped with its token.'
run --token vault join --vouched-by "$dir/owner.pem" --yes
run --token vault drill --prove

say '10. The token is lost'
for token in "$dir"/tokens/*; do
	if grep -aq 'demo  ' "$token/token.object"; then rm -r "$token"; fi
done
refused 5 decrypt -o "$dir/letter.txt.back" "$dir/letter.txt.age"
cp -a "$store" "$dir/lost"

say '11. The recovery, to a new token'
run token init spare --so-pin-source "file:$dir/so-pin"
run --token spare init --pair-only
"$program" --token spare certificate >"$dir/spare.pem"
run --token vault recover --from "$dir/owner.pem" --to "$dir/spare.pem" --reason 'the token is lost' --yes
echo 'From now on HSMKEYS_TOKEN names the token "spare", and no command needs --token.'
export HSMKEYS_TOKEN=spare
run join --vouched-by "$dir/vault.pem" --yes
run rewrap
run history payroll
for file in letter.txt big.bin; do
	run decrypt -o "$dir/$file.back" "$dir/$file.age"
	cmp "$dir/$file" "$dir/$file.back" || fail "$file came back different"
	echo "-> $file, encrypted before the loss, is there again"
done

say '12. The attack: the store from before the recovery is put back'
mv "$store" "$dir/recovered"
cp -a "$dir/lost" "$store"
refused 3 list
rm -r "$store"
mv "$dir/recovered" "$store"
run verify
echo
echo "Everything was under $dir: tokens, store and files. It is removed now."
