# GNU make and a POSIX shell. `make` alone lists what there is.

SEEDS ?= 300
SIM ?= simulation replication whole
VINTNER = target/release/vintner
DIR ?= .vintner
WITH ?=
OFFSET ?= 0
NETWORK = MAKE="$(MAKE)" VINTNER="$(VINTNER)" DIR="$(DIR)" WITH="$(WITH)" OFFSET="$(OFFSET)" sh scripts/network.sh

.PHONY: help build start-all stop-all status logs docker-test test test-long suites peers sim sim-mutants sim-dht flood netem fuzz fuzz-keep openapi bench bench-docs bench-micro

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build the program, optimised
	@cargo build --release --locked --bin vintner

start-all: ## start 3 grapes and 3 nodes and wait until they are ready: WITH=compose, WITH=devnet, or what this machine has; OFFSET=100 moves all ports
	@$(NETWORK) start

stop-all: ## stop them; offers, trades and identities are kept
	@$(NETWORK) stop

status: ## show how the network stands
	@$(NETWORK) status

logs: ## follow the network's log
	@$(NETWORK) logs

docker-test: ## test the image and Compose (needs a Docker engine, Compose, curl, and ports 4000 to 4002 free)
	@bash tests/docker.sh

# The stock Grenache programs and libtorrent that tests/interop runs, and what tests/faces has the API judged by.
peers:
	@sh tests/peers/install.sh
	@sh tests/faces/install.sh

suites: ## run the suites of stock packages with ours in place of their grape: make suites VINTNER=target/debug/vintner
	@[ -x "$(VINTNER)" ] || $(MAKE) build
	@sh tests/suites/run.sh "$(abspath $(VINTNER))"

# Examples that schemathesis makes of each operation and phase; `make test` has five.
EXAMPLES ?= 100
test-long: test build suites ## all tests, those too that take ten minutes
	VINTNER_SCHEMATHESIS_EXAMPLES=$(EXAMPLES) cargo test --locked --test faces schemathesis_finds_nothing -- --nocapture
	cargo test --locked --test grenache -- --ignored --nocapture

test: peers ## check the form and the lints, run all tests
	cargo fmt --check
	cargo clippy --all-targets --locked -- -D warnings
	@if command -v cargo-nextest >/dev/null 2>&1; then cargo nextest run --locked && cargo test --doc --locked; \
	else cargo test --locked; fi

sim: ## simulate exchange, replication and whole nodes: make sim SEEDS=5000 SIM=whole
	VINTNER_SIM_SEEDS=$(SEEDS) cargo test --profile sim --locked $(addprefix --test ,$(SIM)) -- --nocapture

sim-mutants: ## plant each known bug and see that the simulator finds it
	@bash tests/mutants.sh

# Fuzzing needs cargo-fuzz (cargo install cargo-fuzz --locked) and a C++ compiler for libFuzzer; the stable compiler will do. No
# sanitizer: there is no unsafe code here. The first build takes some minutes. A finding is written to fuzz/artifacts and fails.
fuzz: MINUTES ?= 1
FUZZ_TARGETS = bencode bencode_vs core http_body krpc krpc_vs_mainline rpc_frame
FUZZ = cargo fuzz

fuzz: ## look for inputs that break something, each target so many minutes: make fuzz MINUTES=10 FUZZ_TARGETS=core
	@cargo fuzz --version >/dev/null 2>&1 || { echo "cargo-fuzz is missing; install it: cargo install cargo-fuzz --locked"; exit 1; }
	@command -v c++ >/dev/null 2>&1 || { echo "libFuzzer needs a C++ compiler; install one, such as the package g++"; exit 1; }
	@$(FUZZ) build -s none
	@for target in $(FUZZ_TARGETS); do \
		case $$target in http_body|rpc_frame) words=json length=4096;; core) words=krpc length=4096;; *) words=krpc length=1500;; esac; \
		mkdir -p fuzz/target/found/$$target; echo "fuzzing $$target for $(MINUTES) min"; \
		$(FUZZ) run -s none $$target fuzz/target/found/$$target fuzz/corpus/$$target -- -dict=fuzz/dictionaries/$$words.dict \
			-max_len=$$length -max_total_time=$$(($(MINUTES) * 60)) -timeout=60 -rss_limit_mb=2048 -print_final_stats=1 \
			-verbosity=1 || exit 1; \
	done

fuzz-keep: ## add to fuzz/corpus what the last runs found and what covers something new
	@for target in $(FUZZ_TARGETS); do mkdir -p fuzz/target/found/$$target; \
		$(FUZZ) run -s none $$target -- -set_cover_merge=1 fuzz/corpus/$$target fuzz/target/found/$$target || exit 1; done

# Needs nothing but the compiler. An hour of 1,000 nodes takes about 5 min of one core and 1 GB, one of 5,000 about 40 min and 3 GB.
NODES ?= 1000
SEED ?= 1
sim-dht: MINUTES ?= 60
sim-dht: ## simulate the DHT while a tenth of the nodes crash each minute: make sim-dht NODES=1000 SEED=1 MINUTES=60
	VINTNER_SIM_DHT_NODES=$(NODES) VINTNER_SIM_DHT_SEED=$(SEED) VINTNER_SIM_DHT_MINUTES=$(MINUTES) \
		cargo test --profile sim --locked --test dht_simulation a_churning -- --nocapture

# In a minute all stores are full, and what still grew would show.
flood: ## send 50,000 hostile datagrams a second to a grape beside lookups: make flood SECONDS=60
	VINTNER_FLOOD_SECONDS=$(if $(filter file,$(origin SECONDS)),60,$(SECONDS)) cargo test --release --locked --test flood -- --nocapture

# Linux only. Each node is a process in a network namespace; the test itself carries their packets, so no kernel module but tun is
# needed, and `tc` is not.
netem: ## run 12 nodes on a network of 50 ms and 5% loss, part it, kill some (needs root, iproute2 and /dev/net/tun)
	@[ "$$(uname -s)" = Linux ] || { echo "network namespaces need Linux"; exit 1; }
	@command -v ip >/dev/null 2>&1 || { echo "ip is missing; install the package iproute2"; exit 1; }
	@[ -e /dev/net/tun ] || { echo "there is no /dev/net/tun; load the module: modprobe tun"; exit 1; }
	@[ "$$(id -u)" = 0 ] || { echo "network namespaces and TUN devices need root; run: sudo make netem"; exit 1; }
	cargo test --release --locked --test netem -- --ignored --nocapture

openapi: ## write openapi/openapi.json anew
	@cargo run --quiet --locked --bin vintner -- openapi > openapi/openapi.json.new
	@mv openapi/openapi.json.new openapi/openapi.json

# What `make bench` is told: rounds, seconds of each load; QUICK=1, OURS_ONLY=1, ONLY=latency,creates,memory,join,grape,datagrams,
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
