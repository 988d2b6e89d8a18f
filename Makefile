# make demo    builds the catalog's `app` with all its ancestors; again: reuses all of it
# make check   format, lints and the tests that need neither root nor a daemon: while you work
# make test    all that CI runs: as root, on real components
# make chaos   RUNS runs (200) through random kills and faults, JOBS (8 a core) chains of them at once; SEED=n repeats them
# make fuzz    lian-build's reader of Dockerfiles against BuildKit's own: FILES random ones (1000000) from SEED on
# make fuzz-bytes  every reader of foreign bytes against CASES (20000) hostile variants of what it reads
# make catalog the whole catalog        make bench  lian-build against its peers
# make setup   installs what is missing make recipe renews the service's recipe.json after its dependencies changed
#
# Settings: LIAN_FLAGS (flags for apply), TARGET (default app), PROFILE (release), LIAN_SOURCE (upstream or packages: where
# the layers get their tools from) and LIAN_PROVIDER (local or docker-local), found out where they are not said, CARGO_TARGET_DIR.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := demo
MAKEFLAGS += --no-print-directory
.PHONY: setup setup-test setup-bench demo catalog check test chaos fuzz fuzz-bytes bench recipe build base

CARGO_TARGET_DIR ?= $(CURDIR)/target
export CARGO_TARGET_DIR
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/lian-build
PROFILE ?= release
TARGET ?= app
LIAN_FLAGS ?=

LIAN = $(CARGO_TARGET_DIR)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))/lian-build
BASE = $(CACHE)/base-images/debian-trixie-slim
SOURCE = $(shell scripts/reach.sh)
# How the catalog is run here. These are looked up once for each target, before its first line: what installs is a target of
# its own.
PROVIDER = $(shell scripts/setup.sh --provider)
WORKFLOW = $(if $(filter packages,$(SOURCE)),--workflow workflows/packages.ncl --ca-bundle /etc/ssl/certs/ca-certificates.crt --base-image docker.io/library/debian:trixie-slim=oci-layout:$(BASE),--workflow workflows/local.ncl)
export LIAN_BUILDKIT_BIN = $(shell scripts/setup.sh --bin)

# Everything but the result goes to stderr: `make demo LIAN_FLAGS="--format json"` writes JSON alone to stdout.
setup:
	@scripts/setup.sh >&2

setup-test:
	@scripts/setup.sh --test >&2

setup-bench: setup-test
	@scripts/setup.sh --bench >&2

build: setup
	@cargo build --quiet --locked --profile $(PROFILE) --bin lian-build >&2

base: setup
	@if [ "$(SOURCE)" = packages ]; then scripts/base-image.sh --keep $(BASE) >/dev/null; fi

demo: build base
	@$(LIAN) check >&2
	@$(LIAN) plan $(WORKFLOW) --provider $(PROVIDER) --target $(TARGET) >&2
	@$(LIAN) apply $(WORKFLOW) --provider $(PROVIDER) --target $(TARGET) $(LIAN_FLAGS)

catalog: build base
	@$(LIAN) apply $(WORKFLOW) --provider $(PROVIDER) $(LIAN_FLAGS)

# The integration tests that need neither root nor a daemon: of these modules all, but those that say otherwise.
ROOTLESS = architecture:: check:: commands:: hcloud:: hooks:: nickel:: proxmox:: recipe:: serve::
NEED_MORE = hcloud::boot:: the_official_client a_temporary_folder_that_is_not_there

check:
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo test --quiet --locked --lib
	cargo test --quiet --locked --test it -- $(ROOTLESS) $(addprefix --skip ,$(NEED_MORE))

test: setup-test
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	PATH="$(CACHE)/tools/bin:$$PATH" cargo deny --log-level error --locked check bans licenses sources
	cd examples/app && CARGO_TARGET_DIR=$(CARGO_TARGET_DIR)/examples cargo test --locked
	cargo test --quiet --locked --lib --tests --no-run
	$(CARGO_TARGET_DIR)/debug/lian-build check --strict
	cargo test --locked --lib --tests

# The last line is the tally: leaked, lost_events and failed are 0, or it fails. A line of a failure tells how to repeat it.
# Nine tenths of a run are waiting, so many chains share a core. LIAN_CHAOS_BIN names another build of lian-build to try.
RUNS ?= 200
JOBS ?= $(shell echo $$((8 * $$(nproc))))
SEED ?= $(shell date +%s)
chaos: setup-test
	@LIAN_CHAOS_RUNS=$(RUNS) LIAN_CHAOS_SEED=$(SEED) LIAN_CHAOS_JOBS=$(JOBS) cargo test --quiet --locked --test it -- --nocapture --exact \
		chaos::whatever_befalls_a_run_nothing_is_left_and_no_event_is_lost | grep --line-buffered -E '^(chaos:|runs=)'

FILES ?= 1000000
fuzz: setup-test
	@LIAN_FUZZ_FILES=$(FILES) LIAN_FUZZ_SEED=$(SEED) cargo test --quiet --locked --test it -- --nocapture --exact \
		dockerfiles::random_files_are_read_as_buildkit_reads_them dockerfiles::random_trees_are_walked_as_buildkit_walks_them

CASES ?= 20000
fuzz-bytes:
	PROPTEST_CASES=$(CASES) cargo test --locked --lib any_bytes

bench: setup-bench
	PATH="$$PATH:$(CACHE)/tools/bin" cargo bench --locked

recipe:
	@scripts/recipe.sh
