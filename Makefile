# `make run` guards this machine; the rest is for developing.

CARGO ?= cargo
ARGS ?=
CASES ?= 20000
STORIES ?= 100000
# Of `make fuzz`: seconds for each target, and which ones.
SECONDS ?= 60
FUZZ ?= $(sort $(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs))))
# For `make deb`: any *-linux-musl target that `rustup target add` can get; no cross compiler is needed.
DEB_TARGET ?= $(shell uname -m)-unknown-linux-musl
IMAGE ?= node-guardian:latest
TARGET = $(shell packaging/build-target)
BINARY = $(or $(CARGO_TARGET_DIR),target)/$(if $(TARGET),$(TARGET)/)release/node-guardian

.PHONY: help build run test vm-test vm-bench bench bench-services lint fuzz properties stories deb image clean

help:
	@echo "make run     build for release and guard this machine (ARGS=\"--dry-run\" to look on only)"
	@echo "make test    install what the tests need, then run them all"
	@echo "make vm-test build the package and test it on a real boot, in a virtual machine (root; installs qemu and mmdebstrap)"
	@echo "make vm-bench what it protects, beside other guards, on a real boot under attack (root; the same tools; about an hour)"
	@echo "make lint    format, clippy and documentation, as in CI"
	@echo "make bench   the figures that this is judged by"
	@echo "make bench-services what throttling does to HAProxy, nginx and others under load; a minute"
	@echo "make deb     target/deb/node-guardian_VERSION_ARCH.deb (DEB_TARGET=aarch64-unknown-linux-musl for arm64)"
	@echo "make image   a container image from scratch (IMAGE=$(IMAGE)), with podman, buildah or docker"
	@echo "make stories $(STORIES) generated stories for the policy (STORIES=)"
	@echo "make properties property tests with $(CASES) cases each (CASES=)"
	@echo "make fuzz    what strangers can send, by coverage, $(SECONDS) s a target (SECONDS=, FUZZ=\"redis haproxy\"); needs a nightly Rust"

build:
	$(CARGO) build --release --locked $(if $(TARGET),--target $(TARGET))

run: build
	@exec $(BINARY) run $(ARGS)

test:
	packaging/install-test-tools
	$(CARGO) test --locked

# Two guests at a time: each has two processors, emulated where KVM does not work.
vm-test: deb
	$(CARGO) test --locked -p node-guardian-vm -- --test-threads=2

# 231 runs, two at a time, each in a guest of two processors that comes before whatever else the machine does. When it is
# interrupted it goes on where it was. ARGS="--scenario surge --runs 1" makes less of it, ARGS=--table shows what there is.
vm-bench: deb
	nice -n -20 $(CARGO) bench --locked $(if $(TARGET),--target $(TARGET)) -p node-guardian-vm --bench protection -- $(ARGS)

bench: build
	packaging/install-test-tools bench
	NODE_GUARDIAN_BINARY=$(BINARY) $(CARGO) bench --locked $(if $(TARGET),--target $(TARGET)) --bench daemon -- $(ARGS)
	$(if $(ARGS),,$(MAKE) bench-services)

# What throttling does to the services themselves, under load from wrk.
bench-services:
	packaging/install-test-tools bench
	$(CARGO) bench --locked $(if $(TARGET),--target $(TARGET)) --bench services -- $(ARGS)

image: build
	packaging/container/build $(abspath $(BINARY)) $(IMAGE)

lint:
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --document-private-items

# About 10,000 a second and processor. STORY=4711 begins with that one; one that ends badly is told as short as it can be.
stories:
	STORIES=$(STORIES) $(CARGO) test --release --locked --test stories

properties:
	PROPTEST_CASES=$(CASES) $(CARGO) test --locked --lib

# Without a sanitizer: what is fed has no unsafe code of ours, and is tried three times as often so.
fuzz:
	fuzz/run $(SECONDS) $(FUZZ)

deb:
	packaging/install-test-tools deb
	packaging/deb/build $(DEB_TARGET)

clean:
	$(CARGO) clean
