//! The product in a real Kubernetes, with a real RabbitMQ and a real S3 server, installed by its chart. `make test`
//! starts all of that. The tests share the cluster: `Namespace::with_parts` lets one test run at a time, after
//! everything that the previous test stopped or scaled works again.
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
mod stolen_token;
mod trouble;
