//! `image-pipeline check`: whether an ImagePipeline would work, from where this runs: a manifest before
//! anything is deployed, or one of a cluster by its name. It must never show a Secret, nor end well when a
//! check has failed.

use std::path::{Path, PathBuf};

use crate::api::assignment::Assignment;
use crate::api::{ImagePipeline, names};
use crate::consumer::decode::{Decoder, InvalidTemplate};
use crate::consumer::preflight::{Finding, preflight};
use crate::run::manifest::{self, ManifestError};
use crate::run::secrets;

mod cluster;

use cluster::{ClusterError, Namespace};

const EXAMPLES: &str = "\
Each check is one line: what was found and, where it failed, the reason that the ImagePipeline's status
would give, and what to do. The store is tried with an image of one pixel, named
image-pipeline-check-NUMBER.png: stored as images are, by the pipeline's key template, and deleted. Where
destination.s3.onConflict needs it, the store must refuse to store it twice, and let it be read. ListBucket
and DeleteObject are not needed; without DeleteObject the object stays, and its line says so.

By name: the ImagePipeline and the Secrets that it names are read from the cluster that this runs in, or
that KUBECONFIG names, and kept in memory alone. Names of the cluster's network resolve only in its pods,
so run it in the operator's. Without destination.s3.credentialsSecret the store is not tried: consumer
pods then store as their own service account.

By file: each Secret that the manifest names is a directory of its name below --secrets, with a file a key.

Examples:
  kubectl -n image-pipeline-system exec deployment/image-pipeline -- \\
    image-pipeline check forest-tiles --namespace greench
  image-pipeline check --file pipeline.yaml --secrets /etc/image-pipeline/secrets
  image-pipeline check --file pipeline.yaml --secrets DIR --output json | jq '.[] | select(.passed | not)'

Exit code 0 means that every check has passed.";

/// Try what an ImagePipeline needs: Secrets, broker, queue, parking queue, bucket
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES, group = clap::ArgGroup::new("which").required(true).args(["name", "file"]))]
pub struct Args {
    /// Name of an ImagePipeline in a cluster
    pub name: Option<String>,
    /// Its namespace; without it, the one of the kubeconfig or of the pod
    #[arg(short, long, requires = "name")]
    pub namespace: Option<String>,
    /// A manifest, in YAML, with one ImagePipeline
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Directory of the Secrets that the manifest names
    #[arg(long, env = "SECRETS", value_name = "DIR", default_value = names::SECRETS_MOUNT, conflicts_with = "name")]
    pub secrets: PathBuf,
    /// How the findings are written
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// How the findings are written.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum Output {
    /// A line a check.
    Text,
    /// An array of objects.
    Json,
}

/// The ImagePipeline would not work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing is named.
    #[error("nothing to check: name an ImagePipeline, or give a manifest with --file")]
    Nothing,
    /// The manifest is none.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The cluster does not give it.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The keys that objects shall have can't be made.
    #[error(transparent)]
    KeyTemplate(#[from] InvalidTemplate),
    /// There is no room for links to the Secrets.
    #[error("{path:?} can't be made: {source}; set TMPDIR to a directory that can be written")]
    Directory {
        /// What was to be made.
        path: PathBuf,
        /// Why it can't.
        source: std::io::Error,
    },
    /// The findings can't be written.
    #[error("can't write the findings as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// Not all is well.
    #[error("{failed} of {all} checks failed")]
    Failed {
        /// Checks that failed.
        failed: usize,
        /// All checks.
        all: usize,
    },
}

/// Tries everything and prints what was found.
///
/// # Errors
/// The ImagePipeline can't be read, or a check failed.
pub async fn run(args: Args) -> Result<(), Error> {
    let findings = match (args.name, args.file) {
        (Some(name), _) => by_name(&name, args.namespace).await?,
        (None, Some(file)) => by_file(&file, &args.secrets).await?,
        (None, None) => return Err(Error::Nothing),
    };
    match args.output {
        Output::Text => findings.iter().for_each(|finding| println!("{}", line(finding))),
        Output::Json => println!("{}", serde_json::to_string_pretty(&findings)?),
    }
    match findings.iter().filter(|finding| !finding.passed).count() {
        0 => Ok(()),
        failed => Err(Error::Failed { failed, all: findings.len() }),
    }
}

async fn by_name(name: &str, namespace: Option<String>) -> Result<Vec<Finding>, Error> {
    let namespace = Namespace::open(namespace).await?;
    let pipeline = namespace.pipeline(name).await?;
    let assignment = assignment(&pipeline)?;
    Ok(preflight(&assignment, &namespace.secrets(&pipeline).await?).await)
}

async fn by_file(file: &Path, secrets: &Path) -> Result<Vec<Finding>, Error> {
    let (pipeline, _) = manifest::read(file)?;
    let assignment = assignment(&pipeline)?;
    let directory = std::env::temp_dir().join(format!("image-pipeline-check-{:016x}", fastrand::u64(..)));
    let placed = secrets::place(&pipeline, secrets, &directory, |name| std::env::var(name).ok());
    let findings = match placed {
        Ok(()) => Ok(preflight(&assignment, &directory.as_path().into()).await),
        Err((path, source)) => Err(Error::Directory { path, source }),
    };
    drop(std::fs::remove_dir_all(&directory));
    findings
}

/// What its consumers would be told, if they could work by it.
fn assignment(pipeline: &ImagePipeline) -> Result<Assignment, InvalidTemplate> {
    let assignment = Assignment::from(&pipeline.spec);
    let Assignment { source, message, destination, .. } = &assignment;
    Decoder::new(message, &destination.s3, source.rabbitmq.max_body_bytes.get())?;
    Ok(assignment)
}

fn line(finding: &Finding) -> String {
    let Finding { check, passed, reason, message } = finding;
    let check: &str = check.into();
    let reason = reason.map(|reason| format!("{reason}: ")).unwrap_or_default();
    format!("{:<7}{check:<9}{reason}{message}", if *passed { "ok" } else { "FAILED" })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::consumer::preflight::Check;
    use crate::reason::Reason;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn a_line_says_what_was_tried_and_why_it_failed() {
        let finding = |passed, reason| Finding { check: Check::Queue, passed, reason, message: "why".to_owned() };
        assert_eq!(line(&finding(true, None)), "ok     queue    why");
        assert_eq!(line(&finding(false, Some(Reason::QueueNotFound))), "FAILED queue    QueueNotFound: why");
    }
    #[test]
    fn one_is_named_or_a_file_is_given_and_not_both() {
        let parses = |line: &str| Cli::try_parse_from(line.split(' ')).is_ok();
        for line in ["check tiles", "check tiles -n forest", "check -f p.yaml", "check --file p.yaml --secrets s"] {
            assert!(parses(line), "{line}");
        }
        for line in ["check", "check -n forest", "check a b", "check tiles --file p.yaml", "check tiles --secrets s"] {
            assert!(!parses(line), "{line}");
        }
        let Cli { args } = Cli::parse_from(["check", "tiles", "-n", "forest"]);
        assert_eq!((args.name.as_deref(), args.namespace.as_deref()), (Some("tiles"), Some("forest")));
    }
}
