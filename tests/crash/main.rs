//! The operator against a real control plane, through a proxy that does to its writes whatever can
//! happen to them: wherever it is killed, it ends where it would have, and is then still. `cargo test
//! --test crash` runs a sample of it and `make test-crash` the whole; it needs root, and what
//! tests/cluster/build builds. It must never reach a cluster that it did not start.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod control_plane;
mod fault;
mod gate;
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
mod recreate;
mod scenario;
mod watches;
