//! A scope: the whole cluster, or one namespace with its own watches, stores and controller. A scope requests nothing
//! outside its namespace. Scopes share the connections to RabbitMQ, but no state by which a fault of one scope would
//! stop another.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::{Arc, Once};
use std::time::Duration;

use futures::{Stream, StreamExt};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Secret;
use kube::core::PartialObjectMeta;
use kube::runtime::events::Reporter;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{Controller, WatchStreamExt, predicates, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use super::apply::Writer;
use super::build::ConsumerImage;
use super::connections::Connections;
use super::index::Index;
use super::initial_lists::Lists;
use super::instruments::Instruments;
use super::leader::Term;
use super::live::{self, LiveDeployment, LivePod};
use super::memory::Memories;
use super::observe::{KEPT_FOR, Pods, Sources};
use super::reconcile::{Context, error_policy, reconcile};
use super::rollouts::Rollouts;
use super::watch_backoff::{NoBackoff, watch_backoff};
use super::{Error, Guarded, Settings};
use crate::api::names;

/// Objects in one answer to a list. An answer is parsed before its objects are reduced, and an object may have 1.5 MiB.
const PAGE: u32 = 50;

/// The parts of the operator that all scopes share.
#[derive(Clone)]
pub struct Shared {
    client: Client,
    image: Arc<ConsumerImage>,
    instruments: Instruments,
    term: Term,
    connections: Arc<Connections>,
    rollouts: Arc<Rollouts>,
    http: reqwest::Client,
}

impl Shared {
    /// # Errors
    /// The HTTP client for the pods' `/status` can't be created.
    pub fn new(client: Client, settings: Settings, instruments: Instruments, term: Term) -> Result<Self, Error> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .pool_idle_timeout(KEPT_FOR)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(Error::Http)?;
        let Settings { image, namespaces: _, dial_policy, brokers_per_namespace, rollouts_at_once } = settings;
        let connections = Arc::new(Connections::new(dial_policy, brokers_per_namespace));
        let rollouts = Arc::new(Rollouts::new(rollouts_at_once));
        Ok(Self { client, image: Arc::new(image), instruments, term, connections, rollouts, http })
    }
}

/// Reconciles the pipelines of a namespace, or of all namespaces (`None`), until `stop`.
///
/// # Errors
/// The watches ended without `stop`.
pub async fn run(
    namespace: Option<String>,
    shared: Shared,
    lists: Lists,
    stop: CancellationToken,
) -> Result<(), Error> {
    let namespace = namespace.as_deref();
    let client = &shared.client;
    let ours = watcher::Config::default().page_size(PAGE).labels(names::CONSUMER_SELECTOR);
    let (pipelines, pipeline_writer) = reflector::store();
    let (deployments, deployment_writer) = reflector::store();
    let (pods, pod_writer) = reflector::store();
    let (secrets, secret_writer) = reflector::store();
    let (by_secret, by_pipeline) = (Index::default(), Index::default());

    let all = watcher::Config::default().page_size(PAGE);
    let pipeline_events = watched(api::<Guarded>(client, namespace), all.clone(), live::pipeline, pipeline_writer)
        .inspect(lists.pipelines())
        .inspect(by_secret.follow(secrets_of))
        .applied_objects()
        .predicate_filter(predicates::generation, Default::default());
    let deployment_events = watched(api::<LiveDeployment>(client, namespace), ours.clone(), |_| {}, deployment_writer)
        .inspect(lists.deployments())
        .touched_objects();
    let pod_events = watched(api::<LivePod>(client, namespace), ours, |_| {}, pod_writer)
        .inspect(lists.pods())
        .inspect(by_pipeline.follow(|pod: &LivePod| pod.pipeline.iter().cloned().collect()))
        .touched_objects();
    let secret_events = watched(api::<PartialObjectMeta<Secret>>(client, namespace), all, live::secret, secret_writer)
        .inspect(lists.secrets())
        .touched_objects();

    let context = Arc::new(shared.context(&pipelines, deployments, Pods { store: pods, by_pipeline }, secrets, lists));
    let controller = Controller::for_stream(pipeline_events, pipelines)
        .owns_stream(deployment_events)
        .watches_stream(pod_events, |pod: LivePod| pipeline_of_pod(&pod))
        .watches_stream(secret_events, move |secret: PartialObjectMeta<Secret>| {
            pipelines_of_secret(&by_secret, &secret)
        })
        .trigger_backoff(NoBackoff)
        .graceful_shutdown_on(stop.clone().cancelled_owned())
        .run(reconcile, error_policy, context.clone());
    drive(controller, &context).await;
    if stop.is_cancelled() { Ok(()) } else { Err(Error::Watch) }
}

impl Shared {
    /// Adds a scope to the lists that `/readyz` waits for.
    pub fn lists(&self) -> Lists {
        self.instruments.listed.scope()
    }

    fn context(
        &self,
        pipelines: &Store<Guarded>,
        deployments: Store<LiveDeployment>,
        pods: Pods,
        secrets: Store<PartialObjectMeta<Secret>>,
        lists: Lists,
    ) -> Context {
        let reporter =
            Reporter { controller: names::FIELD_MANAGER.to_owned(), instance: std::env::var("HOSTNAME").ok() };
        let (client, http) = (self.client.clone(), self.http.clone());
        let connections = Arc::clone(&self.connections);
        Context {
            sources: Sources { client: client.clone(), deployments, pods, secrets, connections, http, lists },
            writer: Writer::new(client, reporter, self.term.clone()),
            image: Arc::clone(&self.image),
            instruments: self.instruments.clone(),
            pipelines: pipelines.clone(),
            memories: Memories::default(),
            rollouts: Arc::clone(&self.rollouts),
            running_counted: Once::new(),
        }
    }
}

fn api<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType: Default>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// Runs the controller's stream, and drops the state of deleted pipelines every 30 s.
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

/// The events of a watch, with what `reduce` leaves of its objects, which are kept in the store of `writer`.
fn watched<K>(
    api: Api<K>,
    config: watcher::Config,
    reduce: fn(&mut K),
    writer: reflector::store::Writer<K>,
) -> impl Stream<Item = watcher::Result<watcher::Event<K>>>
where
    K: Resource<DynamicType: Clone + Default + Eq + Hash> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    watcher(api, config).backoff(watch_backoff()).modify(reduce).reflect(writer)
}

fn pipeline_of_pod(pod: &LivePod) -> Option<ObjectRef<Guarded>> {
    Some(ObjectRef::new(pod.pipeline.as_ref()?).within(pod.meta().namespace.as_deref()?))
}

/// The names of the Secrets of a pipeline.
fn secrets_of(guarded: &Guarded) -> Vec<String> {
    let Ok(pipeline) = &guarded.0 else { return Vec::new() };
    let secrets = names::secrets(&pipeline.spec.source, &pipeline.spec.destination);
    secrets.into_iter().map(|(_, secret)| secret).collect()
}

fn pipelines_of_secret(by_secret: &Index, secret: &PartialObjectMeta<Secret>) -> Vec<ObjectRef<Guarded>> {
    let namespace = secret.namespace().unwrap_or_default();
    let pipelines = by_secret.naming(&namespace, &secret.name_any());
    pipelines.iter().map(|pipeline| ObjectRef::new(pipeline).within(&namespace)).collect()
}
