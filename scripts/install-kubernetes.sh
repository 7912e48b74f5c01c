#!/usr/bin/env bash
# Builds kube-apiserver and etcd from the Go module proxy for scripts/kubernetes.sh, unless that was done:
# it takes about a quarter of an hour of one processor. Prints the directory of the programs.
set -euo pipefail

# shellcheck source=scripts/packages.sh
. "$(dirname "${BASH_SOURCE[0]}")/packages.sh"

kubernetes=v1.37.2
staging=v0.37.2 # the same release, of the modules that Kubernetes has in its own tree
etcd=v3.7.3
dir=${XDG_CACHE_HOME:-$HOME/.cache}/hsmkeys-tests/kubernetes-$kubernetes-etcd-$etcd

# build NAME PACKAGE MODULE@VERSION [REPLACED...]: builds a program in a module of its own, as go install
# refuses one whose go.mod replaces modules.
build() {
	name=$1 package=$2 module=$3
	shift 3
	[ ! -x "$dir/$name" ] || return 0
	say "building $name of $module, once"
	mkdir "$work/$name"
	(
		cd "$work/$name"
		go mod init example/build
		for other; do go mod edit -replace "$other=$other@$staging"; done
		printf 'package main\n\nimport _ "%s"\n\nfunc main() {}\n' "$package" >tools.go
		go get "$module"
		nice go build -mod=mod -o "$dir/$name" "$package"
	) >&2
}

mkdir -p "$dir"
exec 9>"$dir/lock"
flock 9
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export GOFLAGS=
gomod=$(go mod download -json "k8s.io/kubernetes@$kubernetes" | sed -n 's/.*"GoMod": "\(.*\)".*/\1/p')
mapfile -t replaced < <(grep -oE 'k8s\.io/[a-z-]+ v0\.0\.0$' "$gomod" | cut -d ' ' -f 1 | sort -u)
build kube-apiserver k8s.io/kubernetes/cmd/kube-apiserver "k8s.io/kubernetes@$kubernetes" "${replaced[@]}"
build etcd go.etcd.io/etcd/server/v3 "go.etcd.io/etcd/server/v3@$etcd"
echo "$dir"
