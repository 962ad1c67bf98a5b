# Every target does its own set-up: Go and make are enough to begin with.

.DEFAULT_GOAL := help
.PHONY: help build test demo bench bench-mqtt bench-commands bench-sparkplug brokers generate soak clean

# A checkout that git will not read is built without its revision.
BUILDVCS := $(shell git status >/dev/null 2>&1 && echo auto || echo false)

help: ## these lines
	@sed -n 's/^\([a-z-]*\):.*## /  make \1|/p' Makefile | column -t -s '|' 2>/dev/null || sed -n 's/^\([a-z-]*\):.*## /  make \1: /p' Makefile

build: ## one static binary, bin/wilco
	CGO_ENABLED=0 go build -buildvcs=$(BUILDVCS) -trimpath -o bin/wilco ./cmd/wilco

test: ## everything that must hold before a change is merged
	@scripts/test.sh

demo: build ## a broker, a server and a fleet with faults, in one process
	./bin/wilco demo

bench: ## Go benchmarks: make bench [BENCH=pattern] [PKG=./internal/command]
	go test -run '^$$' -bench '$(or $(BENCH),.)' -benchmem $(or $(PKG),./...)

bench-mqtt: ## the broker beside Mosquitto and NATS; bench/mqtt.sh says what can be set
	@bench/mqtt.sh

bench-commands: ## the lives of commands, medians of three rounds; bench/commands.sh says what can be set
	@bench/commands.sh

bench-sparkplug: ## a Sparkplug host; bench/sparkplug.sh says what can be set
	@bench/sparkplug.sh

brokers: ## docs/brokers.md anew: what this broker and others do when it is hard
	@scripts/brokers.sh

generate: ## golden files and generated pages, anew
	@scripts/generate.sh

soak: ## property tests and fuzzing for hours
	@scripts/soak.sh

clean:
	rm -rf bin
