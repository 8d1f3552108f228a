//! What `make demo` shows: a burst of images into a queue, pods that come and go with it, and every
//! image in the bucket. It must never claim what it has not counted: the last line comes from the
//! bucket's own listing and the parking queue's own depth.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
// Modules are shared between the demo and the end-to-end tests, and each uses a part of them.
#![allow(dead_code)]

#[path = "../end_to_end/bucket.rs"]
mod bucket;
mod burst;
#[path = "../end_to_end/cluster.rs"]
mod cluster;
#[path = "../pipeline/eventually.rs"]
mod eventually;
#[path = "../end_to_end/messages.rs"]
mod messages;
#[path = "../end_to_end/pipeline.rs"]
mod pipeline;
mod report;
mod watch;

use std::process::ExitCode;
use std::time::Duration;

use bucket::Storage;
use cluster::Namespace;
use messages::Messages;
use pipeline::Pipeline;
use report::Report;
use watch::Watch;

const NAMESPACE: &str = "greench";
const PIPELINE: &str = "forest-tiles";
const QUEUE: &str = "segmented-images";
const BUCKET: &str = "bucket-greench";
const IMAGES: u32 = 300;

/// examples/imagepipeline.yaml asks for a pod per 50 messages.
const PODS: i64 = 6;

#[tokio::main]
async fn main() -> ExitCode {
    rustls::crypto::aws_lc_rs::default_provider().install_default().expect("the first provider");
    let namespace = Namespace::with_parts(NAMESPACE);
    let (messages, storage) = (Messages::of(&namespace).await, Storage::of(&namespace));
    storage.ensure_empty(BUCKET).await;
    messages.declare(QUEUE).await;
    messages.take_parked(&format!("{QUEUE}.parked")).await;

    let pipeline = Pipeline { namespace: &namespace, name: PIPELINE };
    namespace.kubectl(&["apply", "-f", concat!(env!("CARGO_MANIFEST_DIR"), "/examples/imagepipeline.yaml")]);
    pipeline.shows("Ready", "True", "Idle", Duration::from_secs(60)).await;
    println!("{}", namespace.kubectl(&["get", "imgp", PIPELINE]));

    println!("Preparing {IMAGES} tiles of 640 × 640 as a device would …");
    let bodies = burst::prepare(IMAGES);
    let watch = Watch::start(&namespace, PIPELINE, QUEUE, BUCKET).await;
    let burst = burst::publish(&messages, QUEUE, bodies).await;
    println!("{burst}");
    let history = watch.until_done(IMAGES as usize).await;

    let parked = messages.take_parked(&format!("{QUEUE}.parked")).await.len();
    let keys = storage.keys(BUCKET).await;
    let images = storage.some(BUCKET, &keys, 24).await;
    let report = Report { published: burst.confirmed, stored: keys.len(), parked, pods: PODS, burst, history, images };
    let path = report.write();
    println!("{}", namespace.kubectl(&["get", "imgp", PIPELINE]));
    println!("{}", report.figures());
    println!("Report: {}", path.display());
    println!("{}", report.account());
    if report.lost() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
