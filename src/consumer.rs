//! The consumer process: one queue in, one bucket out. It must never acknowledge a message before
//! the store has answered 2xx, or the parking queue has confirmed it.

use std::net::SocketAddr;
use std::path::PathBuf;

pub mod decode;
pub mod encode;
pub mod settle;
pub mod upload;

/// Consume one queue into one bucket. The controller starts this in pods; everything it needs is
/// here, save the two Secrets, which are directories with a file a key and are read again whenever
/// they are used.
#[derive(Clone, Debug, Eq, PartialEq, clap::Args)]
pub struct Args {
    /// Namespace of the ImagePipeline, for logs and parking headers
    #[arg(long, env = "PIPELINE_NAMESPACE")]
    pub pipeline_namespace: String,
    /// Name of the ImagePipeline, for logs and parking headers
    #[arg(long, env = "PIPELINE_NAME")]
    pub pipeline_name: String,
    /// Directory with the broker's host, port, username and password
    #[arg(long, env = "BROKER_SECRET")]
    pub broker_secret: PathBuf,
    /// Virtual host that holds the queue
    #[arg(long, env = "VHOST", default_value = "/")]
    pub vhost: String,
    /// Queue to read
    #[arg(long, env = "QUEUE")]
    pub queue: String,
    /// Queue for messages that can never succeed; declared durable if absent
    #[arg(long, env = "PARKING_QUEUE")]
    pub parking_queue: String,
    /// Bucket to write
    #[arg(long, env = "BUCKET")]
    pub bucket: String,
    /// Put before every image name to make the object's key
    #[arg(long, env = "PREFIX", default_value = "")]
    pub prefix: String,
    /// The bucket's region
    #[arg(long, env = "REGION", default_value = "us-east-1")]
    pub region: String,
    /// The store's URL; AWS if not given
    #[arg(long, env = "ENDPOINT")]
    pub endpoint: Option<String>,
    /// Address the bucket as endpoint/bucket instead of bucket.endpoint
    #[arg(long, env = "FORCE_PATH_STYLE")]
    pub force_path_style: bool,
    /// Directory with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and perhaps AWS_SESSION_TOKEN; the
    /// SDK's standard credential chain if not given
    #[arg(long, env = "S3_SECRET")]
    pub s3_secret: Option<PathBuf>,
    /// Images worked on at once; the CPU limit if not given
    #[arg(long, env = "CONCURRENCY", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub concurrency: Option<u16>,
    /// Seconds that may pass between SIGTERM and the end of the process
    #[arg(long, env = "GRACE_PERIOD_SECONDS", default_value_t = 60)]
    pub grace_period_seconds: u16,
    /// Address for /livez, /readyz, /metrics and /status
    #[arg(long, env = "LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
}
