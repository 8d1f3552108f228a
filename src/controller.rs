//! The operator process: watches ImagePipelines and what belongs to them, and takes each through
//! observe → decide → build → apply → status. It must never let one pipeline's trouble reach
//! another, nor write anything while nothing has changed.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use kube::{Client, Config};
use tokio_util::sync::CancellationToken;

use crate::api::{ImagePipeline, names};
use crate::queue::Reach;
use crate::version;

mod answered;
mod apply;
mod brokers;
pub mod build;
pub mod console;
mod context;
pub mod decide;
mod foreign;
mod instruments;
mod leader;
mod listed;
pub mod metrics;
mod observe;
mod observed;
mod renewals;
mod rewatch;
mod scope;
mod status;

pub use build::ConsumerImage;
use console::About;
pub use console::Console;
use context::{Context, shown};
pub use instruments::Instruments;
pub use leader::Election;
use leader::Term;
pub use listed::Listed;
pub use metrics::Metrics;
use scope::Shared;

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
    /// Namespaces to work in, comma separated; without any, all of them
    #[arg(long, env = "NAMESPACES", value_delimiter = ',')]
    pub namespaces: Vec<String>,
    /// Namespace of the Lease by which one of several operators leads; without it, the one that the
    /// process runs in, or that KUBECONFIG names
    #[arg(long, env = "POD_NAMESPACE")]
    pub lease_namespace: Option<String>,
    /// Name of that Lease: operators of one name take turns
    #[arg(long, env = "LEASE_NAME", default_value = names::FIELD_MANAGER)]
    pub lease_name: String,
    /// This operator's name in the Lease, different from every other's; made up if not given
    #[arg(long, env = "POD_NAME")]
    pub identity: Option<String>,
    /// Address for /livez, /readyz and /metrics
    #[arg(long, env = "LISTEN", default_value = "[::]:8080")]
    pub listen: SocketAddr,
    /// Address for the console, a page that shows the pipelines of every namespace served to whoever reaches
    /// it: 127.0.0.1:8081 for this machine alone. Without it there is none
    #[arg(long, env = "CONSOLE")]
    pub console: Option<SocketAddr>,
    /// Also connect to brokers on loopback, link-local and other addresses that only this process or
    /// its node reaches; without it, no Secret can make the operator dial them
    #[arg(long, env = "ALLOW_LOCAL_BROKERS")]
    pub allow_local_brokers: bool,
}

/// What an operator is told once and for all.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What it says of consumer pods' image.
    pub image: ConsumerImage,
    /// The namespaces it works in; without any, all of them.
    pub namespaces: Vec<String>,
    /// Where it may dial brokers: whoever may write a Secret says where they are.
    pub reach: Reach,
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

/// How long reconciliations may go on after a stop: one may wait for a broker, or for a list.
const STOPS_WITHIN: Duration = Duration::from_millis(500);

/// The longest silence of the API server: kube waits for a list without limit. A watch without news
/// is ended by the server before.
const SILENCE: Duration = Duration::from_secs(300);

type Guarded = DeserializeGuard<ImagePipeline>;

impl Args {
    fn settings(&self) -> Settings {
        let image = ConsumerImage {
            image: self.consumer_image.clone(),
            pull_policy: self.consumer_image_pull_policy.clone(),
            pull_secrets: self.consumer_image_pull_secrets.clone(),
        };
        let reach = if self.allow_local_brokers { Reach::Anywhere } else { Reach::Elsewhere };
        Settings { image, namespaces: self.namespaces.clone(), reach }
    }

    fn about(&self, client: &Client) -> About {
        let made_up = || {
            let host = std::env::var("HOSTNAME").unwrap_or_else(|_| names::FIELD_MANAGER.to_owned());
            format!("{host}-{:016x}", fastrand::u64(..))
        };
        About {
            namespace: self.lease_namespace.as_deref().unwrap_or(client.default_namespace()).to_owned(),
            lease: self.lease_name.clone(),
            identity: self.identity.clone().unwrap_or_else(made_up),
        }
    }
}

/// Runs the operator until it is told to stop.
///
/// # Errors
/// There is no cluster, or an address can't be had.
pub async fn run(args: Args, stop: CancellationToken) -> Result<(), Error> {
    let (settings, listen, console) = (args.settings(), args.listen, args.console);
    let client = client().await?;
    let about = args.about(&client);
    let instruments = Instruments::default();
    let servers = instruments.serve(listen, console, about.clone(), &stop).await?;
    let (version, revision) = (version::VERSION, version::REVISION);
    let (consumer, namespaces) = (&settings.image.image, &settings.namespaces);
    tracing::info!(version, revision, consumer.image = consumer, ?namespaces, %listen, ?console, "controller starts");
    let About { namespace, lease, identity } = &about;
    tracing::info!(namespace, lease, identity, "waiting to lead");
    let election = Election::new(client.clone(), namespace, lease, identity);
    lead(election, client, settings, instruments, stop).await?;
    tracing::info!("controller stops");
    drop(servers.join_all().await);
    Ok(())
}

/// A client of the cluster that the process is started for.
async fn client() -> Result<Client, Error> {
    #[expect(clippy::disallowed_methods, reason = "whoever starts the operator names its cluster")]
    let mut config = Config::infer().await.map_err(|error| Error::Cluster(kube::Error::InferConfig(error)))?;
    (config.read_timeout, config.reset_reader_on_write) = (Some(SILENCE), true);
    Client::try_from(config).map_err(Error::Cluster)
}

/// Operates as [`operate`] does for as long as this operator leads, and otherwise waits. Who loses the
/// Lease drops all work at once and waits again: a process that ended would be restarted time and again
/// while the API server is away.
///
/// # Errors
/// The watches have ended by themselves.
pub async fn lead(
    mut election: Election,
    client: Client,
    settings: Settings,
    instruments: Instruments,
    stop: CancellationToken,
) -> Result<(), Error> {
    while let Some(term) = election.win(|| instruments.listed.nothing(), &stop).await {
        tracing::info!("this operator leads");
        let (client, settings) = (client.clone(), settings.clone());
        let work = work(client, settings, instruments.clone(), term.clone(), stop.clone());
        let ended = tokio::select! {
            // First: whoever stood still past its term must see so before it goes on.
            biased;
            () = election.hold(&term) => None,
            ended = work => Some(ended),
        };
        instruments.rest();
        if let Some(ended) = ended {
            election.release().await;
            return ended;
        }
    }
    Ok(())
}

/// Operates the cluster of `client`, or some of its namespaces, until told to stop, which is the whole
/// of the operator but for its command line, its probes and its election.
///
/// # Errors
/// The watches have ended by themselves.
pub async fn operate(
    client: Client,
    settings: Settings,
    instruments: Instruments,
    stop: CancellationToken,
) -> Result<(), Error> {
    work(client, settings, instruments, Term::unlimited(), stop).await
}

async fn work(
    client: Client,
    settings: Settings,
    instruments: Instruments,
    term: Term,
    stop: CancellationToken,
) -> Result<(), Error> {
    instruments.console.begin();
    let scopes = scopes(&settings.namespaces);
    let shared = Shared::new(client, settings, instruments, term)?;
    let run = |namespace| scope::run(namespace, shared.clone(), shared.lists(), stop.clone());
    let ended = try_join_all(scopes.into_iter().map(run));
    let time_is_up = async {
        stop.cancelled().await;
        tokio::time::sleep(STOPS_WITHIN).await;
    };
    tokio::select! {
        ended = ended => ended.map(drop),
        () = time_is_up => Ok(()),
    }
}

/// The namespaces to watch, each once; `None` is all of them.
fn scopes(namespaces: &[String]) -> Vec<Option<String>> {
    let named: BTreeSet<&str> = namespaces.iter().map(|name| name.trim()).filter(|name| !name.is_empty()).collect();
    if named.is_empty() { vec![None] } else { named.into_iter().map(|name| Some(name.to_owned())).collect() }
}

async fn reconcile(guarded: Arc<Guarded>, context: Arc<Context>) -> Result<Action, Error> {
    context.meet(&guarded);
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
    context.sources.lists.complete().await;
    let started = Instant::now();
    let mut observed = context.sources.observe(pipeline).await;
    let template = build::Template::new(pipeline, &context.image);
    context.recall(pipeline, &template, &mut observed);
    let decision = context.decide(pipeline, &observed);
    // First the pods: Kubernetes chooses those that go when it sees the smaller size. It sees none
    // before they are ranked, unless a rule forbids to rank them.
    let annotated = context.writer.annotate_pods(pipeline, &observed, decision.replicas, context.now()).await;
    let unranked = decision.replicas > 0 && annotated.as_ref().is_err_and(apply::may_pass);
    let kept = observed.size().filter(|_| unranked).unwrap_or(0);
    let desired = build::build(pipeline, decision.replicas.max(kept), template);
    let applied = context.writer.apply(pipeline, &desired, observed.deployment.as_deref()).await;
    let previous = context.previous_status(pipeline);
    let now = context.now();
    let status = status::status(&previous, pipeline, &observed, &decision, &applied, now);
    context.instruments.console.note(pipeline, &observed, &status, now);
    context.report(pipeline, &previous, status, &decision, now).await?;
    context.report_renewals(pipeline, now).await?;
    annotated.map_err(Error::Write)?;
    context.instruments.metrics.reconcile_seconds.observe(started.elapsed().as_secs_f64());
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
