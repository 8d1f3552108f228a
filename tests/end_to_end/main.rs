//! The product in a real Kubernetes, with a real RabbitMQ and a real S3 server, installed by its chart. `make test`
//! starts all of that. The tests share the cluster: `Namespace::with_parts` lets one test run at a time, after
//! everything that the previous test stopped or scaled works again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
// The modules are shared with the demo and the soak, and these tests use a part of them.
#![allow(dead_code)]

#[path = "../accounting/mod.rs"]
mod accounting;
mod bucket;
mod burst;
mod cluster;
mod delete;
#[path = "../pipeline/eventually.rs"]
mod eventually;
mod leader;
mod messages;
mod outage;
#[path = "../contract/docs/page.rs"]
mod page;
mod pages;
mod pipeline;
#[path = "../pipeline/plainly.rs"]
mod plainly;
#[path = "../pipeline/port.rs"]
mod port;
#[path = "../pipeline/proxy.rs"]
mod proxy;
mod refused;
mod release;
mod rights;
mod scale;
#[path = "../contract/docs/tried.rs"]
mod tried;
mod trouble;
mod whole;
