//! One pipeline on one host, without Kubernetes: reads the manifest that `kubectl apply` takes, puts the
//! Secrets it names where a consumer pod would have them, and runs that consumer. It must never
//! understand a field otherwise than a pod does, nor pass over one without a word.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::api::assignment::Assignment;
use crate::api::{ImagePipeline, names};
use crate::consumer;
use crate::version;

mod bounds;
pub mod manifest;
pub mod secrets;

use manifest::ManifestError;

const EXAMPLES: &str = "\
Secrets: each Secret that the manifest names is a directory of its name below --secrets, with a file a
key, as Kubernetes mounts it. Changed files count at the next use. Without destination.s3.credentialsSecret
the store's credentials come from AWS_ACCESS_KEY_ID and the like, from the shared config files, or from
the host's own identity. BROKER_HOST, BROKER_PORT, BROKER_USERNAME and BROKER_PASSWORD, if BROKER_HOST is
set, take the place of the Secret that says where the broker is.

Example:
  image-pipeline run --file pipeline.yaml --secrets /etc/image-pipeline/secrets
  curl --silent localhost:8080/status";

/// Run one ImagePipeline on this host, without Kubernetes
///
/// One process reads the queue and stores the images; spec.consumer.concurrency says how many at once.
/// What the operator does with a number of pods (spec.scaling, spec.replicas, spec.paused) has no
/// meaning here, and is said to have none.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The manifest, in YAML, with one ImagePipeline
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
    /// Directory of the Secrets that the manifest names
    #[arg(long, env = "SECRETS", value_name = "DIR", default_value = names::SECRETS_MOUNT)]
    pub secrets: PathBuf,
    /// Directory that may be lost when the host restarts, for links to the Secrets
    #[arg(long, env = "RUNTIME_DIRECTORY", value_name = "DIR", default_value = "/run/image-pipeline")]
    pub runtime: PathBuf,
    /// Address for /livez, /readyz, /metrics and /status
    #[arg(long, env = "LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
}

/// The pipeline can't be run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The manifest is none.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A directory can't be made ready.
    #[error("{path:?} can't be made ready ({option}): {source}")]
    Directory {
        /// What was to be made.
        path: PathBuf,
        /// The option to change.
        option: &'static str,
        /// Why it can't.
        source: io::Error,
    },
    /// The consumer can't start.
    #[error(transparent)]
    Consumer(#[from] consumer::Error),
}

/// Consumes until `stop`, then finishes what it holds and returns.
///
/// # Errors
/// The manifest is none, a directory can't be written, or the consumer can't start.
pub async fn run(args: Args, stop: CancellationToken) -> Result<(), Error> {
    let (version, revision) = (version::VERSION, version::REVISION);
    info!(version, revision, manifest = %args.file.display(), "reading the manifest");
    let (pipeline, without_meaning) = manifest::read(&args.file)?;
    for field in without_meaning {
        warn!(field, "this field is for the operator, and has no meaning on one host");
    }
    let secrets = args.runtime.join("secrets");
    let unmade = |option| move |(path, source)| Error::Directory { path, option, source };
    secrets::place(&pipeline, &args.secrets, &secrets, |name| std::env::var(name).ok()).map_err(unmade("--runtime"))?;
    Ok(consumer::run(consumer_args(&pipeline, secrets, args.listen), stop).await?)
}

fn consumer_args(pipeline: &ImagePipeline, secrets: PathBuf, listen: SocketAddr) -> consumer::Args {
    consumer::Args {
        pipeline_namespace: pipeline.metadata.namespace.clone().unwrap_or_else(|| "default".to_owned()),
        pipeline_name: pipeline.metadata.name.clone().unwrap_or_default(),
        assignment: Assignment::from(&pipeline.spec),
        secrets,
        grace_period_seconds: pipeline.spec.consumer.termination_grace_period_seconds,
        listen,
    }
}
