//! `image-pipeline check`: tests whether an ImagePipeline would work from this process's place in the network. Takes a
//! manifest, before anything is deployed, or the name of an ImagePipeline in a cluster. Never prints a Secret.

use std::path::{Path, PathBuf};

use crate::api::assignment::Assignment;
use crate::api::{ImagePipeline, names};
use crate::consumer::decode::{Decoder, InvalidTemplate};
use crate::manifest::{self, ManifestError, secrets};

mod cluster;
mod job;
mod preflight;

use cluster::{ClusterError, Namespace};
use job::JobError;
use preflight::{Finding, preflight};

const EXAMPLES: &str = "\
The output has one line per check: the result and, for a failed check, the reason that the ImagePipeline's status \
would have, and what to do. The bucket is tested with an image of one pixel, named image-pipeline-check-NUMBER.png. \
It is uploaded like any image, with the pipeline's key template, and then deleted. If destination.s3.onConflict needs \
conditional writes, S3 must refuse a second upload and allow reading the object. ListBucket and DeleteObject are not \
required; without DeleteObject the object remains, and the output says so.

By name: reads the ImagePipeline from the cluster of KUBECONFIG, and runs the checks in a Job in its namespace, in a \
pod like a consumer's: with its image, Secrets, ServiceAccount and network. The Job is deleted afterwards. The user \
needs these rights in the namespace, and none to read Secrets: get imagepipelines and deployments; create, list, watch \
and delete jobs; list pods; get pods/log.

By file: for each Secret that the manifest names, --secrets contains a directory of that name with one file per key.

Examples:
  image-pipeline check forest-tiles --namespace greench
  image-pipeline check --file pipeline.yaml --secrets /etc/image-pipeline/secrets
  image-pipeline check --file pipeline.yaml --secrets DIR --output json | jq '.[] | select(.passed | not)'

Exit code 0: all checks passed.";

/// Test what an ImagePipeline depends on: Secrets, RabbitMQ, queue, parking queue, bucket
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = EXAMPLES,
    override_usage = "image-pipeline check [OPTIONS] <NAME|--file <FILE>>",
    group = clap::ArgGroup::new("which").required(true).args(["name", "file", "assignment"]))]
pub struct Args {
    /// Name of an ImagePipeline in the cluster
    pub name: Option<String>,
    /// Namespace of the ImagePipeline [default: the namespace of the kubeconfig or of the pod]
    #[arg(short, long, requires = "name")]
    pub namespace: Option<String>,
    /// What a consumer of the pipeline would get, as JSON; for the pod of the Job
    #[arg(long, hide = true, value_parser = |text: &str| text.parse::<Assignment>().map(Box::new))]
    pub assignment: Option<Box<Assignment>>,
    /// Manifest in YAML with exactly one ImagePipeline
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Directory with the Secrets that the manifest names
    #[arg(long, env = "SECRETS", value_name = "DIR", default_value = names::SECRETS_MOUNT, conflicts_with = "name")]
    pub secrets: PathBuf,
    /// Output format
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// Output format.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum Output {
    /// One line per check.
    Text,
    /// A JSON array with one object per check.
    Json,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("nothing to check: set the name of an ImagePipeline, or a manifest with --file")]
    Nothing,
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error(transparent)]
    Job(#[from] JobError),
    /// `destination.s3.keyTemplate` is invalid.
    #[error(transparent)]
    KeyTemplate(#[from] InvalidTemplate),
    /// The temporary directory for links to the Secrets can't be created.
    #[error("can't create {path:?}: {source}; set TMPDIR to a writable directory")]
    Directory { path: PathBuf, source: std::io::Error },
    #[error("can't write the results as JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("{failed} of {all} checks failed")]
    Failed { failed: usize, all: usize },
}

/// Runs all checks and prints the results.
///
/// # Errors
/// `Error::Failed` if a check failed; other errors if the checks could not be run.
pub async fn run(args: Args) -> Result<(), Error> {
    if let Some(assignment) = args.assignment {
        println!("{}", serde_json::to_string(&preflight(&assignment, &args.secrets.as_path().into()).await)?);
        return Ok(());
    }
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
    assignment(&pipeline)?;
    Ok(job::run(&namespace, &pipeline).await?)
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

/// The consumers' assignment. Fails if the key template is invalid: a consumer would not start.
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

    use super::preflight::Check;
    use super::*;
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
