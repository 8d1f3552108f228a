//! The product in a real Kubernetes, with a real RabbitMQ and a real S3 server, installed by its
//! chart. `make test` brings all that up. The tests share the cluster. Each waits for its turn, which
//! `Namespace::with_parts` gives to one test at a time, once what the last test stopped or scaled works again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod burst;
mod delete;
mod leader;
mod outage;
mod pages;
mod refused;
mod release;
mod rights;
mod scale;
mod trouble;
