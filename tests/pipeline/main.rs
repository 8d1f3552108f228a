//! Integration tests with real parts: RabbitMQ of three versions, a real S3 server and the real binary, started on
//! loopback and removed when the tests end. `cargo test --test pipeline` runs them; they need root, Debian's
//! package mirror once, and versitygw (tests/cluster/build makes it).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod accounted;
#[path = "../accounting/mod.rs"]
#[allow(dead_code)] // the soak needs more of it
mod accounting;
#[path = "../contract/api_server.rs"]
#[allow(dead_code)] // the contract tests need more of it
mod api_server;
mod broker;
mod broker_cluster;
mod browser;
mod certificates;
mod client;
mod consumer;
mod delivery_limit;
mod eventually;
mod host;
mod images;
mod late_confirms;
mod memory_group;
#[path = "../contract/named.rs"]
#[allow(dead_code)] // as above
mod named;
#[path = "../contract/operator.rs"]
#[allow(dead_code)] // as above
mod operator;
mod plainly;
mod port;
mod process;
mod proxy;
mod recorder;
mod scene;
mod store;

mod acknowledgement;
mod bad_consumers;
mod broker_faults;
mod check;
mod cluster_limit;
mod console;
mod controller;
mod happy_path;
mod hostile;
mod identity;
mod kills;
mod options;
mod outage;
mod parked;
mod parking;
mod parts;
mod poison;
mod publish;
mod queue;
mod refused_queues;
mod run;
mod shutdown;
mod stalls;
mod storage_faults;
mod store_answers;
mod store_tls;
mod storm;
mod tls;
mod trace;
mod truth;
