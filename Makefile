.PHONY: peers test

# The stock Grenache programs that tests/interop_grape.rs runs.
peers:
	@sh tests/peers/install.sh

test: peers
	cargo test
