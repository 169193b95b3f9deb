# Needs Go, git and make; `make check` and `make lint` fetch the rest themselves.
# Run `make help` for the list of targets.

.DEFAULT_GOAL := build

GO       ?= go
VERSION  := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS  := -s -w -X main.version=$(VERSION)
BUILD    := $(GO) build -trimpath -ldflags "$(LDFLAGS)"
PLATFORMS := linux-amd64 linux-arm64 linux-armv7 linux-armv6 darwin-arm64
# The most that a stripped binary may have.
MOST_BYTES := 25000000
FUZZTIME ?= 60s
# Of make soak: how many, and the first one, another each time.
SEEDS    ?= 5000
SEED     ?= $(shell date +%s)
# The tools of tools/go.mod, built once for each state of tools/go.sum.
TOOLBIN  := $(CURDIR)/bin/tools

# No cgo anywhere but in the race detector.
export CGO_ENABLED ?= 0

.PHONY: help build demo test soak check lint fmt cross bench fuzz generate clean $(PLATFORMS)

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build bin/starling
	$(BUILD) -o bin/starling ./cmd/starling

demo: build ## the main job on the digits in this repository, with failing workers
	bin/starling demo

test: ## vet and test; Go is all it needs
	$(GO) vet ./...
	$(GO) test $(if $(CI),-count=1) ./...

soak: ## SEEDS runs of a whole flock in virtual time, all kinds of faults in each, from SEED on
	$(GO) test -count=1 -timeout 0 -run 'TestSimulation$$' ./internal/coordinator -seeds $(SEEDS) -seed $(SEED)

check: ## what needs more than Go: race, qemu, long tests …; STAGES="race fuzz" for some
	tools/check/all $(STAGES)

lint: $(TOOLBIN)/.stamp ## golangci-lint and gofumpt, pinned in tools/go.mod
	$(TOOLBIN)/golangci-lint run ./...
	cd tools && $(TOOLBIN)/golangci-lint run ./...

fmt: $(TOOLBIN)/.stamp ## rewrite the sources in gofumpt's form
	$(TOOLBIN)/golangci-lint fmt ./...

$(TOOLBIN)/.stamp: tools/go.mod tools/go.sum
	GOBIN=$(TOOLBIN) $(GO) -C tools install tool
	touch $@

cross: $(PLATFORMS) ## build for every platform into bin/

# linux-armv7 becomes GOOS=linux GOARCH=arm GOARM=7.
$(PLATFORMS): CPU = $(word 2,$(subst -, ,$@))
$(PLATFORMS):
	@GOOS=$(word 1,$(subst -, ,$@)) GOARCH=$(patsubst armv%,arm,$(CPU)) \
	GOARM=$(patsubst armv%,%,$(filter armv%,$(CPU))) $(BUILD) -o bin/starling-$@ ./cmd/starling
	@bytes=$$(wc -c <bin/starling-$@); echo "bin/starling-$@: $$bytes bytes"; \
	test $$bytes -le $(MOST_BYTES) || { echo "bin/starling-$@ has more than $(MOST_BYTES) bytes" >&2; exit 1; }

bench: ## beside ONNX Runtime, into docs/benchmarks.md; MODELS=…: only print; BENCH=REGEXP: Go's
ifdef BENCH
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem ./...
else
	MODELS="$(MODELS)" tools/check/all bench
endif

fuzz: ## fuzz every target for FUZZTIME each (default 60s), one after the other
	FUZZTIME=$(FUZZTIME) tools/check/fuzz

generate: $(TOOLBIN)/.stamp ## run go generate and demand that it changes nothing
	tools/check/generate

clean: ## remove what was built
	rm -rf bin
