//! The operator process: watches ImagePipelines, their Deployments, pods and Secrets, and reconciles each pipeline:
//! observe → decide → build → apply → status. A fault of one pipeline does not delay the other pipelines, and a
//! reconcile that finds no change writes nothing.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use futures::future::try_join_all;
use kube::core::DeserializeGuard;
use kube::{Client, Config};
use tokio_util::sync::CancellationToken;

use crate::api::{ImagePipeline, names};
use crate::console::About;
use crate::rabbitmq::DialPolicy;
use crate::version;

mod apply;
pub mod build;
mod cause;
mod connections;
pub mod decide;
mod foreign_consumers;
mod index;
mod initial_lists;
mod instruments;
mod leader;
mod live;
mod memory;
pub mod metrics;
mod observation;
mod observe;
mod open_files;
mod queue_reads;
mod reconcile;
mod renewals;
mod report;
mod requests;
mod rollouts;
mod status;
mod transitions;
mod watch;
mod watch_backoff;

pub use build::ConsumerImage;
pub use initial_lists::InitialLists;
pub use instruments::Instruments;
pub use leader::Election;
use leader::Term;
pub use metrics::Metrics;
use watch::Shared;

/// Run the operator: turn ImagePipelines into consumer pods and size them from their queues.
///
/// Uses the cluster of the kubeconfig (KUBECONFIG), or else the cluster that the process runs in.
#[derive(Clone, Debug, Eq, PartialEq, clap::Args)]
pub struct Args {
    /// Image of the consumer pods: this program's own image
    #[arg(long, env = "CONSUMER_IMAGE")]
    pub consumer_image: String,
    /// Pull policy of the consumer image: Always, IfNotPresent or Never
    #[arg(long, env = "CONSUMER_IMAGE_PULL_POLICY", default_value = "IfNotPresent",
          value_parser = ["Always", "IfNotPresent", "Never"])]
    pub consumer_image_pull_policy: String,
    /// Pull Secrets of the consumer image, comma separated; they must exist in the namespace of each pipeline
    #[arg(long, env = "CONSUMER_IMAGE_PULL_SECRETS", value_delimiter = ',')]
    pub consumer_image_pull_secrets: Vec<String>,
    /// Namespaces to watch, comma separated; if not set, all namespaces
    #[arg(long, env = "NAMESPACES", value_delimiter = ',')]
    pub namespaces: Vec<String>,
    /// Namespace of the Lease for leader election; if not set, the namespace of the kubeconfig's context or of the
    /// operator's pod
    #[arg(long, env = "POD_NAMESPACE")]
    pub lease_namespace: Option<String>,
    /// Name of the Lease: of the operators that share a Lease, one is active
    #[arg(long, env = "LEASE_NAME", default_value = names::FIELD_MANAGER)]
    pub lease_name: String,
    /// Identity of this operator in the Lease, unique among the operators; if not set, host name and random number
    #[arg(long, env = "POD_NAME")]
    pub identity: Option<String>,
    /// Address for /livez, /readyz and /metrics
    #[arg(long, env = "LISTEN", default_value = "[::]:8080")]
    pub listen: SocketAddr,
    /// Address for the console, a page without a login that shows the pipelines of all watched namespaces:
    /// 127.0.0.1:8081 serves this machine only. If not set, there is no console
    #[arg(long, env = "CONSOLE")]
    pub console: Option<SocketAddr>,
    /// Also connect to RabbitMQ on loopback, link-local and other addresses that only this process or its node can
    /// reach; if not set, the operator refuses such an address from a Secret
    #[arg(long, env = "ALLOW_LOCAL_BROKERS")]
    pub allow_local_brokers: bool,
    /// Brokers, counted by address, vhost and login, that the pipelines of one namespace may have. The operator holds
    /// one connection to each
    #[arg(long, env = "BROKERS_PER_NAMESPACE", default_value_t = 20)]
    pub brokers_per_namespace: usize,
    /// Pipelines that replace their pods at a time after an upgrade of the operator; the next one begins when the pods
    /// of one before it are available
    #[arg(long, env = "ROLLOUTS_AT_ONCE", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..))]
    pub rollouts_at_once: u16,
}

/// The operator's options that hold in every namespace.
#[derive(Clone, Debug)]
pub struct Settings {
    pub image: ConsumerImage,
    /// Namespaces to watch; empty: all namespaces.
    pub namespaces: Vec<String>,
    /// Which addresses the operator may dial. The address comes from a Secret, so anyone who may write a Secret
    /// chooses the address.
    pub dial_policy: DialPolicy,
    /// Brokers, counted by address, vhost and login, to which the pipelines of one namespace may connect the operator.
    pub brokers_per_namespace: usize,
    /// Pipelines that replace their pods at a time after an upgrade of the operator.
    pub rollouts_at_once: usize,
}

/// Why the operator can't run, or why a reconcile is tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("can't connect to a Kubernetes cluster: {0}; run the operator in a cluster, or set KUBECONFIG")]
    Cluster(#[source] kube::Error),
    #[error("can't listen on {0}: {1}")]
    Listen(SocketAddr, #[source] std::io::Error),
    /// The client that polls the pods' `/status`.
    #[error("can't create the HTTP client: {0}")]
    Http(#[source] reqwest::Error),
    #[error("the watches of the API server have ended")]
    Watch,
    /// The API server refused the write or did not answer, or this operator is no longer the leader.
    #[error("a write to the API server failed: {0}")]
    Write(#[source] kube::Error),
}

/// How long running reconciles may continue after `stop`: a reconcile may wait for RabbitMQ or for a list.
const STOPS_WITHIN: Duration = Duration::from_millis(500);

/// Read timeout for the API server: without it kube waits for a list without limit. The API server ends a watch
/// without events earlier than that.
const SILENCE: Duration = Duration::from_secs(300);

type Guarded = DeserializeGuard<ImagePipeline>;

impl Args {
    fn settings(&self) -> Settings {
        let image = ConsumerImage {
            image: self.consumer_image.clone(),
            pull_policy: self.consumer_image_pull_policy.clone(),
            pull_secrets: self.consumer_image_pull_secrets.clone(),
        };
        let dial_policy = if self.allow_local_brokers { DialPolicy::AnyAddress } else { DialPolicy::RemoteOnly };
        Settings {
            image,
            namespaces: self.namespaces.clone(),
            dial_policy,
            brokers_per_namespace: self.brokers_per_namespace,
            rollouts_at_once: self.rollouts_at_once.into(),
        }
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

/// Runs the operator until `stop`.
///
/// # Errors
/// No cluster is configured, `listen` or `console` can't be bound, or the watches ended without `stop`.
pub async fn run(args: Args, stop: CancellationToken) -> Result<(), Error> {
    let (settings, listen, console) = (args.settings(), args.listen, args.console);
    if let Err(error) = open_files::raise_limit() {
        tracing::warn!(%error, "the limit of open files stays as it is; with many pods, polls may fail");
    }
    let client = client().await?;
    let about = args.about(&client);
    let instruments = Instruments::default();
    let servers = instruments.serve(listen, console, about.clone(), &stop).await?;
    let (version, revision) = (version::VERSION, version::REVISION);
    let (consumer, namespaces) = (&settings.image.image, &settings.namespaces);
    tracing::info!(version, revision, consumer.image = consumer, ?namespaces, %listen, ?console, "controller starts");
    let About { namespace, lease, identity } = &about;
    tracing::info!(namespace, lease, identity, "waiting to become the leader");
    let election = Election::new(client.clone(), namespace, lease, identity);
    lead(election, client, settings, instruments, stop).await?;
    tracing::info!("controller stops");
    drop(servers.join_all().await);
    Ok(())
}

async fn client() -> Result<Client, Error> {
    #[expect(clippy::disallowed_methods, reason = "the kubeconfig or the pod names the cluster")]
    let mut config = Config::infer().await.map_err(|error| Error::Cluster(kube::Error::InferConfig(error)))?;
    (config.read_timeout, config.reset_reader_on_write) = (Some(SILENCE), true);
    Client::try_from(config).map_err(Error::Cluster)
}

/// Works as [`operate`] does while this operator is the leader, and waits otherwise. An operator that loses the
/// Lease drops its work immediately and waits for the Lease again: if its process ended instead, the kubelet would
/// restart it again and again while the API server is away.
///
/// # Errors
/// The watches ended without `stop`.
pub async fn lead(
    mut election: Election,
    client: Client,
    settings: Settings,
    instruments: Instruments,
    stop: CancellationToken,
) -> Result<(), Error> {
    while let Some(term) = election.win(|| instruments.listed.nothing(), &stop).await {
        tracing::info!("this operator is the leader");
        let (client, settings) = (client.clone(), settings.clone());
        let work = work(client, settings, instruments.clone(), term.clone(), stop.clone());
        let ended = tokio::select! {
            // `hold` is polled first: a process that was suspended past its term must notice before it works on.
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

/// Reconciles the pipelines of a cluster, or of some of its namespaces, until `stop`: the operator without its
/// command line, its probes and its leader election.
///
/// # Errors
/// The watches ended without `stop`.
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
    let run = |namespace| watch::run(namespace, shared.clone(), shared.lists(), stop.clone());
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

/// The namespaces to watch, without duplicates; `None`: all namespaces.
fn scopes(namespaces: &[String]) -> Vec<Option<String>> {
    let named: BTreeSet<&str> = namespaces.iter().map(|name| name.trim()).filter(|name| !name.is_empty()).collect();
    if named.is_empty() { vec![None] } else { named.into_iter().map(|name| Some(name.to_owned())).collect() }
}
