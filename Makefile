# Lacre. `make` or `make help` lists the targets.
# demo, build and test need only Go, make and git; what needs more says so.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS := -X github.com/lacre-metrology/lacre/platform/version.version=$(VERSION)
FUZZTIME ?= 10s
TESTFLAGS ?=
DIFFER ?= --count 200 # `make interop-py DIFFER=--all` flips every bit
BENCH ?= .
COUNT ?= 6
OLD ?= main
PACKAGES ?= work
MEASURE ?= /tmp/lacre-measure
ONLY ?=
PREVIOUS ?= HEAD~1
DURATION ?= 60s
MEASUREMENTS ?= 1000000
SEED ?=
ROBUSTNESS ?= # more flags for the robustness suite, such as -v or -dir

COMMANDS := $(wildcard services/*/cmd/*) $(wildcard cli/cmd/lacre)
BASELINE := proto/baseline.binpb
PLUGINS := bin/protoc-gen-go bin/protoc-gen-go-grpc
TOOL_SOURCES := $(wildcard tools/modules/*.go tools/docs/*.go tools/fuzz/*.go)

##@ Using it

.PHONY: help
help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z][a-z-]*:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## build every binary into bin/, static
	$(if $(COMMANDS),,$(error no command found under services/*/cmd or cli/cmd))CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/ $(addprefix ./,$(COMMANDS))

.PHONY: demo
demo: build ## run the whole path once: four organisations, ten meters, 1,000 vehicles
	bin/lacre demo

.PHONY: tutorial
tutorial: build ## run the tutorials as they are written
	docs/tutorials/first-measurement.sh bin/lacre
	docs/tutorials/founding.sh bin
	docs/tutorials/notified-body.sh bin/lacre

.PHONY: images
images: build ## build an image of each program, FROM scratch (needs a container engine)
	deploy/container/images.sh bin '$(VERSION)'

##@ Testing it

.PHONY: test
test: ## run all tests of all modules
	go test -timeout 30m $(TESTFLAGS) work

.PHONY: race
race: ## run all tests with the race detector (needs gcc)
	CGO_ENABLED=1 go test -race -timeout 45m $(TESTFLAGS) work

.PHONY: compose
compose: images ## four organisations as nine containers: a partition, a lost replica (needs an engine and docker-compose)
	deploy/container/check.sh bin '$(VERSION)'

.PHONY: units
units: build ## run every systemd unit under a real systemd in namespaces of its own (needs root and systemd)
	deploy/systemd/check.sh bin

.PHONY: disk
disk: build ## fill a replica's disk and turn its file system read-only; it says so, waits and goes on (needs root and loop devices)
	deploy/disk.sh bin

.PHONY: machines
machines: build ## four empty machines become a network and lose one, by the commands of docs/operate.md (needs root and systemd)
	deploy/machines.sh bin

.PHONY: rolling
rolling: build ## upgrade from the commit PREVIOUS, restart and expire certificates under load; no submission fails
	deploy/previous.sh '$(PREVIOUS)' bin/previous
	deploy/rolling.sh bin $$([ -x bin/previous/lacre ] && echo bin/previous)

.PHONY: monitoring
monitoring: ## promtool accepts the alert rules, their tests hold, and it parses every query of the dashboard (needs promtool)
	promtool check rules deploy/monitoring/alerts.yaml
	promtool test rules deploy/monitoring/alerts_test.yaml
	rules=$$(mktemp) && trap 'rm -f "$$rules"' EXIT && \
	(cd cli && go test -count=1 -run TestDashboard ./internal/serviceconfig -rules "$$rules") && promtool check rules "$$rules"

.PHONY: curl
curl: build bin/buf ## call every service's read methods with buf curl and reflection alone
	tools/curl.sh bin/lacre bin/buf

.PHONY: interop-py
interop-py: ## the verifier and the meter in Python: all vectors, and they agree with the Go ones (needs python3-cryptography)
	examples/verify-py/interop.sh $(DIFFER)

.PHONY: hsm
hsm: build ## keys in a token sign an approval through PKCS#11 (needs softhsm2 and opensc)
	examples/signer/pkcs11-test.sh bin/lacre

.PHONY: interop
interop: build ## let other projects' libraries read checkpoints, cosignatures, proofs and tiles
	cd interop && GOWORK=off go test -count=1 ./...

.PHONY: fuzz
fuzz: bin/fuzz ## run every fuzz target for FUZZTIME (10s)
	bin/fuzz -time $(FUZZTIME)

.PHONY: fuzz-campaign
fuzz-campaign: bin/fuzz ## run every fuzz target for 10 minutes, or those that match ONLY; print a table
	bin/fuzz -time $(if $(filter command line,$(origin FUZZTIME)),$(FUZZTIME),10m) -only '$(ONLY)'

.PHONY: fuzz-corpus
fuzz-corpus: bin/fuzz ## put a few small inputs that campaigns found into each testdata/fuzz
	bin/fuzz -keep 12 -only '$(ONLY)'

.PHONY: tamper
tamper: ## flip every bit of receipts, bundles, a small ledger and its Raft log; make test flips a sample
	LACRE_TAMPER=all go test -v -timeout 60m -run 'TestB2_(Every|NoUse)' ./core/receipt
	LACRE_TAMPER=all go test -v -timeout 60m -run 'FlippedBit|ABitThatFlips' ./services/ledger/internal/ordering/raft ./services/ledger/internal/storage

.PHONY: join
join: ## let a replica join a ledger of MEASUREMENTS (a million), stopping it on the way; some minutes
	cd services/ledger && LACRE_JOIN='$(MEASUREMENTS)' go test -v -count=1 -timeout 60m -run TestJoiningALargeLedger .

.PHONY: robustness
robustness: ## kill, pause and cut off separate processes for DURATION (60s) as SEED (a random one) says, and check what is left
	CGO_ENABLED=0 go build -trimpath -tags robustness -o bin/robustness/ $(addprefix ./,$(wildcard services/*/cmd/*)) ./cli/tests/robustness ./cli/cmd/lacre
	bin/robustness/robustness -bin bin/robustness -duration $(DURATION) $(addprefix -seed ,$(SEED)) $(ROBUSTNESS)

.PHONY: bench
bench: ## run the benchmarks that match BENCH (.) of PACKAGES (all)
	go test -run '^$$' -bench '$(BENCH)' -benchmem $(PACKAGES)

.PHONY: benchstat
benchstat: bin/benchstat ## compare the benchmarks that match BENCH of PACKAGES with those of the commit OLD (main), COUNT (6) times each
	tools/benchstat.sh bin/benchstat '$(OLD)' '$(BENCH)' '$(COUNT)' $(PACKAGES)

.PHONY: measure
measure: build ## measure rate, latency and cost on this machine into MEASURE (/tmp/lacre-measure), about 20 minutes
	tools/measure.sh bin/lacre '$(MEASURE)'

.PHONY: lint
lint: bin/golangci-lint ## lint all modules and the tools
	bin/golangci-lint run $$(go list -m -f '{{.Dir}}/...' | grep -v '/gen/\.\.\.')
	cd tools && GOWORK=off ../bin/golangci-lint run ./...
	cd interop && GOWORK=off ../bin/golangci-lint run ./...

.PHONY: vuln
vuln: bin/govulncheck bin/modules ## look for known vulnerabilities (needs the network); says when it could not
	tools/vuln.sh

##@ Keeping it in order

.PHONY: generate
generate: bin/buf $(PLUGINS) ## write gen/ anew from proto/
	rm -rf gen/lacre # not gen/: go.mod lives there
	bin/buf generate

.PHONY: tidy
tidy: bin/modules ## write the local replace lines of every go.mod and tidy all
	bin/modules tidy

.PHONY: verify
verify: verify-modules verify-generated verify-proto verify-pure verify-module-digest verify-docs verify-deploy ## check all that must hold, changing nothing

.PHONY: verify-modules
verify-modules: bin/modules ## each module builds and is tidy alone; imports point one way; core stays pure
	bin/modules check
	cd tools && GOWORK=off go vet ./... && GOWORK=off go test ./...
	cd interop && GOWORK=off go vet ./... && GOWORK=off go mod tidy -diff

.PHONY: verify-generated
verify-generated: bin/buf $(PLUGINS) ## gen/ is what proto/ gives
	@fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT && bin/buf generate --output "$$fresh" && \
	diff -r "$$fresh/gen/lacre" gen/lacre && echo "gen/ matches proto/" || { echo "gen/ differs from proto/: run make generate" >&2; exit 1; }

.PHONY: verify-proto
verify-proto: bin/buf ## protos pass Buf's lint and break nothing since the baseline
	bin/buf lint
	bin/buf format --diff --exit-code
	bin/buf breaking --against $(BASELINE)

.PHONY: baseline
baseline: bin/buf ## accept the protos as they are as the new baseline (a release does this)
	bin/buf build --output $(BASELINE)

.PHONY: verify-pure
verify-pure: ## core builds for the browser
	cd core && GOOS=js GOARCH=wasm go build ./...

.PHONY: verify-module-digest
verify-module-digest: ## algorithm modules rebuilt from C are the committed ones, byte for byte (where clang-19 is)
	tools/module-digest.sh

.PHONY: verify-docs
verify-docs: bin/docs ## links, decisions, make targets and tests named in the documentation exist
	bin/docs

.PHONY: verify-deploy
verify-deploy: ## example configurations are what the services write and accept; alerts and dashboard name metrics and runbooks
	cd cli && go test -count=1 -run "TestDeployExamples|TestAlerts|TestDashboard" ./internal/serviceconfig

##@ Tools (pinned in tools/, outside the workspace)

.PHONY: tools
tools: bin/buf bin/golangci-lint bin/govulncheck bin/benchstat bin/modules bin/docs bin/fuzz $(PLUGINS) ## build them all into bin/

bin/buf: tools/buf/go.mod tools/buf/go.sum
	cd tools/buf && GOWORK=off GOBIN='$(CURDIR)/bin' go install tool
	@touch $@

bin/golangci-lint: tools/lint/go.mod tools/lint/go.sum
	cd tools/lint && GOWORK=off GOBIN='$(CURDIR)/bin' go install tool
	@touch $@

$(PLUGINS) bin/govulncheck bin/benchstat &: tools/go.mod tools/go.sum
	cd tools && GOWORK=off GOBIN='$(CURDIR)/bin' go install tool
	@touch $(PLUGINS) bin/govulncheck bin/benchstat

bin/modules bin/docs bin/fuzz &: tools/go.mod tools/go.sum $(TOOL_SOURCES)
	cd tools && GOWORK=off go build -o '$(CURDIR)/bin/' ./modules ./docs ./fuzz
