//! Integration tests with real parts: RabbitMQ of three versions, a real S3 server and the real binary, started on
//! loopback and removed when the tests end. `cargo test --test integration` runs them; they need root, Debian's
//! package mirror once, and versitygw (`tests/cluster/build one-host` makes it).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod accounted;
mod browser;
mod consumer_process;
mod late_confirms;
mod memory_group;
mod parts;
mod recorder;
mod scene;

/// The commands `check`, `parked`, `publish` and `run`.
mod cli {
    mod check;
    pub mod parked;
    mod publish;
    mod run;
}

/// The consumer, between a broker and a store with faults.
mod consumer {
    mod acknowledgement;
    mod bad_consumers;
    mod broker_faults;
    mod cluster_limit;
    mod delivery_limit;
    mod early_answers;
    mod happy_path;
    mod headers;
    mod hostile;
    mod identity;
    mod kills;
    mod options;
    mod outage;
    mod parking;
    mod poison;
    mod queue;
    mod refused_queues;
    mod shutdown;
    mod stalls;
    mod storage_faults;
    pub mod store_answers;
    mod store_tls;
    mod storm;
    mod tls;
    mod trace;
}

/// The operator, with an API server in memory.
mod operator {
    mod channels;
    mod console;
    mod controller;
    mod rollouts;
    mod truth;
}
