# The image of ImagePipeline: one binary, no shell, not root.
#
#   docker build -t registry.example/image-pipeline:dev \
#     --build-arg REVISION="$(git describe --always --dirty --exclude '*')" .
#
# compiles the binary from the sources, which without REVISION don't know their commit: the build
# context has no .git. `--target prebuilt` takes it instead as the
# file image-pipeline from a build context that holds just that.
#
# `make base-images` renews the digests, and takes only an index with an image for linux/amd64
# and one for linux/arm64.
ARG BUILDER=docker.io/library/rust:1-bookworm@sha256:593db038d36ea0d2e5b22a2e095eb95dbec607d88d658c2f35f65ee880b4f93a
ARG BASE=gcr.io/distroless/cc-debian12:nonroot@sha256:9dac0a79194e45a7da0158a9c6da57b217585af0786db3845d1f0ec1a0dd182f
ARG REVISION=unknown

FROM ${BUILDER} AS builder
WORKDIR /source
COPY . .
ARG REVISION
RUN IMAGE_PIPELINE_REVISION="${REVISION}" cargo build --release --locked --bin image-pipeline \
 && cp target/release/image-pipeline /image-pipeline

# The builder and the base are the same Debian, so that the binary finds the C
# library it was linked to.
FROM ${BASE} AS base
ARG REVISION
LABEL org.opencontainers.image.title="image-pipeline" \
      org.opencontainers.image.description="Kubernetes operator that carries images from a RabbitMQ queue into an S3 bucket" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${REVISION}"
# By number: a pod that says runAsNonRoot cannot check a name.
USER 65532:65532
# In the PATH, for `kubectl exec … -- image-pipeline check`.
ENTRYPOINT ["/usr/local/bin/image-pipeline"]

FROM base AS prebuilt
COPY image-pipeline /usr/local/bin/image-pipeline

FROM base AS compiled
COPY --from=builder /image-pipeline /usr/local/bin/image-pipeline
