//! Compares our consumer with the service it replaces, on one machine with the same RabbitMQ 4, S3 server and
//! messages, all started on loopback and removed at the end. Every figure is of verified work: each stored object
//! is checked.
//!
//! ```text
//! make bench            three rounds
//! make bench QUICK=1    one round of fewer messages; writes data-plane-quick.json
//! make bench LONG=1     as the first, and measures memory over 10,000 messages
//! ```
//!
//! Exit code 0: every figure was measured, whether or not it meets its target. 1: an object was missing or wrong,
//! or a message was not acknowledged.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod limits;
mod report;
mod rows;
mod run;
mod service;
mod tiles;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser as _;
use limits::Amounts;
use rows::Row;
use run::{Bench, run};
use servers::broker::{Broker, Version};
use servers::store::Store;
use service::{Mode, Places, Service};
use support::usage::Machine;
use tiles::{Input, Tiles};

/// Order of the services in odd rounds. Even rounds use the reverse order.
const SERVICES: [Service; 6] = [
    Service::Original,
    Service::ImagePipeline(Mode::Fast),
    Service::ImagePipeline(Mode::Balanced),
    Service::OriginalOneSession,
    Service::ImagePipeline(Mode::WhenNotPng),
    Service::ImagePipeline(Mode::Smallest),
];

/// Our consumer's default concurrency in these measurements.
const CONCURRENCY: u16 = 2;

/// Number of different tiles of one size.
const TILES: u32 = 4;

/// Share of the machine's CPU in use by other programs above which the benchmark warns.
const BUSY: f64 = 0.1;

/// Compares the consumer with the service it replaces (`make bench`)
#[derive(clap::Parser)]
struct Options {
    /// Runs one round with fewer messages
    #[arg(long)]
    quick: bool,
    /// Measures memory over 10,000 messages
    #[arg(long)]
    long: bool,
    /// Python interpreter with the packages that original.py imports
    #[arg(long)]
    python: PathBuf,
}

/// Kinds and numbers of messages.
struct Load {
    side: u32,
    inputs: &'static [Input],
    services: &'static [Service],
    /// Number of messages for our services.
    messages: u32,
    /// Number of messages for services that take many times longer.
    few: u32,
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    match bench(&options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("the figures are invalid: {why}");
            ExitCode::FAILURE
        }
    }
}

async fn bench(options: &Options) -> Result<(), String> {
    let began = Instant::now();
    warn_if_busy().await;
    let broker = Broker::own(Version::Four).await;
    let store = Store::shared().await;
    let places = Places {
        broker: broker.address(),
        endpoint: format!("http://{}", store.address()),
        credentials: store.root(),
        binary: binary(),
        python: options.python.clone(),
    };
    let bench = Bench { places, store };
    let rounds = if options.quick { 1 } else { 3 };
    let mut rows = Vec::new();
    for load in loads(options.quick) {
        for input in load.inputs {
            rows.extend(measure(&bench, &load, *input, rounds).await?);
        }
    }
    let amounts = Amounts {
        starts: if options.quick { 3 } else { 7 },
        scaling: if options.quick { 240 } else { 480 },
        megapixels: if options.quick { 40 } else { 120 },
        long: if options.long {
            10_000
        } else if options.quick {
            600
        } else {
            2_000
        },
    };
    eprintln!("start, memory, concurrency and pixels");
    let limits = limits::measure(&bench, amounts, TILES).await?;
    println!("\n{}\n{}\n{}", report::table(&rows), report::limits(&limits), report::targets(&rows, &limits));
    let file = write(&rows, options.quick);
    println!("rounds: {rounds}, in {:.0} s; the medians are in {}", began.elapsed().as_secs_f64(), file.display());
    Ok(())
}

/// All rounds of all services with one kind of message.
async fn measure(bench: &Bench, load: &Load, input: Input, rounds: usize) -> Result<Vec<Row>, String> {
    let Load { side, services, messages, few, .. } = *load;
    let tiles = Tiles::draw(side, input, TILES).await;
    eprintln!("{side}x{side} {input}, {:.0} kB a tile", tiles.mean_bytes() / 1000.0);
    let row = |service: &Service| Row { side, input, service: *service, rounds: Vec::new() };
    let mut rows: Vec<Row> = services.iter().map(row).collect();
    for round in 0..rounds {
        let mut order: Vec<&mut Row> = rows.iter_mut().collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for row in order {
            let messages = match row.service {
                Service::ImagePipeline(Mode::Smallest) | Service::Original | Service::OriginalOneSession => few,
                Service::ImagePipeline(_) => messages,
            };
            row.rounds.push(run(bench, row.service, &tiles, messages, CONCURRENCY).await?);
        }
    }
    rows.sort_by_key(|row| row.service);
    Ok(rows)
}

fn loads(quick: bool) -> [Load; 2] {
    const ALL: &[Input] = &[Input::Mixed, Input::Png, Input::Jpeg];
    let load = |side, inputs, services, (messages, few)| Load { side, inputs, services, messages, few };
    let without_smallest = &SERVICES[..5];
    if quick {
        let (mixed, small, large) = (&ALL[..1], (160, 16), (16, 4));
        [load(640, ALL, &SERVICES, small), load(1920, mixed, without_smallest, large)]
    } else {
        let (small, large) = ((480, 40), (48, 8));
        [load(640, ALL, &SERVICES, small), load(1920, ALL, without_smallest, large)]
    }
}

/// Next to this program, because one build creates both.
fn binary() -> PathBuf {
    let this = std::env::current_exe().expect("the path of this program");
    let binary = this.parent().expect("a target directory").join("image-pipeline");
    assert!(binary.is_file(), "{binary:?} is missing: make bench builds it");
    binary
}

async fn warn_if_busy() {
    let before = Machine::now();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let busy = 1.0 - Machine::now().idle_since(before);
    if busy > BUSY {
        eprintln!("warning: other programs use {:.0} % of this machine, which distorts every figure", busy * 100.0);
    }
}

fn write(rows: &[Row], quick: bool) -> PathBuf {
    let name = if quick { "data-plane-quick.json" } else { "data-plane.json" };
    let file = support::repository().join("target/bench").join(name);
    std::fs::create_dir_all(file.parent().expect("a directory")).expect("target/bench");
    let records: Vec<_> = rows.iter().map(|row| row.record(rows)).collect();
    let text = serde_json::to_string_pretty(&serde_json::json!({"rows": records})).expect("JSON");
    std::fs::write(&file, text + "\n").expect("the results");
    file
}
