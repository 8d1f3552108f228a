//! The program behind `make demo-local`: RabbitMQ, an S3 server and `image-pipeline run` on this machine, removed
//! at the end. The last line is counted from the bucket's folder and the queue's depth.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Instant;

use clap::Parser as _;
use servers::broker::{Broker, Version};
use servers::client::Client;
use servers::host::Host;
use servers::store::Store;
use support::eventually::{LIMIT, equal, eventually};
use support::port::Port;

const QUEUE: &str = "segmented-images";
const BUCKET: &str = "bucket-greench";
const IMAGES: usize = 100;

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
    let mut publish = Command::new(&program);
    publish.args(["publish", "--queue", QUEUE, "--sample", &IMAGES.to_string(), "--broker-secret"]);
    assert!(publish.arg(host.secret_directory("rabbit-default-user")).status().expect("the program").success());
    let published = Instant::now();
    let stored = async || equal(store.objects(BUCKET).len(), IMAGES);
    eventually(&format!("{IMAGES} objects; log of the pipeline:\n{}", pipeline.log()), LIMIT, stored).await;
    println!("The last image was in the bucket {:.1} s after the last confirm.", published.elapsed().as_secs_f64());

    let objects = store.objects(BUCKET);
    let is_png = |object: &Vec<u8>| image::guess_format(object).is_ok_and(|format| format == image::ImageFormat::Png);
    let stored = objects.values().filter(|object| is_png(object)).count();
    queues.holds(QUEUE, 0).await;
    println!("\nTotal time: {:.0} s.", began.elapsed().as_secs_f64());
    println!("published {IMAGES}, stored {stored}, lost {}", IMAGES - stored);
    if stored == IMAGES { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
