//! Integration tests with real parts: RabbitMQ of three versions, a real S3 server and the real binary, started on
//! loopback and removed when the tests end. `cargo test --test pipeline` runs them; they need root, Debian's
//! package mirror once, and versitygw (tests/cluster/build makes it).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod accounted;
mod browser;
mod consumer;
mod delivery_limit;
mod late_confirms;
mod memory_group;
mod recorder;
mod scene;

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
