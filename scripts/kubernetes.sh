#!/usr/bin/env bash
# Plays a cluster's encryption at rest with a real kube-apiserver and etcd, and a token behind a daemon:
# a secret is written and read, the key is rotated, the API server restarted, the plugin and the token
# taken away and brought back. It leaves nothing behind.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '\n== %s\n' "$*"; }
die() { printf 'kubernetes: %s\n' "$*" >&2; tail -n 20 "$dir"/*.log >&2; exit 1; }

programs=$(scripts/install-kubernetes.sh)
softhsm=$(scripts/install-softhsm.sh --module)
scripts/install-test-tools.sh >/dev/null
p11client=$(ls /usr/lib/*/pkcs11/p11-kit-client.so)
dir=$(mktemp -d)
started=()
# shellcheck disable=SC2317 # called by trap
# An API server whose etcd has gone does not end by SIGTERM.
clean_up() {
	for pid in "${started[@]}"; do kill -KILL -- "-$pid" 2>/dev/null || true; done
	wait
	rm -rf "$dir"
}
trap clean_up EXIT
trap 'exit 1' INT TERM

go build -tags urfave_cli_no_docs -o "$dir/bin/" ./cmd/hsmkeys ./cmd/hsmkeys-kms
export PATH=$dir/bin:$programs:$PATH
mkdir -p "$dir/tokens"
printf 'directories.tokendir = %s\nobjectstore.backend = file\n' "$dir/tokens" >"$dir/softhsm2.conf"
export SOFTHSM2_CONF=$dir/softhsm2.conf HSMKEYS_TOKEN=cluster HSMKEYS_STORE=$dir/store HOME=$dir XDG_STATE_HOME=$dir/state
(umask 077 && echo 1357924680 >"$dir/pin" && echo 2468013579 >"$dir/so-pin")
export HSMKEYS_PIN_SOURCE=file:$dir/pin P11_KIT_SERVER_ADDRESS=unix:path=$dir/p11

# start NAME COMMAND...: starts a process in a group of its own, and remembers it in pid_NAME.
start() {
	name=$1
	shift
	setsid "$@" >>"$dir/$name.log" 2>&1 &
	declare -g "pid_$name=$!"
	started+=("$!")
}
stop() {
	local pid=pid_$1
	kill -- "-${!pid}"
	wait "${!pid}" 2>/dev/null || true
}
# until_true WHAT COMMAND...: waits up to five minutes.
until_true() {
	what=$1
	shift
	for _ in $(seq 600); do
		if "$@"; then return 0; fi
		sleep 0.5
	done
	die "waited in vain: $what"
}
free_port() {
	while :; do
		port=$((20000 + RANDOM % 20000))
		(exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port" && return; }
	done
}

start_token() {
	rm -f "$dir/p11"
	start token p11-kit server --foreground --provider "$softhsm" --name "$dir/p11" pkcs11:token=cluster
	until_true "the daemon of the token" test -S "$dir/p11"
}
start_plugin() {
	HSMKEYS_MODULE=$p11client start plugin hsmkeys-kms --key k8s --socket "$dir/kms/sock" --audit "file:$dir/audit"
	until_true "the plugin" test -S "$dir/kms/sock"
}
etcd_port=$(free_port) peer_port=$(free_port) api_port=$(free_port)
api=https://127.0.0.1:$api_port
bearer=$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')
# call METHOD PATH [BODY]: the API server's answer; fails unless it is a success.
call() {
	printf 'header = "Authorization: Bearer %s"\n' "$bearer" |
		curl -sS --fail-with-body -k -K - -X "$1" -H 'Content-Type: application/json' ${3:+-d "$3"} "$api$2"
}
start_api_server() {
	start apiserver kube-apiserver --etcd-servers "http://127.0.0.1:$etcd_port" --secure-port "$api_port" --bind-address 127.0.0.1 --cert-dir "$dir/certs" \
		--service-account-issuer https://test --service-account-key-file "$dir/sa.pem" --service-account-signing-key-file "$dir/sa.pem" \
		--authorization-mode AlwaysAllow --token-auth-file "$dir/tokens.csv" --encryption-provider-config "$dir/encryption.yaml" --service-cluster-ip-range 10.0.0.0/24
}
ready() { call GET /readyz >/dev/null 2>&1 && call GET /api/v1/namespaces/default >/dev/null 2>&1; }
healthy() { call GET /healthz/kms-providers >/dev/null 2>&1; }
unhealthy() { ! healthy; }
# secret NAME: what the API server reads.
secret() { call GET "/api/v1/namespaces/default/secrets/$1" | tr -d ' \n' | sed -n 's/.*"data":{"password":"\([^"]*\)".*/\1/p' | base64 -d; }
# stored NAME: what etcd holds.
stored() {
	curl -sS -X POST -d "{\"key\": \"$(printf '/registry/secrets/default/%s' "$1" | base64 -w0)\"}" "http://127.0.0.1:$etcd_port/v3/kv/range" |
		sed -n 's/.*"value":"\([^"]*\)".*/\1/p' | base64 -d
}
write() { call POST /api/v1/namespaces/default/secrets "{\"metadata\":{\"name\":\"$1\"},\"data\":{\"password\":\"$(printf %s "$2" | base64)\"}}" >/dev/null; }
# rewrite NAME: writes a secret anew, as kubectl get secrets -o json | kubectl replace -f - does.
rewrite() { call PUT "/api/v1/namespaces/default/secrets/$1" "$(call GET "/api/v1/namespaces/default/secrets/$1")" >/dev/null; }
reads() { [ "$(secret "$1")" = "$2" ] || die "secret $1 is not what was written"; echo "secret $1 is read as it was written"; }
stored_under() {
	rewrite "$1" && stored "$1" | grep -aqF "$2"
}

say "a token, a keyring, the key k8s"
export HSMKEYS_MODULE=$softhsm
hsmkeys token init cluster --so-pin-source "file:$dir/so-pin"
hsmkeys init
hsmkeys create k8s

say "the token behind a daemon, the plugin, etcd, the API server"
start_token
start_plugin
cat "$dir/plugin.log"
start etcd etcd --data-dir "$dir/etcd" --listen-client-urls "http://127.0.0.1:$etcd_port" --advertise-client-urls "http://127.0.0.1:$etcd_port" \
	--listen-peer-urls "http://127.0.0.1:$peer_port" --initial-advertise-peer-urls "http://127.0.0.1:$peer_port" --initial-cluster "default=http://127.0.0.1:$peer_port"
openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$dir/sa.pem" 2>/dev/null
(umask 077 && echo "$bearer,test,test,system:masters" >"$dir/tokens.csv")
cat >"$dir/encryption.yaml" <<EOF
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
  - resources: [secrets]
    providers:
      - kms:
          apiVersion: v2
          name: hsmkeys
          endpoint: unix://$dir/kms/sock
          timeout: 3s
      - identity: {}
EOF
start_api_server
until_true "the API server" ready
until_true "the provider is healthy" healthy
call GET /version | grep gitVersion

say "a secret is written: etcd holds what the plugin has encrypted, and not the secret"
password='correct horse battery staple'
write db "$password"
stored db >"$dir/value"
head -c 24 "$dir/value" && echo
grep -aq '^k8s:enc:kms:v2:hsmkeys:' "$dir/value" || die "etcd does not hold k8s:enc:kms:v2:"
! grep -aqF "$password" "$dir/value" || die "etcd holds the secret"
grep -aqF '/k8s@1' "$dir/value" || die "the key id is not in etcd"
reads db "$password"

say "the key is rotated; secrets that are rewritten are under version 2 as soon as the API server has asked for the status"
hsmkeys rotate k8s --reason 'a test'
write old 'not rewritten'
until_true "a rewritten secret is under version 2" stored_under db /k8s@2
echo "db is under k8s@2"
stored old | grep -aq '/k8s@1' && echo "old is still under k8s@1"

say "the API server is restarted: everything is read"
stop apiserver
start_api_server
until_true "the API server" ready
reads db "$password"
reads old 'not rewritten'

say "the plugin is taken away: the API server is not healthy, and after a restart it cannot read"
stop plugin
until_true "the API server is not healthy" unhealthy
stop apiserver
start_api_server
sleep 15
! ready || die "the API server is ready without the plugin"
echo "the API server does not become ready"
start_plugin
until_true "the API server" ready
until_true "the provider is healthy" healthy
reads db "$password"

say "the token is taken away, and comes back"
stop token
until_true "the API server is not healthy" unhealthy
call GET /healthz/kms-providers 2>/dev/null | head -n 3 || true
grep -a 'went away' "$dir/plugin.log" | tail -n 1 | cut -c 1-200
start_token
until_true "the provider is healthy" healthy
write new 'after the token was back'
reads new 'after the token was back'
reads db "$password"

say "the records of use"
grep -c '"operation":"encrypt","outcome":"done"' "$dir/audit"
grep -c '"operation":"decrypt","outcome":"done"' "$dir/audit"
! grep -qF "$password" "$dir/audit" "$dir"/*.log || die "the secret is in a log"
say "done"
