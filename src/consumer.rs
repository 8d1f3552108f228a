//! The consumer process: reads one queue and writes one bucket. It acknowledges a message only after S3 returned 2xx
//! or the broker confirmed a copy in the parking queue or the source queue. Exception: `failures.policy: Discard`
//! acknowledges a message that can never succeed.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::routing::get;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::api::assignment::Assignment;
use crate::api::failures::FailurePolicy;
use crate::api::names;
use crate::http;
use crate::version;

mod acknowledge;
mod backoff;
mod breaks;
pub(crate) mod broker;
pub mod capacity;
mod cgroup;
mod convert;
pub mod decode;
mod drive;
pub mod encode;
pub mod isolate;
mod live_status;
mod message;
pub mod metrics;
pub(crate) mod origin;
mod parking;
pub mod secrets;
mod session;
pub mod settle;
mod throughput;
pub mod upload;
mod watchdog;
mod work;
mod worker;

use acknowledge::Settler;
use breaks::Breaks;
use broker::Broker;
use capacity::{Capacity, SizeFields, Sizes};
use convert::Converter;
use decode::{Decoder, InvalidTemplate};
use isolate::Isolation;
use isolate::protocol::Settings;
use live_status::LiveStatus;
use metrics::Metrics;
use parking::Parking;
use secrets::Secrets;
use session::Sessions;
use upload::Store;
use worker::Worker;

/// Store the images of one queue in one bucket. The controller starts this command in pods. Every setting is an
/// argument, except the Secrets: each is a directory with one file per key, read again at every use.
#[derive(Clone, Debug, PartialEq, clap::Args)]
pub struct Args {
    /// Namespace of the ImagePipeline, for logs and parking headers
    #[arg(long, env = "PIPELINE_NAMESPACE")]
    pub pipeline_namespace: String,
    /// Name of the ImagePipeline, for logs and parking headers
    #[arg(long, env = "PIPELINE_NAME")]
    pub pipeline_name: String,
    /// The pipeline's settings as JSON: source, message, image, destination and failures of the ImagePipeline's spec,
    /// and concurrency
    #[arg(long, env = "ASSIGNMENT", value_name = "JSON")]
    pub assignment: Assignment,
    /// Directory with one directory per Secret: broker, broker-credentials, broker-authority, broker-certificate,
    /// store, store-authority
    #[arg(long, env = "SECRETS", value_name = "DIRECTORY", default_value = names::SECRETS_MOUNT)]
    pub secrets: PathBuf,
    /// Seconds after SIGTERM in which the process must exit
    #[arg(long, env = "GRACE_PERIOD_SECONDS", default_value_t = 60)]
    pub grace_period_seconds: u16,
    /// Listen address for /livez, /readyz, /metrics and /status
    #[arg(long, env = "LISTEN", default_value = "[::]:8080")]
    pub listen: SocketAddr,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("can't listen on {address} (--listen): {source}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error(transparent)]
    KeyTemplate(#[from] InvalidTemplate),
}

/// Consumes until `stop`, then finishes the messages it holds and returns.
///
/// # Errors
/// The listen address is in use, or the key template is invalid. Every other error is retried without limit and shown
/// in `/status`.
pub async fn run(args: Args, stop: CancellationToken) -> Result<(), Error> {
    let address = args.listen;
    let listener = http::listen(address).await.map_err(|source| Error::Listen { address, source })?;
    let mut registry = Registry::with_prefix("image_pipeline");
    let metrics = Metrics::register(&mut registry);
    let state = LiveStatus::new(metrics.clone());
    let sizes = sizes(&args);
    announce(&args, sizes);
    let sessions = sessions(&args, sizes, &state);
    let worker = Arc::new(worker(&args, sizes, &sessions.broker, &state, metrics).await?);
    let work = async {
        sessions.run(&worker, &stop).await;
        worker.parking.close().await;
    };
    let drain = async {
        stop.cancelled().await;
        state.draining();
        std::future::pending::<()>().await
    };
    let served = http::serve(listener, routes(registry, &state), CancellationToken::new());
    tokio::select! {
        () = work => info!("stopped"),
        () = drain => {}
        Err(source) = served => return Err(Error::Listen { address, source }),
    }
    Ok(())
}

fn routes(registry: Registry, state: &Arc<LiveStatus>) -> axum::Router {
    let (ready, status) = (Arc::clone(state), Arc::clone(state));
    http::routes(registry, move || ready.ready()).route("/status", get(move || async move { Json(status.status()) }))
}

fn sizes(args: &Args) -> Sizes {
    let rabbitmq = &args.assignment.source.rabbitmq;
    let asked = SizeFields {
        concurrency: args.assignment.concurrency,
        prefetch: rabbitmq.prefetch,
        max_body_bytes: rabbitmq.max_body_bytes.get(),
    };
    let parallelism = std::thread::available_parallelism().map_or(1, usize::from);
    Sizes::new(asked, cgroup::limits(), u64::try_from(parallelism).unwrap_or(1))
}

fn sessions(args: &Args, sizes: Sizes, state: &Arc<LiveStatus>) -> Sessions {
    // In a pod, HOSTNAME is the pod's name.
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "consumer".to_owned());
    let Args { pipeline_namespace, pipeline_name, assignment, secrets, .. } = args;
    Sessions {
        broker: Broker {
            source: assignment.source.rabbitmq.clone(),
            secrets: secrets.as_path().into(),
            name: format!("image-pipeline {pipeline_namespace}/{pipeline_name} {host}"),
        },
        queue: assignment.source.rabbitmq.queue.clone(),
        tag: host,
        sizes,
        policy: delivery_policy::Settings {
            prefetch: sizes.prefetch_for(0),
            delivery_limit: assignment.failures.delivery_limit.into(),
            holding_time: assignment.failures.holding_time.into(),
            parks: assignment.failures.policy == FailurePolicy::Park,
        },
        grace_period: Duration::from_secs(args.grace_period_seconds.into()),
        state: Arc::clone(state),
    }
}

async fn worker(
    args: &Args,
    sizes: Sizes,
    broker: &Broker,
    state: &Arc<LiveStatus>,
    metrics: Metrics,
) -> Result<Worker, Error> {
    let (namespace, name) = (args.pipeline_namespace.clone(), args.pipeline_name.clone());
    let Assignment { source, destination, failures, .. } = &args.assignment;
    let settler = Settler {
        pipeline: format!("{namespace}/{name}"),
        policy: failures.policy,
        state: Arc::clone(state),
        metrics: metrics.clone(),
    };
    Ok(Worker {
        namespace,
        name,
        queue: source.rabbitmq.queue.clone(),
        delivery_limit: failures.delivery_limit.into(),
        converter: Arc::new(converter(&args.assignment, sizes, &metrics)?),
        store: Store::new(&destination.s3, &Secrets::from(args.secrets.as_path())).await,
        parking: Parking::new(broker.clone(), names::parking_queue(source, failures)),
        settler,
        breaks: Breaks::default(),
        state: Arc::clone(state),
        metrics,
    })
}

fn converter(assignment: &Assignment, sizes: Sizes, metrics: &Metrics) -> Result<Converter, InvalidTemplate> {
    let Assignment { source, message, image, destination, .. } = assignment;
    let (message, image, s3) = (message.clone(), image.clone(), destination.s3.clone());
    let max_body_bytes = source.rabbitmq.max_body_bytes.get();
    Ok(Converter {
        decoder: Decoder::new(&message, &s3, max_body_bytes)?,
        image: image.clone(),
        isolation: Isolation::new(Settings { message, image, s3, max_body_bytes }),
        capacity: Capacity::new(sizes),
        metrics: metrics.clone(),
    })
}

fn announce(args: &Args, sizes: Sizes) {
    let (rabbitmq, s3) = (&args.assignment.source.rabbitmq, &args.assignment.destination.s3);
    info!(
        version = version::VERSION,
        revision = version::REVISION,
        pipeline = format!("{}/{}", args.pipeline_namespace, args.pipeline_name),
        vhost = rabbitmq.vhost,
        queue = rabbitmq.queue,
        bucket = s3.bucket,
        prefix = s3.prefix,
        region = s3.region,
        concurrency = sizes.concurrency,
        memory_limit = sizes.memory_limit,
        "storing the queue's images in the bucket"
    );
}
