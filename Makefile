PREFIX   ?= /usr/local
FUZZTIME ?= 10m
GO       ?= go

PORTABLE = ./blob/... ./ledger/...

# Without this tag, package cli links a converter from Markdown to roff, which takes a quarter of
# the program's startup time.
TAGS = urfave_cli_no_docs

STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2

.DEFAULT_GOAL := help
.PHONY: help build demo demo-s3 test race cross windows faults matrix bench fuzz lint install dist clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-8s  %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

build: ## build bin/hsmkeys and bin/hsmkeys-kms
	$(GO) build -trimpath -tags $(TAGS) -o bin/ ./cmd/hsmkeys ./cmd/hsmkeys-kms

demo: ## run a complete demonstration on throw-away SoftHSM tokens
	scripts/install-softhsm.sh
	$(MAKE) --no-print-directory build
	scripts/demo.sh

demo-s3: ## run the same demonstration with the store in a bucket
	scripts/install-softhsm.sh
	$(MAKE) --no-print-directory build
	$(GO) run ./scripts/bucket scripts/demo.sh

test: cross ## run every test, on real SoftHSM tokens
	scripts/install-softhsm.sh
	scripts/install-test-tools.sh
	scripts/install-versitygw.sh
	$(GO) vet ./...
	$(GO) test -timeout 20m ./...

# The race detector needs gcc, which a program that loads PKCS#11 modules needs anyway.
race: ## run every test under the race detector, which takes twice the time
	scripts/install-softhsm.sh
	scripts/install-test-tools.sh
	scripts/install-versitygw.sh
	$(GO) test -race -timeout 30m ./...

# The packages that only verify need no PKCS #11 module, and so no C compiler.
cross: ## build the libraries without cgo, for Linux, macOS and Windows
	@set -e; for os in linux darwin windows; do \
		echo "CGO_ENABLED=0 GOOS=$$os $(GO) build $(PORTABLE)"; \
		CGO_ENABLED=0 GOOS=$$os $(GO) build $(PORTABLE); \
	done

# Without the race detector, which makes each of the many thousand processes slow to start.
# Three at a time, because some wait for a module that hangs.
faults: ## run the commands on a module that lies, fails, hangs and crashes, in every function
	scripts/install-softhsm.sh
	HSMKEYS_TEST_FAULTS=all $(GO) test -run '^(TestFaults|TestResults)$$' -timeout 60m -parallel 3 ./cmd/hsmkeys

matrix: ## try every available PKCS #11 module, and write docs/tokens.md
	scripts/token-matrix.sh

bench: ## run the benchmarks, and write docs/performance.md
	scripts/bench.sh

fuzz: ## run every fuzz target for FUZZTIME (10m) each
	scripts/install-softhsm.sh
	scripts/fuzz.sh $(FUZZTIME)

SHELL_SCRIPTS = $(wildcard scripts/*.sh scripts/tokens/*.sh .ci/run cmd/internal/completion/scripts/*.bash)

lint: ## gofmt, go vet, staticcheck, shellcheck, go mod tidy, and the rules of imports
	scripts/install-test-tools.sh
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then \
		echo "gofmt would change:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet -tags "$(TAGS)" ./...
	$(GO) run $(STATICCHECK) -tags "$(TAGS)" ./...
	shellcheck $(SHELL_SCRIPTS)
	$(GO) mod tidy -diff
	$(GO) test ./docs

install: build ## install hsmkeys to $(DESTDIR)$(PREFIX)/bin
	install -d "$(DESTDIR)$(PREFIX)/bin"
	install -m 0755 bin/hsmkeys bin/hsmkeys-kms "$(DESTDIR)$(PREFIX)/bin/"
	ln -sf hsmkeys "$(DESTDIR)$(PREFIX)/bin/age-plugin-hsmkeys"

windows: build ## build the program for Windows, and try it in Wine
	scripts/windows.sh

dist: ## make packages of the commit in dist/: .deb, .rpm, .tar.gz, .zip for Windows, SBOM and sums
	scripts/dist.sh

clean: ## remove the results of build and dist
	rm -rf bin dist
