//! The accountant compares what was published, what passed on the wire, and what is stored or queued at the end. It
//! uses none of the product's code (its manifest has no path to it): it parses frames, requests and images with its
//! own means.
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
