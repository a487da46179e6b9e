# `make` shows what there is. Every target that a reviewer or .ci/run uses is one a contributor can run.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo test soak check bench fuzz

# The revision whose servers `make soak` replaces; the newest release before this one if none is named.
SIDENOTE_PREVIOUS ?=

# How long each fuzz target runs, and which of them do.
FUZZ_SECONDS ?= 1800
FUZZ_TARGETS ?= query user_sig body record

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## build, then start a throw-away server, and print the address of a live poll and curl lines to paste
	@tools/need.sh cc curl
	cargo build --release --locked --package sidenote
# On a terminal the demo becomes the foreground job, so that Ctrl-C reaches it and not make, and a clean
# end is no error. Elsewhere it shares make's process group, so that a signal to the group ends both.
	@if [ -t 0 ]; then set -m; target/release/sidenote demo; exit $$?; else exec target/release/sidenote demo; fi

test: ## run every test; brings the published signature packages on the first run
	@tools/need.sh cc curl strace
	@if [ -x tests/signers/install.sh ]; then tests/signers/install.sh; fi
	@if [ -x tests/stock-client/install.sh ]; then tests/stock-client/install.sh; fi
# Without PostgreSQL, NATS or Patroni their tests are skipped, each by its name.
	@tools/need.sh initdb setpriv || echo "skipped: what needs PostgreSQL (install the package postgresql)"
	@tools/need.sh nats-server || echo "skipped: what needs NATS (install the package nats-server)"
	@tools/need.sh etcd patroni || echo "skipped: what needs Patroni (install the packages patroni and etcd-server)"
	SIDENOTE_REQUIRE_SIGNERS=1 cargo test --workspace --locked

soak: ## the long tests: failures under load, hundreds of rounds, each with the line that repeats it
	@tools/need.sh cc initdb setpriv nats-server etcd patroni
	cargo build --locked --package sidenote --package sidenote-torture
	target/debug/sidenote-torture crash --lives 20
	target/debug/sidenote-torture power --lives 30
	target/debug/sidenote-torture linear-power --rounds 100
	target/debug/sidenote-torture linear --lives 20 --rounds 25
	SIDENOTE_REQUIRE_POSTGRES=1 target/debug/sidenote-torture linear-nodes --lives 5 --rounds 40
	SIDENOTE_REQUIRE_NATS=1 target/debug/sidenote-torture linear-nodes --nats --lives 2 --rounds 12
	SIDENOTE_REQUIRE_PATRONI=1 target/debug/sidenote-torture linear-nodes --patroni --nats --lives 3 --rounds 20
	previous=$$(tools/previous.sh $(SIDENOTE_PREVIOUS)) && \
		target/debug/sidenote-torture neighbours --previous "$$previous" --rounds 5
	SIDENOTE_SOAK=1 SIDENOTE_REQUIRE_PATRONI=1 cargo test --locked --package sidenote --test it postgres::patroni -- --nocapture
	SIDENOTE_SIMULATION_SEEDS=5000 cargo test --locked --package sidenote-store-embedded --lib simulation::nobody
	SIDENOTE_SOAK=1 cargo test --locked --package sidenote --test it hostile::

check: ## formatting, lints, documentation, tidiness, deploy/, and dependencies where cargo-deny is installed
	@tools/need.sh cc
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
	cargo run --quiet --locked --package xtask -- tidy
	deploy/check.sh
# Advisories come from a database on the network; the other three need nothing but the lock file.
	@if ! cargo deny --version >/dev/null 2>&1; then \
		echo "skipped: cargo deny check (cargo-deny is not installed)"; \
	elif cargo deny --locked check bans licenses sources; then \
		if cargo deny fetch db >/dev/null 2>&1; then cargo deny --locked check advisories; \
		else echo "skipped: cargo deny check advisories (its database cannot be fetched)"; fi; \
	else exit 1; fi

bench: ## measure beside a bare HTTP server and other databases; BENCH_QUICK=1 takes five minutes (docs/performance.md)
	bench/run.sh

fuzz: ## look for input that breaks a property, FUZZ_SECONDS for each target (needs cargo-fuzz; fuzz/README.md)
	@tools/need.sh cc
	@cargo fuzz --version >/dev/null 2>&1 || { echo "cargo-fuzz is missing: cargo install cargo-fuzz --locked"; exit 1; }
# The fuzzer needs one unstable option of the compiler, and no other compiler.
	@for target in $(FUZZ_TARGETS); do \
		mkdir -p fuzz/found/$$target; \
		RUSTC_BOOTSTRAP=1 cargo fuzz run --sanitizer none $$target fuzz/found/$$target fuzz/corpus/$$target -- \
			-max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=2048 -max_len=4096 || exit 1; \
	done
