//! The program behind `make demo`: publishes a burst of images, shows pods start and end with it, and checks that
//! every image is in the bucket. The last line is counted from the bucket's listing and the parking queue's depth.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod burst;
mod watch;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use burst::Burst;
use demo::recording::{Outcome, Recording, Sample, Size};
use demo::{report, write_report};
use image_pipeline::publish::SampleArgs;
use jiff::Timestamp;
use servers::bucket::Storage;
use servers::cluster::Namespace;
use servers::messages::{Messages, tiles};
use servers::pipeline::Pipeline;
use watch::{History, Watch};

const EXAMPLE: &str = include_str!("../../examples/imagepipeline.yaml");
/// The example's namespace. DEMO_NAMESPACE sets another.
const NAMESPACE: &str = "greench";
const PIPELINE: &str = "forest-tiles";
const QUEUE: &str = "segmented-images";
const BUCKET: &str = "bucket-greench";
const IMAGES: u32 = 300;
const SHOWN_IMAGES: usize = 24;

#[tokio::main]
async fn main() -> ExitCode {
    rustls::crypto::aws_lc_rs::default_provider().install_default().expect("the first provider");
    let name = std::env::var("DEMO_NAMESPACE").unwrap_or_else(|_| NAMESPACE.to_owned());
    let namespace = Namespace::with_parts(&name);
    let (messages, storage) = (Messages::of(&namespace).await, Storage::of(&namespace));
    storage.ensure(BUCKET).await;
    messages.declare(QUEUE).await;
    let parking_queue = format!("{QUEUE}.parked");
    let parked_before = messages.parked(&parking_queue).await;

    let pipeline = Pipeline { namespace: &namespace, name: PIPELINE };
    namespace.must_apply(&example_for(&name));
    pipeline.shows("Ready", "True", "Idle", Duration::from_secs(60)).await;
    println!("{}", namespace.kubectl(&["get", "imgp", PIPELINE]));

    println!("Preparing {IMAGES} tiles of 640 × 640 pixels …");
    // Names with a prefix of this run, so that objects of earlier runs do not count.
    let prefix = format!("demo-{}/", Timestamp::now().strftime("%Y%m%dT%H%M%SZ"));
    let samples = SampleArgs { prefix: prefix.clone(), ..tiles(640) };
    let bodies = burst::prepare(&samples, IMAGES);
    let watch = Watch::start(&namespace, PIPELINE, QUEUE, BUCKET, &prefix).await;
    let (burst, history) = tokio::join!(burst::publish(&messages, QUEUE, bodies), watch.until_done(IMAGES as usize));
    println!("{burst}");

    let keys = storage.keys_under(BUCKET, &prefix).await;
    let parked = messages.parked(&parking_queue).await.saturating_sub(parked_before) as usize;
    let outcome = Outcome { published: burst.confirmed, stored: keys.len(), parked };
    let recording = recording(&burst, &history, outcome);
    println!("{}", namespace.kubectl(&["get", "imgp", PIPELINE]));
    for (value, meaning) in report::measured(&recording) {
        println!("{value:>10}  {meaning}");
    }
    let objects = storage.some(BUCKET, &keys, SHOWN_IMAGES).await;
    println!("Report: {}", write_report("demo", &recording, objects).display());
    println!("Console: kubectl -n image-pipeline-system port-forward deployment/image-pipeline 8081");
    println!("         and then http://localhost:8081");
    if !history.complete {
        eprintln!("Not finished in time. Run: kubectl -n {name} describe imgp {PIPELINE}; and see the operator's log");
    }
    println!("{outcome}");
    if history.complete && outcome.lost() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The example with its namespace replaced.
fn example_for(namespace: &str) -> String {
    EXAMPLE
        .replace("namespace: greench", &format!("namespace: {namespace}"))
        .replace("s3.greench.svc", &format!("s3.{namespace}.svc"))
}

/// The measurements, in seconds since the first confirm.
fn recording(burst: &Burst, history: &History, outcome: Outcome) -> Recording {
    let after = |at: Instant| match at.checked_duration_since(burst.first_confirm) {
        Some(later) => later.as_secs_f64(),
        None => -burst.first_confirm.duration_since(at).as_secs_f64(),
    };
    let size = |size: &watch::Size| Size { at: after(size.at), desired: size.asked, ready: size.ready };
    let sample = |look: &watch::Progress| Sample { at: after(look.at), queued: look.waiting, stored: look.stored };
    Recording {
        pipeline: PIPELINE.to_owned(),
        first_confirm: burst.first_confirm_at,
        publishing: burst.took.as_secs_f64(),
        bytes: burst.bytes,
        sizes: history.sizes.iter().map(size).collect(),
        samples: history.progress.iter().map(sample).collect(),
        outcome,
    }
}
