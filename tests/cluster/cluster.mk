# Owns which cluster the tests use, where their caches are, and the targets that
# bring the cluster up and down and build the image. Included by the Makefile.
# Must never let an ambient KUBECONFIG or context in, unless CLUSTER=current is said.

CLUSTER_SCRIPTS := $(patsubst %/,%,$(dir $(lastword $(MAKEFILE_LIST))))
cluster_paths   := $(shell $(CLUSTER_SCRIPTS)/paths)
CLUSTER_DIR     := $(word 1,$(cluster_paths))
CLUSTER_BIN     := $(word 2,$(cluster_paths))
CLUSTER_CACHE   := $(word 3,$(cluster_paths))
export CLUSTER_DIR

# Outside the tree, so that a clean clone finds its dependencies compiled.
export CARGO_TARGET_DIR ?= $(CLUSTER_CACHE)/target

ifeq ($(CLUSTER),)
override export KUBECONFIG := $(CLUSTER_DIR)/kubeconfig
export PATH := $(CLUSTER_BIN):$(PATH)
else ifeq ($(CLUSTER),current)
export CLUSTER IMAGE
else
$(error CLUSTER=$(CLUSTER): say CLUSTER=current for the context you are in, or nothing for the tests' own cluster)
endif

.PHONY: cluster down image

ifeq ($(CLUSTER),current)
cluster: ## The cluster of the current context, as it is
	@test -n "$(IMAGE)" || { echo "CLUSTER=current needs IMAGE=<the operator's image, where this cluster can pull it>: see make image" >&2; exit 1; }
	@echo "Using the current context, $$(kubectl config current-context), and $(IMAGE)"

down: ## Nothing: the cluster of the current context is left as it is
	@echo 'CLUSTER=current: nothing was brought up, so nothing is taken down. What was installed goes with'
	@echo '  kubectl delete namespace greench'
	@echo '  helm uninstall image-pipeline --namespace image-pipeline-system'
	@echo '  kubectl delete namespace image-pipeline-system'
	@echo '  kubectl delete crd imagepipelines.greench.dev    # and with it every ImagePipeline there is'
else
cluster: ## Build what the tests' cluster is made of, and bring it up
	@$(CLUSTER_SCRIPTS)/build
	@$(CLUSTER_SCRIPTS)/up

down: ## Take the tests' cluster down, without a trace
	@$(CLUSTER_SCRIPTS)/down
endif

image: ## Build the operator's image: IMAGE=registry/name:tag [BINARY=prebuilt] [BASE=...] [BUILDER=...]
	@IMAGE='$(IMAGE)' BINARY='$(BINARY)' BASE='$(BASE)' BUILDER='$(BUILDER)' $(CLUSTER_SCRIPTS)/make-image
