# The image of ImagePipeline: one binary, no shell, not root.
#
#   docker build -t registry.example/image-pipeline:dev .
#
# compiles the binary from the sources. `--target prebuilt` takes it instead as the
# file image-pipeline from a build context that holds just that.
ARG BUILDER=docker.io/library/rust:1-bookworm
ARG BASE=gcr.io/distroless/cc-debian12:nonroot

FROM ${BUILDER} AS builder
WORKDIR /source
COPY . .
RUN cargo build --release --locked --bin image-pipeline \
 && cp target/release/image-pipeline /image-pipeline

# The builder and the base are the same Debian, so that the binary finds the C
# library it was linked to.
FROM ${BASE} AS base
LABEL org.opencontainers.image.title="image-pipeline" \
      org.opencontainers.image.description="Kubernetes operator that carries images from a RabbitMQ queue into an S3 bucket" \
      org.opencontainers.image.licenses="Apache-2.0"
# By number: a pod that says runAsNonRoot cannot check a name.
USER 65532:65532
ENTRYPOINT ["/image-pipeline"]

FROM base AS prebuilt
COPY image-pipeline /image-pipeline

FROM base AS compiled
COPY --from=builder /image-pipeline /image-pipeline
