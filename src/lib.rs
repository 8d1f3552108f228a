//! ImagePipeline: a Kubernetes operator that carries images from a RabbitMQ queue into an S3
//! bucket. This file is the map; it must hold no code.
//!
//! ```text
//! data:     queue ─▶ decode ─▶ encode ─▶ upload ─▶ settle              src/consumer/
//! control:  watch ─▶ observe ─▶ decide ─▶ build ─▶ apply ─▶ status     src/controller/
//! ```
//!
//! The two halves do not import each other, save that `controller/build` writes the consumer's
//! command line from the consumer's own argument type. What both need stands beside them:
//! `api` (the resource), `reason` (every reason there is), `pod_status` (what a consumer tells of
//! itself), `broker_address` (how Secrets name a broker), `queue` (RabbitMQ, the only `lapin`),
//! `http` and `html` (what processes serve), `version` (which build this is). `publish` is the device's
//! side, `parked` repairs what was set aside, `broker_args` is how a person's command is told of the
//! broker; `run` takes a manifest where there is no Kubernetes; `check` tries one, or one that a cluster has.

pub mod api;
pub mod broker_address;
pub mod broker_args;
pub mod check;
pub mod consumer;
pub mod controller;
pub mod html;
pub mod http;
pub mod message;
pub mod parked;
pub mod pod_status;
pub mod probe;
pub mod publish;
pub mod queue;
pub mod reason;
pub mod run;
pub mod shutdown;
pub mod telemetry;
pub mod version;
