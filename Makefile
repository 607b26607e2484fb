# What a person runs here. CONTRIBUTING.md says when; `make` alone lists them.

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS   += --no-print-directory

# The stamp of a build: internal/version. The time is the commit's, not the
# clock's, so that the same commit gives the same bytes; packagers set
# SOURCE_DATE_EPOCH. Outside a git tree the stamp says devel.
VERSION           ?= $(shell git describe --tags --always --dirty 2>/dev/null)
COMMIT            ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null)
SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null)

stamp    := github.com/jitr-agent/jitr-agent/internal/version
ldflags  := -s -w -X $(stamp).number=$(VERSION) -X $(stamp).commit=$(COMMIT) -X $(stamp).epoch=$(SOURCE_DATE_EPOCH)
go_build := CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "$(ldflags)"

# directory in cmd/ : name of the binary. GOOS is always linux; GOARCH and
# GOARM given to make reach the go command through the environment.
binaries := agent:jitr-agent jitrctl:jitrctl activator:jitr-activator iotcore-sim:iotcore-sim
export GOOS := linux

# The agent's targets, GOARCH or GOARCH/GOARM. The budget of 9 MB, in decimal,
# is for the boards with a card, which are ARM.
targets     := arm64 arm/7 arm/6 amd64 riscv64
agent_limit := 9000000

.PHONY: help build lambda cross demo test test-aws lint bench fuzz mutants soak chaos powercut flash sim install packages clean

help: ## list the targets
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

build: lambda ## the programs, static, into bin/ (GOARCH=, GOARM=)
	@mkdir -p bin
	@for pair in $(binaries); do \
		dir=cmd/$${pair%%:*} name=$${pair##*:}; \
		[[ -f $$dir/main.go ]] || continue; \
		$(go_build) -o "bin/$$name" "./$$dir"; \
		echo "built bin/$$name"; \
	done

# The activator for AWS Lambda, which jitrctl carries: Lambda's name of an
# architecture and Go's. lambda.norpc leaves out what only the retired runtime
# go1.x needs (aws-lambda-go).
lambdas := arm64:arm64 x86_64:amd64
bundle  := internal/cloud/bundle

lambda:
	@for pair in $(lambdas); do \
		[[ -f cmd/activator/main.go ]] || continue; \
		program=build/lambda/$${pair%%:*}/bootstrap zip=$(bundle)/files/jitr-activator-$${pair%%:*}.zip; \
		GOARCH=$${pair##*:} GOARM='' $(go_build) -tags lambda.norpc -o "$$program" ./cmd/activator; \
		env -u GOARCH -u GOARM go run ./$(bundle)/pack "$$program" "$$zip"; \
		echo "built $$zip"; \
	done

cross: ## the agent for every target, with its size
	@mkdir -p build/cross
	@for target in $(targets); do \
		arch=$${target%%/*} arm=; [[ $$target != */* ]] || arm=$${target##*/}; \
		file=build/cross/jitr-agent-linux-$$arch$${arm:+v$$arm}; \
		GOARCH=$$arch GOARM=$$arm $(go_build) -o "$$file" ./cmd/agent; \
		size=$$(stat -c %s "$$file"); \
		printf '%-44s %9d bytes\n' "$$file" "$$size"; \
		if [[ $$arch == arm* ]] && (( size > $(agent_limit) )); then echo "cross: $$file is over the budget of $(agent_limit) bytes" >&2; exit 1; fi; \
	done

demo: build ## the whole first connect on this machine (ACTIVATE=never: see it stay pending)
	@tools/need mosquitto-clients openssl
	@tools/need swtpm || echo "demo: there is no software TPM, so the device key will be a file"
	@mkdir -p build
	@go build -o build/demo-runner ./test/demo
	@ACTIVATE=$(ACTIVATE) build/demo-runner

test: ## everything that must pass, each part with its time
	@test/run

test-aws: build ## what AWS itself does, in an account of yours; says what it makes, and asks for AWS_TEST=yes
	@mkdir -p build
	@go build -o build/aws-runner ./test/aws
	@build/aws-runner

lint: ## golangci-lint by .golangci.yml, shellcheck
	@tools/need shellcheck
	go tool -modfile=tools/go.mod golangci-lint run ./...
	shellcheck $$(tools/scripts)

N ?= 5

bench: build ## all benchmarks, then us beside other clients and a bridge (N=5 rounds)
	@tools/need mosquitto mosquitto-clients openssl python3-paho-mqtt
	@type node npm >/dev/null 2>&1 || tools/need nodejs npm || echo "bench: there is no Node, so MQTT.js and aws-crt are not measured"
	@grep -rlsE --include='*_test.go' '^func Benchmark' cmd internal pkg | xargs -n1 dirname | sort -u | sed 's|^|./|' \
		| xargs go test -run '^$$' -bench . -benchmem
	@mkdir -p build
	@go build -o build/bench-runner ./test/bench
	@build/bench-runner -n $(N)

fuzz: ## each fuzz target for FUZZTIME=10s
	@test/fuzz

soak: ## the slow forms: long outages, 2000 failures of each kind, 10,000 requests with kills, the card
	@tools/need mosquitto-clients openssl e2fsprogs
	SLOW=1 go test -count=1 -timeout 40m ./test/causes ./cmd/jitrctl
	SLOW=1 go test -count=1 -timeout 40m -v -run 'Flash' ./test/promise

chaos: ## 100,000 messages through kills, cuts and refusals; make test sends 7200
	@tools/need mosquitto mosquitto-clients openssl python3-paho-mqtt
	@{ command -v node && command -v npm; } >/dev/null || tools/need nodejs npm
	go test -count=1 -v -timeout 60m ./test/chaos -messages 50001 -rate 100

powercut: ## 2000 power cuts for the segment log, and a long model test
	@tools/need qemu-utils qemu-system-common e2fsprogs
	go test -count=1 -v ./test/powercut -cuts 2000
	go test -count=1 ./pkg/buffer/seglog -run '^TestModel$$' -model.time 2m

flash: ## what a message costs the card: the segment log, bbolt and SQLite
	@tools/need e2fsprogs
	go test -count=1 -v ./test/flash
	cd test/flash/peers && go run .

mutants: ## removes one guard at a time; the test that it names must fail
	@test/mutants/run

sim: ## fleets on virtual time through the agent's schedules; writes docs/first-connect.md
	@go run ./test/sim -docs docs

PREFIX ?= /usr

install: build ## what packaging/files lists, under DESTDIR= and PREFIX=
	@packaging/install bin "$(DESTDIR)/" "$(PREFIX)"

# As dpkg names the architectures.
debs := amd64 arm64 armhf
dist := dist

packages: ## the gateway's Debian packages, into dist/
	@for arch in $(debs); do \
		program=build/deb/$(VERSION)/$$arch/jitr-agent; \
		GOARCH=$${arch/armhf/arm} GOARM=7 $(go_build) -o "$$program" ./cmd/agent; \
		SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH) packaging/deb "$$arch" "$$program" "$(VERSION)" "$(dist)"; \
	done

clean: ## remove what make made
	rm -rf bin build dist $(bundle)/files/*.zip
