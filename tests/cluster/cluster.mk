# Selects the cluster of the tests and the cache directories, and has the targets that
# start and stop the cluster and build the image. Included by the Makefile. CLUSTER is
# `own` (default): a cluster of this repository; `kind`: a cluster of kind; or `current`:
# the current context, which is ignored otherwise, like KUBECONFIG.

CLUSTER_SCRIPTS := $(patsubst %/,%,$(dir $(lastword $(MAKEFILE_LIST))))
cluster_paths   := $(shell $(CLUSTER_SCRIPTS)/paths)
CLUSTER_DIR     := $(word 1,$(cluster_paths))
CLUSTER_BIN     := $(word 2,$(cluster_paths))
CLUSTER_CACHE   := $(word 3,$(cluster_paths))
export CLUSTER_DIR

# make and cargo compile into the same directory. In a new clone it is a link to the cache, so that the clone finds
# compiled dependencies.
ifeq ($(origin CARGO_TARGET_DIR),undefined)
linked := $(shell [ -e '$(CURDIR)/target' ] || \
	{ mkdir -p '$(CLUSTER_CACHE)/target' && ln -sf '$(CLUSTER_CACHE)/target' '$(CURDIR)/target'; })
endif
TARGET_DIR := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)

ifneq ($(filter own,$(CLUSTER)),)
override CLUSTER :=
endif

USER_PATH := $(PATH)
ifeq ($(CLUSTER),)
override export KUBECONFIG := $(CLUSTER_DIR)/kubeconfig
export PATH := $(CLUSTER_BIN):$(PATH)
else ifeq ($(CLUSTER),kind)
export CLUSTER
override export KUBECONFIG := $(word 5,$(cluster_paths))
else ifeq ($(CLUSTER),current)
export CLUSTER IMAGE
else
$(error CLUSTER=$(CLUSTER): use own, kind or current)
endif

.PHONY: cluster down image

ifeq ($(CLUSTER),current)
cluster: ## Use the cluster of the current context, unchanged
	@test -n "$(IMAGE)" || { echo "CLUSTER=current needs IMAGE=<the operator's image, which this cluster can pull>: see make image" >&2; exit 1; }
	@echo "Using the current context, $$(kubectl config current-context), and $(IMAGE)"

down: ## Do nothing: the cluster of the current context is not changed
	@echo 'CLUSTER=current: no cluster was started, so none is stopped. To uninstall:'
	@echo '  kubectl delete namespace greench'
	@echo '  helm uninstall image-pipeline --namespace image-pipeline-system'
	@echo '  kubectl delete namespace image-pipeline-system'
	@echo '  kubectl delete crd imagepipelines.greench.dev    # deletes all ImagePipelines'
else ifeq ($(CLUSTER),kind)
cluster: ## Start a cluster of kind
	@$(CLUSTER_SCRIPTS)/kind up

down: ## Delete the cluster of kind
	@$(CLUSTER_SCRIPTS)/kind down
else
cluster: ## Build the test cluster, and start it
	@$(CLUSTER_SCRIPTS)/build
	@$(CLUSTER_SCRIPTS)/up

down: ## Stop the test cluster, and remove everything that it created
	@$(CLUSTER_SCRIPTS)/down
endif

image: ## Build the operator's image: IMAGE=registry/name:tag [PLATFORM=linux/arm64] [BINARY=prebuilt] [BASE=...] [BUILDER=...]
	@IMAGE='$(IMAGE)' PLATFORM='$(PLATFORM)' BINARY='$(BINARY)' BASE='$(BASE)' BUILDER='$(BUILDER)' $(CLUSTER_SCRIPTS)/make-image
