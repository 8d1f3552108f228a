//! `image-pipeline run`: runs one pipeline on a host without Kubernetes. Reads the manifest that `kubectl apply` takes,
//! places its Secrets as a consumer pod would have them mounted, and runs the consumer. Fields that only the operator
//! uses are logged.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::api::assignment::Assignment;
use crate::api::{ImagePipeline, names};
use crate::consumer;
use crate::manifest::{self, ManifestError, secrets};
use crate::version;

const EXAMPLES: &str = "\
Secrets: for each Secret that the manifest names, --secrets contains a directory of that name with one file per key, \
as Kubernetes mounts it. Changed files are read at the next use. Without destination.s3.credentialsSecret the S3 \
credentials come from AWS_ACCESS_KEY_ID and related variables, from the shared AWS config files, or from the identity \
of the host. If BROKER_HOST is set, BROKER_HOST, BROKER_PORT, BROKER_USERNAME and BROKER_PASSWORD replace the Secret \
with the RabbitMQ address.

Example:
  image-pipeline run --file pipeline.yaml --secrets /etc/image-pipeline/secrets
  curl --silent localhost:8080/status";

/// Run one ImagePipeline on this host, without Kubernetes
///
/// One process consumes the queue and stores the images, consumer.concurrency of them in parallel.
/// Fields that only the operator uses (such as scaling, replicas and paused) have no effect;
/// the log names those that are set.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Manifest in YAML with exactly one ImagePipeline
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
    /// Directory with the Secrets that the manifest names
    #[arg(long, env = "SECRETS", value_name = "DIR", default_value = names::SECRETS_MOUNT)]
    pub secrets: PathBuf,
    /// Directory for links to the Secrets; need not survive a restart of the host
    #[arg(long, env = "RUNTIME_DIRECTORY", value_name = "DIR", default_value = "/run/image-pipeline")]
    pub runtime: PathBuf,
    /// Address for /livez, /readyz, /metrics and /status
    #[arg(long, env = "LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error("can't prepare {path:?} ({option}): {source}")]
    Directory {
        path: PathBuf,
        /// The command-line option that sets the path.
        option: &'static str,
        source: io::Error,
    },
    #[error(transparent)]
    Consumer(#[from] consumer::Error),
}

/// Consumes until `stop` is canceled, then finishes the messages that it holds.
pub async fn run(args: Args, stop: CancellationToken) -> Result<(), Error> {
    let (version, revision) = (version::VERSION, version::REVISION);
    info!(version, revision, manifest = %args.file.display(), "reading the manifest");
    let (pipeline, without_meaning) = manifest::read(&args.file)?;
    for field in without_meaning {
        warn!(field, "ignoring a field that only the operator uses");
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
