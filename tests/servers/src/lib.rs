//! RabbitMQ, S3 servers and clusters that tests start, and the clients that tests use.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod broker;
pub mod broker_cluster;
pub mod bucket;
pub mod client;
pub mod cluster;
pub mod control_plane;
pub mod host;
pub mod loopback;
pub mod messages;
pub mod named;
pub mod objects;
pub mod operator;
pub mod pipeline;
pub mod plainly;
pub mod store;
pub mod whole;
