//! Contracts between the code and the files around it, checked without a cluster.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod architecture;
mod bounds;
mod chart;
mod check;
mod circles;
mod crd;
mod docs;
mod examples;
mod field_paths;
mod isolation;
mod kind;
mod leader;
mod messages;
mod namespaces;
mod reasons;
mod reconcile;
mod reference;
mod renewals;
mod secrets;
mod supply_chain;
