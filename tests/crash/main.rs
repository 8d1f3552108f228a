//! The operator against a real control plane, through a proxy that injects faults into its writes: wherever it is
//! killed, it reaches the same end state, and then writes nothing. The roles and admission policies of the chart limit
//! it. `cargo test --test crash` runs a sample of the cases and `make test-crash` all of them. The tests need root and
//! the programs that tests/cluster/build builds, and use only clusters that they start.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod chart;
mod control_plane;
mod fault;
mod gate;
mod kubectl;
mod kubelet;
mod lives;
mod scene;
mod state;
mod world;

mod delete;
mod fields;
mod matrix;
mod oldest;
mod outage;
mod policy;
mod recreate;
mod scenario;
mod watches;
