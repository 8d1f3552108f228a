# What can be done here; `make` prints it. Owns the order of the steps, which are scripts and cargo's.
# Must never let an ambient KUBECONFIG or context in, unless CLUSTER=current is said.

.DEFAULT_GOAL := help
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory
SHELL := bash

include tests/cluster/cluster.mk

OPERATOR := $(CARGO_TARGET_DIR)/release/image-pipeline

.PHONY: help demo demo-local bench bench-scaling scaling soak soaking test test-crash end-to-end check fuzz sbom licences advisories install operator

help:
	@echo 'make TARGET'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { if (!($$1 in does)) order[++n] = $$1; does[$$1] = $$2 } \
		END { for (i = 1; i <= n; i++) printf "  %-15s%s\n", order[i], does[order[i]] }' $(MAKEFILE_LIST)
	@echo 'With CLUSTER=current IMAGE=<one it can pull>, demo, install and test use the cluster of your'
	@echo 'current context. Without, they never look at it.'

demo: install ## Bring a cluster up and carry 300 images from a queue into a bucket; see target/demo/report.html
	@$(CLUSTER_SCRIPTS)/parts greench
	@cargo build --quiet --release --locked --bins --package image-pipeline --package demo
	@$(CARGO_TARGET_DIR)/release/demo
ifeq ($(CLUSTER),)
	@echo 'The cluster stays up until make down. To look around in it, as docs/quick-start.md says:'
	@echo '  export KUBECONFIG=$(KUBECONFIG) PATH=$(CLUSTER_BIN):$(CARGO_TARGET_DIR)/release:$$PATH'
	@echo '  kubectl get imgp -A -o wide'
endif

demo-local: ## Without Kubernetes: RabbitMQ, an S3 server and one process, 100 images, in a minute
	@$(CLUSTER_SCRIPTS)/build
	@cargo build --quiet --release --locked --bins --package image-pipeline --package demo-local
	@$(CARGO_TARGET_DIR)/release/demo-local --program $(OPERATOR)

# Keyed by what goes in, and outside the tree, as all that is built once.
BENCH_PYTHON := $(CLUSTER_CACHE)/bench-python-$(shell sha256sum tests/bench/requirements.txt | cut -c1-12)

bench: $(BENCH_PYTHON)/installed ## Ours against the service it replaces, 10 minutes; QUICK=1: 2 minutes; LONG=1: memory over 10,000 messages
	@$(CLUSTER_SCRIPTS)/build
	@cargo build --release --locked --bins --package image-pipeline --package bench
	@$(CARGO_TARGET_DIR)/release/bench --python $(BENCH_PYTHON)/bin/python \
		$(if $(QUICK),--quick) $(if $(LONG),--long)

# Needs /proc of the operator's process and the API server's audit log. Taken down however it ends.
bench-scaling: ## How the operator scales, with one pipeline and with a thousand, 25 minutes; QUICK=1: 7 minutes
ifeq ($(CLUSTER),current)
	@echo 'CLUSTER=current: bench-scaling has to look into the machine that the operator runs on, so it' >&2
	@echo 'uses the cluster that it brings up itself.' >&2
	@exit 1
else
	@trap '$(MAKE) down || exit 1' EXIT; $(MAKE) scaling
endif

scaling: install
	@cargo build --quiet --release --locked --package bench-scaling
	@$(CARGO_TARGET_DIR)/release/bench-scaling $(if $(QUICK),--quick)

# Needs the processes of the cluster and of its pods. Taken down however it ends, and with it every fault.
soak: ## Messages through every kind of fault, HOURS=1; SEED=n gives the same again; see target/soak/report.html
ifeq ($(CLUSTER),current)
	@echo 'CLUSTER=current: soak kills and stops processes of the machine that the pods run on, so it' >&2
	@echo 'uses the cluster that it brings up itself.' >&2
	@exit 1
else
	@trap '$(MAKE) down || exit 1' EXIT; $(MAKE) soaking
endif

soaking: install
	@cargo build --quiet --release --locked --package soak
	@$(CARGO_TARGET_DIR)/release/soak --hours $(or $(HOURS),1) $(if $(SEED),--seed $(SEED))

$(BENCH_PYTHON)/installed:
	@$(CLUSTER_SCRIPTS)/packages
	@python3 -m venv --clear $(BENCH_PYTHON)
	@$(BENCH_PYTHON)/bin/pip install --quiet --disable-pip-version-check --requirement tests/bench/requirements.txt
	@touch $@

# Taken down however the tests end.
test: ## All tests: unit, contract, real RabbitMQ and S3, a sample of test-crash, both demos, a real Kubernetes, a short soak
ifeq ($(CLUSTER),current)
	@echo 'CLUSTER=current: cargo test --test pipeline --test crash is left out, which starts servers of its own.'
	@$(MAKE) check end-to-end
else
	@$(CLUSTER_SCRIPTS)/packages browser
	@$(CLUSTER_SCRIPTS)/build oldest
	@$(MAKE) check
	cargo test --locked --test pipeline
	cargo test --locked --test crash
	@$(MAKE) demo-local
	@trap '$(MAKE) down || exit 1' EXIT; $(MAKE) demo && $(MAKE) end-to-end && $(MAKE) soaking HOURS=0.1
endif

# One case after another would take an hour; the test itself runs many side by side.
test-crash: ## Crash the operator at every write to a real API server, in six ways, and compare the ends
	@$(CLUSTER_SCRIPTS)/build
	CRASH_EVERY=1 cargo test --locked --test crash -- --nocapture matrix

end-to-end: install
	cargo test --locked --test end_to_end
ifeq ($(CLUSTER),current)
	@echo "CLUSTER=current: the operator's requests are not compared with its rights, which takes an audit log."
else
	cargo test --locked --test end_to_end -- --ignored
endif

# The crates of the package registry at these versions, each built once and outside the tree.
CARGO_DENY := $(CLUSTER_CACHE)/cargo-deny@0.20.2/bin/cargo-deny
CARGO_CYCLONEDX := $(CLUSTER_CACHE)/cargo-cyclonedx@0.5.9/bin/cargo-cyclonedx

$(CARGO_DENY) $(CARGO_CYCLONEDX): root = $(patsubst %/bin/$(@F),%,$@)
$(CARGO_DENY) $(CARGO_CYCLONEDX):
	@echo 'Building $(notdir $(root)), the first time only.'
	@env -u CARGO_TARGET_DIR cargo install --quiet --locked --root '$(root)' $(notdir $(root))

check: $(CARGO_DENY) ## Formatting, lints, what crates may come in, and the tests that need no server
	cargo fmt --check
	$(CARGO_DENY) --locked check bans licenses sources
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo clippy --locked --test pipeline --test crash --test end_to_end -- -D warnings
	cargo test --locked --workspace

# Both for this machine's platform, without what only tests and build scripts need. CycloneDX counts some
# optional crates more, which no feature compiles: cargo metadata, which it asks, does not tell them apart.
sbom: $(CARGO_CYCLONEDX) ## The parts of the program, as CycloneDX: target/sbom/image-pipeline.cdx.json
	@mkdir -p target/sbom
	@$(CARGO_CYCLONEDX) cyclonedx --describe binaries --no-build-deps --format json --spec-version 1.5
	@sed 's|file://$(CURDIR)|file://|' image-pipeline_bin.cdx.json > target/sbom/image-pipeline.cdx.json
	@rm image-pipeline_bin.cdx.json

licences: ## The parts of the program, each with its licence: target/sbom/licences.txt
	@mkdir -p target/sbom
	@cargo tree --locked --edges normal --prefix none --format '{p}: {l}' | \
		sed 's/ (\*)$$//; s/ (proc-macro)//' | sort -u | grep -v '^image-pipeline ' > target/sbom/licences.txt

# Not in check: the database of advisories is somewhere else, and says something new every day.
advisories: $(CARGO_DENY) ## Whether a crate in Cargo.lock has a known fault; asks the RustSec database
	$(CARGO_DENY) --locked check advisories

# Without the address sanitizer, which needs a nightly compiler: our code has no unsafe block.
fuzz: SECONDS := 60
fuzz: ## Feed the decoders of messages, keys, images and frames hostile input, SECONDS=60 each
	@command -v cargo-fuzz >/dev/null || cargo install --quiet --locked cargo-fuzz
	@for target in message key image frames; do \
		mkdir -p fuzz/corpus/$$target; \
		cargo fuzz run --sanitizer none $$target fuzz/corpus/$$target fuzz/seeds/$$target -- \
			-max_total_time=$(SECONDS) -timeout=10 -print_final_stats=1 || exit 1; \
	done

install: $(if $(CLUSTER),,operator) cluster ## Install the operator with the chart
	@$(CLUSTER_SCRIPTS)/install $(OPERATOR)

# The demo with it: built alone, either would have cargo compile some of the other's dependencies again.
operator:
	cargo build --release --locked --bins --package image-pipeline --package demo
