//! Measures how the operator scales. Figures come from RabbitMQ, the API server, the pods and the kernel where these
//! have them, not from the operator.
//!
//! ```text
//! make bench-scaling            in a cluster: 100 rounds, 10 minutes of constant load, 1,000 pipelines;
//!                               then 10,000 pipelines with 20,000 pods, without a cluster
//! make bench-scaling QUICK=1    10 rounds, 2 minutes, 100 pipelines; then 1,000 pipelines with 2,000 pods
//! ```
//!
//! Exit code 0: every target is met. 1: a target is missed, or a figure could not be measured.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod broker;
mod cluster;
mod consumers;
mod crowd;
mod decision;
mod drain;
mod faults;
mod figures;
mod fleet;
mod follow;
mod operator;
mod report;
mod scene;
mod steady;

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser as _;
use figures::Figure;
use serde_json::Value;

/// Measures how the operator scales (`make bench-scaling`)
#[derive(clap::Parser)]
struct Options {
    #[command(subcommand)]
    place: Place,
    /// Runs fewer rounds, with a tenth of the pipelines
    #[arg(long, global = true)]
    quick: bool,
}

/// Where the operator is measured.
#[derive(clap::Subcommand)]
enum Place {
    /// The installed operator in the cluster of `make cluster`, with real pods
    Cluster,
    /// The operator on this machine, with an API server and RabbitMQ, and many pods that exist only in the API server
    Fleet,
}

#[tokio::main]
async fn main() -> ExitCode {
    rustls::crypto::aws_lc_rs::default_provider().install_default().expect("the first provider");
    let (options, began) = (Options::parse(), Instant::now());
    let say = |what: &str| eprintln!("{:>5.0} s  {what}", began.elapsed().as_secs_f64());
    let (name, figures, mut circumstances) = match options.place {
        Place::Cluster => {
            let amounts = if options.quick { cluster::QUICK } else { cluster::FULL };
            ("scaling", cluster::measure(&amounts, say).await, amounts.circumstances().to_vec())
        }
        Place::Fleet => {
            let amounts = if options.quick { fleet::QUICK } else { fleet::FULL };
            ("fleet", fleet::measure(&amounts, say).await, amounts.circumstances().to_vec())
        }
    };
    circumstances.push(("quick", Value::from(options.quick)));
    println!("\n{}", report::table(&figures));
    let file = report::write(name, &report::record(&figures, &circumstances));
    println!("{:.0} s; the figures are in {}", began.elapsed().as_secs_f64(), file.display());
    if figures.iter().all(Figure::is_met) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
