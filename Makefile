# GNU make and a POSIX shell. `make` alone lists what there is.

SEEDS ?= 300
VINTNER = target/release/vintner
DIR ?= .vintner
WITH ?=
NETWORK = MAKE="$(MAKE)" VINTNER="$(VINTNER)" DIR="$(DIR)" WITH="$(WITH)" sh scripts/network.sh

.PHONY: help build start-all stop-all status logs docker-test test peers sim sim-mutants flood openapi bench bench-docs bench-micro

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build the program, optimised
	@cargo build --release --locked --bin vintner

start-all: ## start 3 grapes and 3 nodes and wait until they are ready: WITH=compose, WITH=devnet, or what this machine has
	@$(NETWORK) start

stop-all: ## stop them; offers, trades and identities are kept
	@$(NETWORK) stop

status: ## show how the network stands
	@$(NETWORK) status

logs: ## follow the network's log
	@$(NETWORK) logs

docker-test: ## test the image and Compose (needs a Docker engine, Compose, curl, and ports 4000 to 4002 free)
	@bash tests/docker.sh

# The stock Grenache programs and libtorrent that tests/interop runs, and what tests/faces drives Postman and Swagger UI with.
peers:
	@sh tests/peers/install.sh
	@sh tests/faces/install.sh

test: peers ## check the form and the lints, run all tests
	cargo fmt --check
	cargo clippy --all-targets --locked -- -D warnings
	@if command -v cargo-nextest >/dev/null 2>&1; then cargo nextest run --locked && cargo test --doc --locked; \
	else cargo test --locked; fi

sim: ## simulate the exchange: make sim SEEDS=5000
	VINTNER_SIM_SEEDS=$(SEEDS) cargo test --release --locked --test simulation -- --nocapture

sim-mutants: ## plant each known bug and see that the simulator finds it
	@bash tests/mutants.sh

# In a minute all stores are full, and what still grew would show.
flood: ## send 50,000 hostile datagrams a second to a grape beside lookups: make flood SECONDS=60
	VINTNER_FLOOD_SECONDS=$(if $(filter file,$(origin SECONDS)),60,$(SECONDS)) cargo test --release --locked --test flood -- --nocapture

openapi: ## write openapi/openapi.json anew
	@cargo run --quiet --locked --bin vintner -- openapi > openapi/openapi.json.new
	@mv openapi/openapi.json.new openapi/openapi.json

# What `make bench` is told: rounds, seconds of each load; QUICK=1, OURS_ONLY=1, ONLY=latency,creates,memory,grape,datagrams,
# library,ring,hundred, AGAINST=path/to/another/build/of/vintner.
ROUNDS ?= 3
SECONDS ?= 5
BENCH_ARGS = --rounds $(ROUNDS) --seconds $(SECONDS) $(if $(QUICK),--quick) $(if $(OURS_ONLY),--ours-only) \
	$(if $(ONLY),--only $(ONLY)) $(if $(AGAINST),--against $(abspath $(AGAINST)))

bench: ## measure vintner and stock Grenache side by side: make bench ROUNDS=3
	@$(if $(OURS_ONLY)$(AGAINST),:,sh benches/stock/install.sh)
	@cargo bench --locked --bench network -- $(BENCH_ARGS)

bench-docs: ## put what the last bench and bench-micro found into docs/benchmarks.md
	@test -f target/bench/table.md || { echo "there are no figures yet; run: make bench"; exit 1; }
	@sh scripts/splice.sh docs/benchmarks.md "the table" target/bench/table.md
	@if test -f target/bench/steps.md; then sh scripts/splice.sh docs/benchmarks.md "the steps" target/bench/steps.md; fi

bench-micro: ## measure single steps: make bench-micro BENCH=store
	@cargo bench --locked --bench micro -- $(BENCH)
