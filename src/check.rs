//! `image-pipeline check`: whether a manifest would work, from where this runs, before anything is
//! deployed. It must never show a Secret, nor end well when a check has failed.

use std::path::PathBuf;

use crate::api::assignment::Assignment;
use crate::consumer::decode::{Decoder, InvalidTemplate};
use crate::consumer::preflight::{Finding, preflight};
use crate::run::manifest::{self, ManifestArgs, ManifestError};
use crate::run::secrets;

const EXAMPLES: &str = "\
Each check is one line: what was found and, where it failed, the reason that the ImagePipeline's status
would give, and what to do. The store is tried with the object .image-pipeline-probe below the prefix,
which consumers write too when the store has failed; ListBucket is not needed.

Secrets: each Secret that the manifest names is a directory of its name below --secrets, with a file a
key. To check from inside a cluster, where its names resolve, run this in a pod that has them mounted so.

Examples:
  image-pipeline check --file pipeline.yaml --secrets /etc/image-pipeline/secrets
  image-pipeline check --file pipeline.yaml --secrets DIR --output json | jq '.[] | select(.passed | not)'

Exit code 0 means that every check has passed.";

/// Try what an ImagePipeline needs: Secrets, broker, queue, parking queue, bucket
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Where the manifest and its Secrets are.
    #[command(flatten)]
    pub manifest: ManifestArgs,
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

/// The manifest would not work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The manifest is none.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
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
/// The manifest is none, or a check failed.
pub async fn run(args: Args) -> Result<(), Error> {
    let (pipeline, _) = manifest::read(&args.manifest.file)?;
    let assignment = Assignment::from(&pipeline.spec);
    let Assignment { source, message, destination, .. } = &assignment;
    Decoder::new(message, &destination.s3, source.rabbitmq.max_body_bytes.get())?;
    let directory = std::env::temp_dir().join(format!("image-pipeline-check-{:016x}", fastrand::u64(..)));
    let placed = secrets::place(&pipeline, &args.manifest.secrets, &directory, |name| std::env::var(name).ok());
    let findings = match placed {
        Ok(()) => Ok(preflight(&assignment, &directory.as_path().into()).await),
        Err((path, source)) => Err(Error::Directory { path, source }),
    };
    drop(std::fs::remove_dir_all(&directory));
    let findings = findings?;
    match args.output {
        Output::Text => findings.iter().for_each(|finding| println!("{}", line(finding))),
        Output::Json => println!("{}", serde_json::to_string_pretty(&findings)?),
    }
    match findings.iter().filter(|finding| !finding.passed).count() {
        0 => Ok(()),
        failed => Err(Error::Failed { failed, all: findings.len() }),
    }
}

fn line(finding: &Finding) -> String {
    let Finding { check, passed, reason, message } = finding;
    let check: &str = check.into();
    let reason = reason.map(|reason| format!("{reason}: ")).unwrap_or_default();
    format!("{:<7}{check:<9}{reason}{message}", if *passed { "ok" } else { "FAILED" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consumer::preflight::Check;
    use crate::reason::Reason;

    #[test]
    fn a_line_says_what_was_tried_and_why_it_failed() {
        let finding = |passed, reason| Finding { check: Check::Queue, passed, reason, message: "why".to_owned() };
        assert_eq!(line(&finding(true, None)), "ok     queue    why");
        assert_eq!(line(&finding(false, Some(Reason::QueueNotFound))), "FAILED queue    QueueNotFound: why");
    }
}
