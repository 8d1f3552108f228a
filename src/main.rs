//! The command line: parses the arguments, initializes TLS, logging and the async runtime, runs one subcommand, and
//! turns its result into an exit code.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use image_pipeline::{api, check, consumer, controller, parked, probe, publish, run, shutdown, telemetry, version};
use kube::CustomResourceExt as _;

/// Kubernetes operator that stores the images of a RabbitMQ queue in an S3 bucket.
#[derive(Parser)]
#[command(name = "image-pipeline", version = version::VERSION_AND_REVISION, propagate_version = true, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    /// Decode one message from standard input (started by a consumer)
    #[command(hide = true)]
    Decode,
    #[command(flatten)]
    Command(Box<Command>),
}

const EXAMPLES: &str = "\
Examples:
  image-pipeline crd | kubectl apply -f -
  image-pipeline publish --sample 20 --queue segmented-images --host rabbit.example.org \\
    --username device --password-file password

RUST_LOG sets the log level: error, warn, info (default), debug, trace, or directives such as
info,image_pipeline=debug. Logs are written to standard error: as text on a terminal, otherwise as JSON.";

#[derive(Subcommand)]
enum Command {
    /// Run the operator: create the consumer pods of ImagePipelines and scale them with their queues
    Controller(controller::Args),
    /// Run one consumer: consume a queue and store PNGs in a bucket (started by the operator)
    Consumer(Box<consumer::Args>),
    /// Run one ImagePipeline on this host, without Kubernetes
    Run(run::Args),
    /// Test what an ImagePipeline depends on: Secrets, RabbitMQ, queue, parking queue, bucket
    Check(check::Args),
    /// Publish images to a queue: files, directories or synthetic samples
    Publish(publish::Args),
    /// List, show, save, redrive or drop parked messages
    Parked(Box<parked::Args>),
    /// Check whether a process is ready (used by `helm test`)
    Probe(probe::Args),
    /// Print the CustomResourceDefinition as YAML
    Crd,
}

fn main() -> ExitCode {
    let result = match Cli::parse().role {
        // No logging, TLS or runtime: this process starts for every redelivered message and needs none of them.
        Role::Decode => decode(),
        Role::Command(command) => run(*command),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn decode() -> anyhow::Result<()> {
    consumer::isolate::decode(&mut std::io::stdin().lock(), &mut std::io::stdout().lock()).context("decoding")
}

fn run(command: Command) -> anyhow::Result<()> {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("a rustls provider is already installed"))?;
    telemetry::init()?;
    let runtime = tokio::runtime::Runtime::new().context("starting the async runtime")?;
    let result = runtime.block_on(async {
        let stop = shutdown::on_signal().context("registering signal handlers")?;
        match command {
            Command::Controller(args) => Ok(controller::run(args, stop).await?),
            Command::Consumer(args) => Ok(consumer::run(*args, stop).await?),
            Command::Run(args) => Ok(run::run(args, stop).await?),
            Command::Parked(args) => Ok(parked::run(*args, stop).await?),
            Command::Check(args) => Ok(check::run(args).await?),
            Command::Publish(args) => Ok(publish::run(args, stop).await.map(drop)?),
            Command::Probe(args) => Ok(probe::run(args).await?),
            Command::Crd => {
                print!("{}", serde_yaml::to_string(&api::ImagePipeline::crd()).context("writing the CRD")?);
                Ok(())
            }
        }
    });
    // Bounded: a blocking thread that still decodes an image must not keep the process alive.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

/// An error and its causes in one line. A cause that an outer error's text already contains is not repeated.
fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !text.contains(&cause) {
            let separator = if text.is_empty() { "" } else { ": " };
            text = text + separator + &cause;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;
    use clap::CommandFactory;

    #[test]
    fn command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }

    #[test]
    fn the_version_names_the_commit() {
        let said = super::Cli::command().render_version();
        let revision = super::version::REVISION;
        assert_eq!(said, format!("image-pipeline {} ({revision})\n", env!("CARGO_PKG_VERSION")));
    }

    #[test]
    fn an_error_is_one_line_without_repeats() {
        let cause = || anyhow!("no such file");
        assert_eq!(super::chain(&cause().context("can't read a.png")), "can't read a.png: no such file");
        assert_eq!(super::chain(&cause().context("can't read a.png: no such file")), "can't read a.png: no such file");
    }
}
