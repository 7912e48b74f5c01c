#!/usr/bin/env bash
# Generates the Go code of the agent's protocol from agent.proto.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../cmd/internal/agent/wire"

command -v protoc >/dev/null || { echo "generate: protoc is missing: apt-get install protobuf-compiler" >&2 && exit 1; }
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
# The versions of go.mod.
GOBIN=$tools go install google.golang.org/protobuf/cmd/protoc-gen-go storj.io/drpc/cmd/protoc-gen-go-drpc
PATH=$tools:$PATH protoc --go_out=. --go_opt=paths=source_relative --go-drpc_out=. --go-drpc_opt=paths=source_relative,json=false agent.proto
gofmt -w ./*.pb.go
