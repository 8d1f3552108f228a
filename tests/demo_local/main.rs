//! The program behind `make demo-local`: RabbitMQ, an S3 server and `image-pipeline run` on this machine, removed
//! at the end. Writes target/demo-local/report.html. The last line is counted from the bucket's folder and the depths
//! of both queues.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser as _;
use demo::recording::{Outcome, Recording, Sample};
use demo::report;
use jiff::Timestamp;
use servers::broker::{Broker, Version};
use servers::client::Client;
use servers::host::Host;
use servers::store::Store;
use support::eventually::{LIMIT, equal, eventually};
use support::port::Port;

const QUEUE: &str = "segmented-images";
const BUCKET: &str = "bucket-greench";
const IMAGES: usize = 100;
const SHOWN_IMAGES: usize = 24;

/// Moves 100 images from a queue to a bucket without Kubernetes (`make demo-local`)
#[derive(clap::Parser)]
struct Options {
    /// Path of the image-pipeline program
    #[arg(long)]
    program: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    rustls::crypto::aws_lc_rs::default_provider().install_default().expect("the first provider");
    let (Options { program }, began) = (Options::parse(), Instant::now());
    let (broker, store) = (Broker::own(Version::Four).await, Store::shared().await);
    let (address, endpoint) = (broker.address(), format!("http://{}", store.address()));
    println!("RabbitMQ at {}:{}, an S3 server at {endpoint}", address.host, address.port);
    let queues = Client::connect(&address).await.expect("a connection");
    queues.declare(QUEUE, Version::Four.queue_type()).await;
    store.create_bucket(BUCKET);
    let host = Host::new(&address, QUEUE, &endpoint, &store.root(), BUCKET);
    println!("\nimage-pipeline run --file {}\n", host.manifest().display());
    println!("{}", std::fs::read_to_string(host.manifest()).expect("a file"));
    let pipeline = host.run(&program, &Port::reserve(), &[]);

    println!("image-pipeline publish --sample {IMAGES} --queue {QUEUE}");
    let mut publish = tokio::process::Command::new(&program);
    publish.args(["publish", "--queue", QUEUE, "--sample", &IMAGES.to_string(), "--broker-secret"]);
    let started = Instant::now();
    let mut publish = publish.arg(host.secret_directory("rabbit-default-user")).spawn().expect("the program");
    let (mut first_confirm, mut publishing, mut samples) = (None, None, Vec::new());
    let done = async || {
        if publishing.is_none()
            && let Some(ended) = publish.try_wait().expect("a child")
        {
            assert!(ended.success(), "publish ended with {ended}");
            publishing = Some(started.elapsed());
        }
        let queued = queues.ready(QUEUE).await.expect("a depth");
        let stored = store.keys(BUCKET).len();
        if queued > 0 || stored > 0 {
            first_confirm.get_or_insert((Timestamp::now(), started.elapsed()));
        }
        samples.push((started.elapsed(), queued, stored));
        equal(stored, IMAGES)
    };
    eventually(&format!("{IMAGES} objects; log of the pipeline:\n{}", pipeline.log()), LIMIT, done).await;

    let objects = store.objects(BUCKET);
    let is_png = |object: &Vec<u8>| image::guess_format(object).is_ok_and(|format| format == image::ImageFormat::Png);
    let stored = objects.values().filter(|object| is_png(object)).count();
    queues.holds(QUEUE, 0).await;
    // The first parked message would declare the parking queue.
    let parked = queues.ready(&format!("{QUEUE}.parked")).await.unwrap_or(0) as usize;
    let outcome = Outcome { published: IMAGES, stored, parked };
    let (first_confirm, offset) = first_confirm.expect("a stored image was confirmed");
    let since_confirm = |at: Duration| at.as_secs_f64() - offset.as_secs_f64();
    let sample = |(at, queued, stored)| Sample { at: since_confirm(at), queued, stored };
    let recording = Recording {
        pipeline: "tiles".to_owned(),
        first_confirm,
        publishing: publishing.map(since_confirm).unwrap_or_default(),
        bytes: objects.values().map(|object| object.len() as u64).sum(),
        sizes: Vec::new(),
        samples: samples.into_iter().map(sample).collect(),
        outcome,
    };
    println!();
    for (value, meaning) in report::measured(&recording) {
        println!("{value:>10}  {meaning}");
    }
    let pictures = objects.into_iter().step_by(IMAGES / SHOWN_IMAGES).take(SHOWN_IMAGES).collect();
    println!("Report: {}", demo::write_report("demo-local", &recording, pictures).display());
    println!("\nTotal time: {:.0} s.", began.elapsed().as_secs_f64());
    println!("{outcome}");
    if outcome.lost() == 0 && parked == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
