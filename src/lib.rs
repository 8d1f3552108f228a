//! ImagePipeline: a Kubernetes operator that stores the images of a RabbitMQ queue in an S3 bucket.
//!
//! ```text
//! data:     queue ─▶ decode ─▶ encode ─▶ upload ─▶ settle              src/consumer/
//! control:  watch ─▶ observe ─▶ decide ─▶ build ─▶ apply ─▶ status     src/controller/
//! ```
//!
//! The two halves do not import each other, with one exception: `controller/build` writes the consumer's command line
//! from the consumer's argument type. Shared modules: `api` (the resource), `reason` (all reasons), `pod_status` (the
//! status that a consumer reports), `message` (the default message format), `rabbitmq` (addresses, connections, the
//! broker options of commands; the only user of `lapin`), `manifest` (resources and Secrets in files), `http` and `html`
//! (the HTTP server and its pages), `console` (the operator's pages about its pipelines), `shutdown`, `telemetry` and
//! `version`. Commands: `controller`, `consumer`, `run` (a consumer without Kubernetes), `check` (tests the
//! dependencies of a pipeline), `publish` (publishes images), `parked` (lists, redrives and drops parked messages) and
//! `probe`.

pub mod api;
pub mod check;
pub mod console;
pub mod consumer;
pub mod controller;
pub mod html;
pub mod http;
pub mod manifest;
pub mod message;
pub mod parked;
pub mod pod_status;
pub mod probe;
pub mod publish;
pub mod rabbitmq;
pub mod reason;
pub mod run;
pub mod shutdown;
pub mod telemetry;
pub mod version;
