//! The operator process: watches ImagePipelines and what belongs to them, and takes each through
//! observe → decide → build → apply → status. It must never let one pipeline's trouble reach
//! another, nor write anything while nothing has changed.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::controller::Action;
use kube::runtime::events::Reporter;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{Controller, WatchStreamExt, predicates, watcher};
use kube::{Api, Client, ResourceExt as _};
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use crate::api::{ImagePipeline, names};
use crate::http;

mod apply;
mod brokers;
pub mod build;
mod context;
pub mod decide;
mod listed;
mod metrics;
mod observe;
mod observed;
mod status;

use apply::Writer;
pub use build::ConsumerImage;
use context::{Context, shown};
pub use listed::Listed;
pub use metrics::Metrics;
use observe::Sources;

/// Run the operator: turn ImagePipelines into consumer pods and size them from their queues.
///
/// The cluster is the one that the process runs in, or that KUBECONFIG names.
#[derive(Clone, Debug, Eq, PartialEq, clap::Args)]
pub struct Args {
    /// Image of the consumer pods: this program's own image
    #[arg(long, env = "CONSUMER_IMAGE")]
    pub consumer_image: String,
    /// When consumer pods pull it: Always, IfNotPresent or Never
    #[arg(long, env = "CONSUMER_IMAGE_PULL_POLICY", default_value = "IfNotPresent",
          value_parser = ["Always", "IfNotPresent", "Never"])]
    pub consumer_image_pull_policy: String,
    /// Secrets for pulling it, comma separated; they must exist in the pipelines' namespaces
    #[arg(long, env = "CONSUMER_IMAGE_PULL_SECRETS", value_delimiter = ',')]
    pub consumer_image_pull_secrets: Vec<String>,
    /// Address for /livez, /readyz and /metrics
    #[arg(long, env = "LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
}

/// Why the operator can't run, or a reconciliation has to be tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no cluster to work for.
    #[error("no cluster: {0}")]
    Cluster(#[source] kube::Error),
    /// The address for probes and metrics can't be had.
    #[error("can't listen on {0}: {1}")]
    Listen(SocketAddr, #[source] std::io::Error),
    /// The client for the pods' status could not be made.
    #[error("can't make an HTTP client: {0}")]
    Http(#[source] reqwest::Error),
    /// The watches have ended.
    #[error("the watches have ended")]
    Watch,
    /// The API server refused a write.
    #[error("the API server refused a write: {0}")]
    Write(#[source] kube::Error),
}

type Guarded = DeserializeGuard<ImagePipeline>;

/// Runs the operator until it is told to stop.
///
/// # Errors
/// There is no cluster, or the address for probes can't be had.
pub async fn run(args: Args, stop: CancellationToken) -> Result<(), Error> {
    let Args { consumer_image, consumer_image_pull_policy, consumer_image_pull_secrets, listen } = args;
    #[expect(clippy::disallowed_methods, reason = "whoever starts the operator names its cluster")]
    let client = Client::try_default().await.map_err(Error::Cluster)?;
    let mut registry = Registry::with_prefix("image_pipeline");
    let metrics = Metrics::default();
    metrics.register(&mut registry);
    let listed = Listed::default();
    let is_listed = listed.clone();
    let routes = http::routes(registry, move || {
        is_listed.is_complete().then_some(()).ok_or_else(|| http::NotReady {
            reason: "Listing".to_owned(),
            message: "the API server has not answered every list yet".to_owned(),
        })
    });
    let listener = tokio::net::TcpListener::bind(listen).await.map_err(|error| Error::Listen(listen, error))?;
    let server = tokio::spawn(http::serve(listener, routes, stop.clone()));
    let image = ConsumerImage {
        image: consumer_image,
        pull_policy: consumer_image_pull_policy,
        pull_secrets: consumer_image_pull_secrets,
    };
    tracing::info!(version = env!("CARGO_PKG_VERSION"), consumer.image = image.image, %listen, "controller starts");
    operate(client, image, metrics, listed, stop).await?;
    tracing::info!("controller stops");
    drop(server.await);
    Ok(())
}

/// Operates the cluster of `client` until told to stop, which is the whole of the operator but for
/// its command line and its probes.
///
/// # Errors
/// The watches have ended by themselves.
pub async fn operate(
    client: Client,
    image: ConsumerImage,
    metrics: Metrics,
    listed: Listed,
    stop: CancellationToken,
) -> Result<(), Error> {
    let ours = watcher::Config::default().labels(names::CONSUMER_SELECTOR);
    let (pipelines, pipeline_writer) = reflector::store();
    let (deployments, deployment_writer) = reflector::store();
    let (pods, pod_writer) = reflector::store();
    let (secrets, secret_writer) = reflector::store();

    let pipeline_events = watcher(Api::<Guarded>::all(client.clone()), watcher::Config::default())
        .default_backoff()
        .reflect(pipeline_writer)
        .inspect(listed.pipelines())
        .applied_objects()
        .predicate_filter(predicates::generation, Default::default());
    let deployment_events = watcher(Api::<Deployment>::all(client.clone()), ours.clone())
        .default_backoff()
        .modify(forget_managed_fields)
        .reflect(deployment_writer)
        .inspect(listed.deployments())
        .touched_objects();
    let pod_events = watcher(Api::<Pod>::all(client.clone()), ours)
        .default_backoff()
        .modify(forget_managed_fields)
        .reflect(pod_writer)
        .inspect(listed.pods())
        .touched_objects();
    // Metadata alone, and of that only what is looked at: an annotation may hold a Secret's data.
    let secret_events = watcher(Api::<PartialObjectMeta<Secret>>::all(client.clone()), watcher::Config::default())
        .default_backoff()
        .modify(|secret: &mut PartialObjectMeta<Secret>| {
            secret.metadata.annotations = None;
            secret.metadata.labels = None;
            secret.metadata.managed_fields = None;
        })
        .reflect(secret_writer)
        .inspect(listed.secrets())
        .touched_objects();

    let reporter = Reporter { controller: names::FIELD_MANAGER.to_owned(), instance: std::env::var("HOSTNAME").ok() };
    let http = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(Error::Http)?;
    let context = Arc::new(Context {
        sources: Sources {
            client: client.clone(),
            deployments,
            pods,
            secrets,
            brokers: Default::default(),
            http,
            listed,
        },
        writer: Writer::new(client, reporter),
        image,
        metrics,
        pipelines: pipelines.clone(),
        remembered: Mutex::default(),
    });

    let referring = pipelines.clone();
    let controller = Controller::for_stream(pipeline_events, pipelines)
        .owns_stream(deployment_events)
        .watches_stream(pod_events, |pod: Pod| pipeline_of_pod(&pod))
        .watches_stream(secret_events, move |secret: PartialObjectMeta<Secret>| {
            pipelines_of_secret(&referring, &secret)
        })
        .graceful_shutdown_on(stop.clone().cancelled_owned())
        .run(reconcile, error_policy, context.clone());
    drive(controller, &context).await;
    if stop.is_cancelled() { Ok(()) } else { Err(Error::Watch) }
}

/// Runs the controller's stream, and now and then forgets what belongs to pipelines that are gone.
async fn drive<T>(controller: impl Stream<Item = T>, context: &Context) {
    let mut controller = std::pin::pin!(controller);
    let mut cleaning = tokio::time::interval(Duration::from_secs(30));
    loop {
        tokio::select! {
            next = controller.next() => if next.is_none() { return },
            _ = cleaning.tick() => context.forget_deleted(),
        }
    }
}

async fn reconcile(guarded: Arc<Guarded>, context: Arc<Context>) -> Result<Action, Error> {
    let pipeline = match &guarded.0 {
        Ok(pipeline) => pipeline,
        Err(invalid) => {
            context.report_invalid(&guarded, &invalid.error).await?;
            return Ok(Action::await_change());
        }
    };
    if pipeline.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    context.sources.listed.complete().await;
    let started = Instant::now();
    let observed = context.sources.observe(pipeline).await;
    let decision = context.decide(pipeline, &observed);
    let desired = build::build(pipeline, decision.replicas, &context.image);
    // First the pods: Kubernetes chooses those that go when it sees the smaller size.
    let annotated = context.writer.annotate_pods(pipeline, &observed, decision.replicas).await;
    let applied = context.writer.apply(pipeline, &desired, observed.deployment.as_deref()).await;
    let previous = context.previous_status(pipeline);
    let now = context.now();
    let status = status::status(&previous, pipeline, &observed, &decision, &applied, now);
    context.report(pipeline, &previous, status, &decision, now).await?;
    annotated.map_err(Error::Write)?;
    context.metrics.reconcile_seconds.observe(started.elapsed().as_secs_f64());
    Ok(Action::requeue(decision.check_again_in))
}

/// The error has been through every step that could put it in the status, so it is logged here,
/// once, and the pipeline is looked at again at its own pace.
fn error_policy(guarded: Arc<Guarded>, error: &Error, _: Arc<Context>) -> Action {
    let again = match &guarded.0 {
        Ok(pipeline) => pipeline.spec.scaling.poll_interval.into(),
        Err(_) => Duration::from_secs(30),
    };
    let name = shown(&ObjectRef::from_obj(guarded.as_ref()));
    tracing::warn!(pipeline = name, %error, "reconciliation failed; trying again");
    Action::requeue(again.max(Duration::from_secs(2)))
}

fn forget_managed_fields<K: kube::Resource>(object: &mut K) {
    object.meta_mut().managed_fields = None;
}

fn pipeline_of_pod(pod: &Pod) -> Option<ObjectRef<Guarded>> {
    let name = pod.labels().get(names::INSTANCE_LABEL)?;
    Some(ObjectRef::new(name).within(pod.metadata.namespace.as_deref()?))
}

fn pipelines_of_secret(pipelines: &Store<Guarded>, secret: &PartialObjectMeta<Secret>) -> Vec<ObjectRef<Guarded>> {
    let (namespace, name) = (secret.namespace(), secret.name_any());
    let refers = |guarded: &Arc<Guarded>| {
        let Ok(pipeline) = &guarded.0 else { return None };
        let referred = pipeline.namespace() == namespace
            && names::secrets(&pipeline.spec.source, &pipeline.spec.destination)
                .iter()
                .any(|(_, secret)| *secret == name);
        referred.then(|| ObjectRef::from_obj(guarded.as_ref()))
    };
    pipelines.state().iter().filter_map(refers).collect()
}
