//! The accountant: what was published, what the wire saw, and what is there at the end, compared. It
//! must never check the product by the product's own code: it parses frames, requests and images with
//! what the product uses none of its own for.

pub mod account;
pub mod amqp_tap;
pub mod conversation;
mod frames;
pub mod ledger;
pub mod publisher;
pub mod read_back;
pub mod store_tap;
pub mod wire;
