//! Contracts between the code and the files around it, checked without a cluster.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod api_server;
mod architecture;
mod bounds;
mod chart;
mod check;
mod crd;
mod docs;
mod examples;
#[path = "../pipeline/images.rs"]
#[allow(dead_code)] // the pipeline tests need more of it
mod images;
mod isolation;
mod leader;
mod loopback;
mod named;
mod namespaces;
mod operator;
mod reconcile;
mod reference;
mod renewals;
mod secrets;
