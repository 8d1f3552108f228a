# `make` lists the targets. tests/cluster/cluster.mk says which cluster they use.

.DEFAULT_GOAL := help
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory
SHELL := bash

include tests/cluster/cluster.mk

# Demonstrations and tests run programs that compile in less time. What is measured, and what an hour of faults is shown
# for, is what users get.
PROFILE := quick
BUILT = $(TARGET_DIR)/$(PROFILE)
OPERATOR = $(BUILT)/image-pipeline
bench bench-fleet scaling: PROFILE := release

.PHONY: help demo demonstration demo-local arm64 bench bench-scaling bench-fleet scaling soak soaking corpus test test-crash end-to-end quick check shellcheck fuzz sbom licenses advisories base-images install operator

help:
	@echo 'make TARGET'
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { if (!($$1 in does)) order[++n] = $$1; does[$$1] = $$2 } \
		END { for (i = 1; i <= n; i++) printf "  %-15s%s\n", order[i], does[order[i]] }' $(MAKEFILE_LIST)
	@echo 'demo uses kind if docker, kind, kubectl and helm are installed, and else starts a cluster of its own;'
	@echo 'CLUSTER=own or CLUSTER=kind selects one. With CLUSTER=current IMAGE=<an image that the cluster can'
	@echo 'pull>, demo, install and test use the cluster of your current context; otherwise they ignore it.'

demo: ## Start a cluster and process 300 images from a queue to a bucket; writes target/demo/report.html
ifeq ($(origin CLUSTER),undefined)
	@if PATH='$(USER_PATH)' $(CLUSTER_SCRIPTS)/kind usable; then \
		echo 'Using a cluster of kind, because docker and kind are installed. CLUSTER=own builds a Kubernetes instead.'; \
		$(MAKE) demonstration CLUSTER=kind; \
	else $(MAKE) demonstration; fi
else
	@$(MAKE) demonstration
endif

demonstration: install operator
	@$(CLUSTER_SCRIPTS)/parts greench
	@$(BUILT)/demo
ifneq ($(CLUSTER),current)
	@echo 'The cluster runs until make down$(if $(CLUSTER), CLUSTER=$(CLUSTER)). To use it with kubectl, as in docs/quick-start.md:'
	@echo '  export KUBECONFIG=$(KUBECONFIG) PATH=$(if $(CLUSTER),,$(CLUSTER_BIN):)$(BUILT):$$PATH'
	@echo '  kubectl get imgp -A -o wide'
endif

# Says why nothing happens for minutes: cargo compiles 340 crates before the programs.
first_build = @[ -e '$(BUILT)/.fingerprint' ] || \
	echo 'Compiling the programs into $(BUILT): about 11 minutes on two cores, only the first time.'

demo-local: ## Process 100 images without Kubernetes: RabbitMQ, an S3 server and one process; 1 minute
	@$(CLUSTER_SCRIPTS)/build one-host
	$(first_build)
	@cargo build --profile $(PROFILE) --locked --bins --package image-pipeline --package demo-local
	@$(BUILT)/demo-local --program $(OPERATOR)

ARM64 := $(TARGET_DIR)/aarch64-unknown-linux-gnu/$(PROFILE)

arm64: ## Cross-compile for linux/arm64; run unit tests and demo-local with qemu
	@supply-chain/arm64 test --profile $(PROFILE) --locked --package image-pipeline --package delivery-policy --package png-recode --lib
	@supply-chain/arm64 test --profile $(PROFILE) --locked --package png-recode --test files
	@supply-chain/arm64 build --profile $(PROFILE) --locked --bin image-pipeline
	@$(CLUSTER_SCRIPTS)/build one-host
	@cargo build --profile $(PROFILE) --locked --package demo-local
	@printf '#!/bin/sh\nexec "$(CURDIR)/supply-chain/emulated" "$(ARM64)/image-pipeline" "$$@"\n' >$(ARM64)/emulated
	@chmod +x $(ARM64)/emulated
	@$(BUILT)/demo-local --program $(ARM64)/emulated

# The name has the hash of the requirements. Outside the tree, like all caches.
BENCH_PYTHON := $(CLUSTER_CACHE)/bench-python-$(shell sha256sum tests/bench/requirements.txt | cut -c1-12)

bench: $(BENCH_PYTHON)/installed ## Benchmark against the service it replaces, 10 minutes; QUICK=1: 2 minutes; LONG=1: memory over 10,000 messages
	@$(CLUSTER_SCRIPTS)/build one-host
	@cargo build --profile $(PROFILE) --locked --bins --package image-pipeline --package bench
	@$(BUILT)/bench --python $(BENCH_PYTHON)/bin/python \
		$(if $(QUICK),--quick) $(if $(LONG),--long)

# Needs /proc of the operator's process and the audit log of the API server. Always takes the cluster down.
bench-scaling: ## Benchmark the operator with one pipeline and with a thousand, 25 minutes; QUICK=1: 7 minutes
ifneq ($(CLUSTER),)
	@echo 'CLUSTER=$(CLUSTER): not supported. bench-scaling reads /proc on the machine of the operator, so it' >&2
	@echo 'needs the cluster that it starts itself.' >&2
	@exit 1
else
	@trap '$(MAKE) down || exit 1' EXIT; $(MAKE) scaling
	@$(MAKE) bench-fleet
endif

scaling: install
	@cargo build --profile $(PROFILE) --locked --package bench-scaling
	@$(BUILT)/bench-scaling cluster $(if $(QUICK),--quick)

# In a network namespace of its own: the pods' addresses are those of its loopback.
bench-fleet: ## Benchmark the operator with 10,000 pipelines and 20,000 pods that only an API server knows; QUICK=1: a tenth
	@$(CLUSTER_SCRIPTS)/build
	@cargo build --profile $(PROFILE) --locked --bins --package image-pipeline --package bench-scaling
	@unshare --net sh -c 'ip link set lo up && exec "$$@"' fleet $(BUILT)/bench-scaling fleet $(if $(QUICK),--quick)

# Needs the processes of the cluster and its pods. Always takes the cluster down, which removes all injected faults.
soak: ## Process messages while injecting faults, HOURS=1; SEED=n repeats a run; writes target/soak/report.html
ifneq ($(CLUSTER),)
	@echo 'CLUSTER=$(CLUSTER): not supported. soak kills and stops processes on the machine of the pods, so it' >&2
	@echo 'needs the cluster that it starts itself.' >&2
	@exit 1
else
	@trap '$(MAKE) down || exit 1' EXIT; $(MAKE) soaking PROFILE=release
endif

soaking: install
	@cargo build --profile $(PROFILE) --locked --package soak
	@$(BUILT)/soak --hours $(or $(HOURS),1) $(if $(SEED),--seed $(SEED))

CORPUS_PYTHON := $(CLUSTER_CACHE)/corpus-python-$(shell sha256sum tests/corpus/requirements.txt | cut -c1-12)

corpus: $(CORPUS_PYTHON)/installed ## Convert images of every kind, and judge the PNGs with other decoders; SAMPLE=1: fewer images
	@rm -rf target/corpus
	@$(CORPUS_PYTHON)/bin/python -B tests/corpus/make.py target/corpus $(if $(SAMPLE),--sample)
	@cargo build --profile $(PROFILE) --locked --package corpus
	@$(BUILT)/corpus target/corpus
	@$(CORPUS_PYTHON)/bin/python -B tests/corpus/judge.py target/corpus

$(BENCH_PYTHON)/installed: requirements := tests/bench/requirements.txt
$(CORPUS_PYTHON)/installed: requirements := tests/corpus/requirements.txt
$(BENCH_PYTHON)/installed $(CORPUS_PYTHON)/installed:
	@$(CLUSTER_SCRIPTS)/packages
	@python3 -m venv --clear $(@D)
	@$(@D)/bin/pip install --quiet --disable-pip-version-check --requirement $(requirements)
	@touch $@

# Always takes the cluster down.
test: ## All tests: unit, contract, real RabbitMQ and S3, samples of test-crash and corpus, both demos, a real Kubernetes, a short soak
ifneq ($(CLUSTER),)
	@echo 'CLUSTER=$(CLUSTER): skipping cargo test --test integration --test crash, which start their own servers.'
	@$(MAKE) check end-to-end
else
	@$(CLUSTER_SCRIPTS)/packages browser
	@$(CLUSTER_SCRIPTS)/build oldest
	@$(MAKE) check
	cargo test --locked --test integration
	cargo test --locked --test crash
	@$(MAKE) demo-local
	@$(MAKE) corpus SAMPLE=1
	@trap '$(MAKE) down || exit 1' EXIT; $(MAKE) demonstration && $(MAKE) end-to-end && $(MAKE) soaking HOURS=0.1
endif
	@$(MAKE) sbom
# A fault fails the test. A database that is missing or old fails no code: the last line says so.
	@supply-chain/advisories $(CARGO_DENY) || (($$? >= 3))

# Sequentially the cases would take an hour; the test runs many in parallel.
test-crash: ## Crash the operator at every write to a real API server, in six ways, and compare the final states
	@$(CLUSTER_SCRIPTS)/build
	CRASH_EVERY=1 cargo test --locked --test crash -- --nocapture matrix

end-to-end: install
	cargo test --locked --test end_to_end
ifneq ($(CLUSTER),)
	@echo "CLUSTER=$(CLUSTER): skipping the comparison of the operator's requests with its RBAC rules (needs the audit log)."
else
	cargo test --locked --test end_to_end -- --ignored
endif

# Tools from crates.io at fixed versions, built once, outside the tree.
CARGO_DENY := $(CLUSTER_CACHE)/cargo-deny@0.20.2/bin/cargo-deny
CARGO_CYCLONEDX := $(CLUSTER_CACHE)/cargo-cyclonedx@0.5.9/bin/cargo-cyclonedx

$(CARGO_DENY) $(CARGO_CYCLONEDX): root = $(patsubst %/bin/$(@F),%,$@)
$(CARGO_DENY) $(CARGO_CYCLONEDX):
	@echo 'Building $(notdir $(root)) (first time only).'
	@env -u CARGO_TARGET_DIR cargo install --quiet --locked --root '$(root)' $(notdir $(root))

quick: ## Format, lints and the tests that need neither helm nor a server, for while you work
	cargo fmt --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo test --locked --quiet --package image-pipeline --package delivery-policy --package png-recode --lib
	cargo test --locked --quiet --test contract -- --skip chart::

check: $(CARGO_DENY) ## Formatting, lints, allowed crates and licenses, and the tests that need no server
	cargo fmt --check
	$(CARGO_DENY) --locked check bans licenses sources
	@$(MAKE) shellcheck
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo clippy --locked --test integration --test crash --test end_to_end -- -D warnings
	cargo test --locked --workspace

shellcheck: ## Lint the shell scripts
	@command -v shellcheck >/dev/null || $(CLUSTER_SCRIPTS)/packages shellcheck
	shellcheck --external-sources $(filter-out %.c %.mk %/go %/manifests,$(wildcard tests/cluster/* supply-chain/*)) tests/servers/server tests/accounting/python .ci/run

sbom: $(CARGO_CYCLONEDX) ## Software bill of materials in CycloneDX format: target/sbom/image-pipeline-linux-amd64.cdx.json, and arm64
	@supply-chain/sbom $(CARGO_CYCLONEDX)

# For this machine's platform, without dev and build dependencies, but with procedural macros.
licenses: ## Dependencies with their licenses: target/sbom/licenses.txt
	@mkdir -p target/sbom
	@cargo tree --locked --edges normal --prefix none --format '{p}: {l}' | \
		sed 's/ (\*)$$//; s/ (proc-macro)//' | sort -u | grep -v '^image-pipeline ' > target/sbom/licenses.txt

# Not part of check: the advisory database is remote and changes daily.
advisories: $(CARGO_DENY) ## Check Cargo.lock against the RustSec advisory database, or the snapshot of it in the cache
	@supply-chain/advisories $(CARGO_DENY)

base-images: ## Renew the digests of the images that the Dockerfile starts from
	@supply-chain/base-images

# Without the address sanitizer: it needs a nightly compiler, and this code has no unsafe block.
fuzz: SECONDS := 60
fuzz: ## Fuzz the decoders of messages, keys, images, PNG files and frames, SECONDS=60 each
	@command -v cargo-fuzz >/dev/null || cargo install --quiet --locked cargo-fuzz
	@for target in message key image png frames; do \
		mkdir -p fuzz/corpus/$$target; \
		cargo fuzz run --sanitizer none $$target fuzz/corpus/$$target fuzz/seeds/$$target -- \
			-max_total_time=$(SECONDS) -timeout=10 -print_final_stats=1 || exit 1; \
	done

install: $(if $(filter current,$(CLUSTER)),,operator) cluster ## Install the operator with the Helm chart
	@$(CLUSTER_SCRIPTS)/install $(OPERATOR)

# Builds the demo too: in separate builds, cargo would compile some shared dependencies twice.
operator:
	$(first_build)
	cargo build --profile $(PROFILE) --locked --bins --package image-pipeline --package demo
