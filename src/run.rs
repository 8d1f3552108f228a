//! One pipeline on one host, without Kubernetes: reads the manifest that `kubectl apply` takes, puts the
//! Secrets it names where a consumer pod would have them, and runs that consumer. It must never
//! understand a field otherwise than a pod does, nor pass over one without a word.

use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::{fs, io};

use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::api::ImagePipeline;
use crate::api::assignment::Assignment;
use crate::api::names::{self, SecretRole};
use crate::consumer;

mod manifest;

pub use manifest::ManifestError;

const EXAMPLES: &str = "\
Secrets: each Secret that the manifest names is a directory of its name below --secrets, with a file a
key, as Kubernetes mounts it. Changed files count at the next use. Without destination.s3.credentialsSecret
the store's credentials come from AWS_ACCESS_KEY_ID and the like, from the shared config files, or from
the host's own identity. BROKER_HOST, BROKER_PORT, BROKER_USERNAME and BROKER_PASSWORD, if BROKER_HOST is
set, take the place of the Secret that says where the broker is.

Example:
  image-pipeline run --file pipeline.yaml --secrets /etc/image-pipeline/secrets
  curl --silent localhost:8080/status";

/// The variables that take the place of the broker's Secret, and the keys they stand for.
const BROKER_VARIABLES: [(&str, &str); 4] = [
    ("BROKER_HOST", "host"),
    ("BROKER_PORT", "port"),
    ("BROKER_USERNAME", "username"),
    ("BROKER_PASSWORD", "password"),
];

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
    /// Directory that outlives this process, for a mark of the message whose decoding may end it
    #[arg(long, env = "STATE_DIRECTORY", value_name = "DIR", default_value = "/var/lib/image-pipeline")]
    pub state: PathBuf,
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
    let (pipeline, without_meaning) = manifest::read(&args.file)?;
    for field in without_meaning {
        warn!(field, "this field is for the operator, and has no meaning on one host");
    }
    let secrets = args.runtime.join("secrets");
    let unmade = |option| move |(path, source)| Error::Directory { path, option, source };
    place_secrets(&pipeline, &args.secrets, &secrets, |name| std::env::var(name).ok()).map_err(unmade("--runtime"))?;
    let markers = args.state.join("markers");
    make_directory(&markers).map_err(unmade("--state"))?;
    Ok(consumer::run(consumer_args(&pipeline, secrets, markers, args.listen), stop).await?)
}

fn consumer_args(pipeline: &ImagePipeline, secrets: PathBuf, markers: PathBuf, listen: SocketAddr) -> consumer::Args {
    consumer::Args {
        pipeline_namespace: pipeline.metadata.namespace.clone().unwrap_or_else(|| "default".to_owned()),
        pipeline_name: pipeline.metadata.name.clone().unwrap_or_default(),
        assignment: Assignment::from(&pipeline.spec),
        secrets,
        markers,
        grace_period_seconds: pipeline.spec.consumer.termination_grace_period_seconds,
        listen,
    }
}

type Placed = Result<(), (PathBuf, io::Error)>;

/// Makes, below `there`, what a pod has mounted: for each use of a Secret a way to its directory in `here`.
/// A link and no copy, so that a file that changes is seen.
fn place_secrets(
    pipeline: &ImagePipeline,
    here: &Path,
    there: &Path,
    variable: impl Fn(&str) -> Option<String>,
) -> Placed {
    // Of an earlier run, and of Secrets that are named no longer.
    match fs::remove_dir_all(there) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err((there.to_owned(), error)),
        _ => make_directory(there)?,
    }
    for (role, secret) in names::secrets(&pipeline.spec.source, &pipeline.spec.destination) {
        let place = there.join(role.as_str());
        match variable("BROKER_HOST").filter(|_| role == SecretRole::Broker) {
            Some(_) => write_broker(&place, &variable)?,
            None => symlink(fs::canonicalize(here).unwrap_or_else(|_| here.to_owned()).join(secret), &place)
                .map_err(|error| (place, error))?,
        }
    }
    Ok(())
}

/// The consumer reads files at every use, so what the environment says becomes files that only this user
/// can read.
fn write_broker(directory: &Path, variable: impl Fn(&str) -> Option<String>) -> Placed {
    make_directory(directory)?;
    for (name, key) in BROKER_VARIABLES {
        let Some(value) = variable(name) else { continue };
        let path = directory.join(key);
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        file.and_then(|mut file| io::Write::write_all(&mut file, value.as_bytes())).map_err(|error| (path, error))?;
    }
    Ok(())
}

/// With its parents, for this user alone.
fn make_directory(path: &Path) -> Placed {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| (path.to_owned(), error))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn pipeline() -> ImagePipeline {
        let spec = "
source: {rabbitmq: {queue: tiles, rabbitmqClusterReference: {name: rabbit}}}
destination: {s3: {bucket: tiles, credentialsSecret: {name: s3}}}";
        ImagePipeline::new("tiles", serde_yaml::from_str(spec).unwrap())
    }

    #[test]
    fn secrets_are_where_a_pod_has_them_and_change_with_their_files() {
        let (here, runtime) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let there = runtime.path().join("secrets");
        for secret in ["rabbit-default-user", "s3"] {
            fs::create_dir(here.path().join(secret)).unwrap();
        }
        fs::create_dir_all(there.join("of-before")).unwrap();
        place_secrets(&pipeline(), here.path(), &there, |_| None).unwrap();
        fs::write(here.path().join("rabbit-default-user/password"), "first").unwrap();
        assert_eq!(fs::read_to_string(there.join("broker/password")).unwrap(), "first");
        fs::write(here.path().join("rabbit-default-user/password"), "second").unwrap();
        assert_eq!(fs::read_to_string(there.join("broker/password")).unwrap(), "second");
        assert!(there.join("store").is_dir() && !there.join("of-before").exists());
    }

    #[test]
    fn the_environment_takes_the_place_of_the_brokers_secret_and_nobody_else_reads_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let (here, runtime) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let there = runtime.path().join("secrets");
        let variable = |name: &str| (name != "BROKER_PORT").then(|| format!("of {name}"));
        place_secrets(&pipeline(), here.path(), &there, variable).unwrap();
        let password = there.join("broker/password");
        assert_eq!(fs::read_to_string(&password).unwrap(), "of BROKER_PASSWORD");
        assert_eq!(fs::metadata(&password).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!there.join("broker/port").exists());
        assert!(fs::symlink_metadata(there.join("store")).unwrap().is_symlink());
    }
}
