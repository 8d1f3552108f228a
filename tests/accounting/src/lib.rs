//! The accountant: what was published, what passed on the wire, and what is there at the end, compared.
//! It must never check the product by the product's own code: frames, requests, images and what is
//! read back are understood here by other means.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod account;
pub mod amqp;
pub mod amqp_tap;
pub mod conversation;
mod frames;
pub mod head;
pub mod ledger;
pub mod pixels;
mod proofs;
pub mod publisher;
pub mod read_back;
mod settling;
pub mod store_faults;
pub mod store_tap;
pub mod wire;
