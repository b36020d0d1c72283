# One command each for building, checking, testing and trying. `make help` lists them.

SHELL := bash
.SHELLFLAGS := -o pipefail -c

# Modules with our own packages: `go test ./...` in one of them stays out of the others, so every target walks them all.
# A test fails if a go.mod of the tree is in neither list.
MODULES := . actuators actuators/guard/guardgrpc actuators/guard/guardotel test/bindings test/bounds test/e2e/calls/tier test/grpc test/peers
# Modules that only pin tools: the linters and the real servers that tests run on.
TOOL_MODULES := test/tools/consul test/tools/consul-template test/tools/lint test/tools/prometheus test/tools/victoriametrics

VERSION  := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
REVISION := $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
BRANCH   := $(shell git rev-parse --abbrev-ref HEAD 2>/dev/null || echo unknown)
INFO     := github.com/prometheus/common/version
LDFLAGS  := -X $(INFO).Version=$(VERSION) -X $(INFO).Revision=$(REVISION) -X $(INFO).Branch=$(BRANCH)

# $(call each,COMMAND,NAME) runs COMMAND in every module, all of them even if one fails, and fails if one did.
each = failed=; for module in $(MODULES); do \
	echo "== $$module: $(2)"; \
	(cd "$$module" && $(1)) || failed="$$failed $$module"; \
	done; \
	test -z "$$failed" || { echo "failed in:$$failed" >&2; exit 1; }

# Runs a program that test/tools/lint pins.
tool = go tool -modfile="$(CURDIR)/test/tools/lint/go.mod"

# Everything but the end-to-end tests, those of the demo, of the built sidecar and the newcomer's hour: they run built
# programs, which the cache does not see, and most put a real load on the machine, so they run alone.
unit = packages=$$(go list ./...) && go test $(1) $$(printf '%s\n' $$packages | grep -v '/test/e2e\|/test/demo\|/test/conformance\|/test/newcomer')

.PHONY: help build cross test race fuzz cover lint fmt bench bench-sidecar bench-peers bench-diff overload soak simulate simulate-diff demo demo-real screenshots clean servers

help: ## show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build bin/governor and bin/govtop
	go build -ldflags "$(LDFLAGS)" -o bin/ ./cmd/governor ./cmd/govtop

cross: ## build both programs for other platforms, below bin/
	for platform in linux/arm64 darwin/arm64; do \
		CGO_ENABLED=0 GOOS="$${platform%/*}" GOARCH="$${platform#*/}" \
			go build -ldflags "$(LDFLAGS)" -o "bin/$$platform/" ./cmd/governor ./cmd/govtop || exit 1; \
	done

servers: # real Consul and Prometheus, found or built, outside every test's time limit
	go run ./test/servers/obtain

test: servers ## run all tests of all modules, the end-to-end tests on real servers last
	@status=0; \
	( $(call each,$(call unit,-timeout 30m),go test) ) || status=1; \
	echo "== .: end to end"; \
	go test -count=1 -p 1 -timeout 20m ./test/conformance ./test/e2e/... ./test/demo/... ./test/newcomer || status=1; \
	exit $$status

race: ## run the tests of what shares data between goroutines under the race detector (needs a C compiler)
	go test -race -timeout 10m ./control/... ./signals/... ./daemon/... ./cmd/internal/edge ./cmd/internal/interrupt \
		./cmd/internal/logqueue ./cmd/internal/sidecar
	cd actuators && go test -race -timeout 10m ./...
	cd actuators/guard/guardgrpc && go test -race -timeout 10m ./...
	cd actuators/guard/guardotel && go test -race -timeout 10m ./...

# go test fuzzes one target at a time.
FUZZTIME := 20s
fuzz = go test -list '^Fuzz' ./... | \
	awk '/^Fuzz/ { targets[n++] = $$1 } /^ok/ { for (i = 0; i < n; i++) print $$2, targets[i]; n = 0 }' | \
	while read -r package target; do \
		echo "$$package $$target"; \
		go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) "$$package" || exit 1; \
	done

fuzz: ## run each fuzz target for a while (FUZZTIME=20s)
	@$(call each,$(fuzz),go test -fuzz)

cover: servers ## test coverage of each package and in total, the end-to-end tests left out
	@$(call each,$(call unit,-timeout 10m -coverprofile=coverage.out) && go tool cover -func=coverage.out | tail -n 1,go test -cover)

lint: ## the linters of .golangci.yml, the format and go.mod, on all modules
	@status=0; \
	( $(call each,$(tool) golangci-lint run ./...,golangci-lint) ) || status=1; \
	( $(call each,go mod tidy -diff,go mod tidy -diff) ) || status=1; \
	exit $$status

fmt: ## format all Go files
	$(tool) golangci-lint fmt

bench: ## run the benchmarks of all modules
	@$(call each,go test -run '^$$' -bench . -benchmem ./...,go test -bench)

bench-sidecar: ## compare the throughput of the sidecar with that of a bare proxy (a minute of two idle cores)
	go test -run '^$$' -bench Throughput -benchtime 1x ./cmd/internal/sidecar

# Each round measures all rows, so that what else the machine does meets all alike.
ROUNDS := 15
bench-peers: ## compare the costs of guard with those of its peers, in one run (80 s of two idle cores)
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && \
	go test -C test/peers -c -o "$$dir/peers.test" . && \
	for _ in $$(seq $(ROUNDS)); do \
		"$$dir/peers.test" -test.run '^$$' -test.bench Peers -test.benchtime 20ms -test.cpu 1,2 >> "$$dir/rounds" || \
			{ cat "$$dir/rounds"; exit 1; }; \
	done && \
	go run -C test/peers ./report < "$$dir/rounds"

overload: ## a real server at three times its load: without a limit, with guard, with failsafe-go (100 s of two idle cores)
	@go run -C test/peers ./overload

DURATION := 5m
soak: ## a guard with a million keys and changing load: its memory stays flat (DURATION=5m)
	cd test/peers && DURATION=$(DURATION) go test -count=1 -run TestMemoryIsFlat -timeout 0 -v ./soak

# The two revisions take turns, so that what else the machine does meets both.
PKG   := actuators/guard
BENCH := .
COUNT := 6
measure = go test -C "$(1)/$(PKG)" -run '^$$' -bench '$(BENCH)' -benchmem -count=1 . >> "$(2)"

bench-diff: ## compare benchmarks with another revision (BASE=main PKG=actuators/guard BENCH=. COUNT=6)
	@test -n "$(BASE)" || { echo "make bench-diff needs the revision to compare with, as BASE=main" >&2; exit 2; }
	@dir=$$(mktemp -d) && \
	trap 'git worktree remove --force "$$dir/tree" 2>/dev/null; rm -rf "$$dir"' EXIT && \
	git worktree add --quiet --detach "$$dir/tree" "$(BASE)" && \
	for _ in $$(seq $(COUNT)); do \
		$(call measure,$$dir/tree,$$dir/base) && $(call measure,$(CURDIR),$$dir/here) || exit 1; \
	done && \
	$(tool) benchstat "$(BASE)=$$dir/base" "here=$$dir/here"

simulate: ## put governor and guard through scenarios (SCENARIOS='half x5', or --all, or --list)
	go run ./cmd/governor simulate $(or $(SCENARIOS),half x5 slow5 dep60)

simulate-diff: ## the same for another revision and for this one (BASE=main SCENARIOS='half x5')
	@test -n "$(BASE)" || { echo "make simulate-diff needs the revision to compare with, as BASE=main" >&2; exit 2; }
	@dir=$$(mktemp -d) && \
	trap 'git worktree remove --force "$$dir/tree" 2>/dev/null; rm -rf "$$dir"' EXIT && \
	git worktree add --quiet --detach "$$dir/tree" "$(BASE)" && \
	go build -C "$$dir/tree" -o "$$dir/base" ./cmd/governor && go build -o "$$dir/here" ./cmd/governor && \
	for revision in base here; do \
		echo "== $$revision"; "$$dir/$$revision" simulate $(or $(SCENARIOS),half x5 slow5 dep60) || exit 1; \
	done

# The demo is what newcomers run first, from an empty build cache: without debugging information and cgo its build takes
# a fifth less.
demo: ## two services under one load, one of them governed; everything embedded (DEMO='--seed=2')
	CGO_ENABLED=0 go run -gcflags=all=-dwarf=false ./cmd/governor demo $(DEMO)

demo-real: build ## the same on a real Prometheus and a real Consul, found or built
	go run ./test/demo/real bin/governor demo $(DEMO)

screenshots: build ## take the pictures of docs/pictures anew, from a real run of the demo (70 s)
	mkdir -p docs/pictures
	go run ./test/screenshots bin/governor bin/govtop docs/pictures

clean: ## remove what was built here (the builds of the servers stay in the cache directory of the user)
	rm -rf bin $(addsuffix /coverage.out,$(MODULES))
