//! Follows objects through watches of the API server: the sizes of Deployments, the ends of pods, the statuses of
//! pipelines. It sends no other requests.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use futures::TryStreamExt as _;
use image_pipeline::api::{ImagePipeline, ImagePipelineStatus, names};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::{Config, Event};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Size of a Deployment at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Time of the watch event.
    pub at: Instant,
    /// `spec.replicas`.
    pub asked: i32,
    /// `status.replicas`: pods that exist.
    pub pods: i32,
    /// `status.readyReplicas`.
    pub ready: i32,
    /// Increases by one with each write to the spec.
    pub generation: i64,
    /// Whether Kubernetes refuses to create its pods.
    pub refused: bool,
}

/// State from the watch events so far.
pub struct Followed<T> {
    told: watch::Receiver<T>,
    task: JoinHandle<()>,
}

/// Every size of one Deployment, in order.
pub type Sizes = Followed<Vec<Size>>;

/// The pods of one pipeline by name, and the time each was deleted.
pub type Ends = Followed<BTreeMap<String, Option<Instant>>>;

/// The pipelines of the whole cluster, by namespace and name, with their generations.
pub type Statuses = Followed<HashMap<(String, String), (i64, ImagePipelineStatus)>>;

impl<T> Drop for Followed<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<T: Default + Send + Sync + 'static> Followed<T> {
    fn start<K>(api: Api<K>, config: Config, mut note: impl FnMut(&mut T, Event<K>) + Send + 'static) -> Self
    where
        K: kube::Resource + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
    {
        let (telling, told) = watch::channel(T::default());
        let task = tokio::spawn(async move {
            let mut events = std::pin::pin!(watcher(api, config).default_backoff());
            loop {
                match events.try_next().await {
                    Ok(Some(event)) => telling.send_modify(|told| note(told, event)),
                    Ok(None) => return,
                    Err(error) => eprintln!("a watch is interrupted: {error}"),
                }
            }
        });
        Self { told, task }
    }

    /// Waits until `look` finds a value in the followed state.
    pub async fn until<R>(&self, what: &str, limit: Duration, mut look: impl FnMut(&T) -> Option<R>) -> R {
        let mut told = self.told.clone();
        let waiting = async {
            loop {
                if let Some(found) = look(&told.borrow_and_update()) {
                    return found;
                }
                told.changed().await.expect("a watch that goes on");
            }
        };
        tokio::time::timeout(limit, waiting).await.unwrap_or_else(|_| panic!("waited {limit:?} for {what}"))
    }

    /// Reads the state so far.
    pub fn so_far<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.told.borrow())
    }
}

impl Sizes {
    /// Follows a pipeline's Deployment.
    pub fn of(client: &Client, namespace: &str, pipeline: &str) -> Self {
        let api: Api<Deployment> = Api::namespaced(client.clone(), namespace);
        let config = Config::default().fields(&format!("metadata.name={}", names::deployment(pipeline)));
        Self::start(api, config, |sizes: &mut Vec<Size>, event| {
            if let Event::Apply(deployment) | Event::InitApply(deployment) = event {
                sizes.push(size(deployment));
            }
        })
    }

    /// The last size; `None` while the Deployment does not exist.
    pub fn last(&self) -> Option<Size> {
        self.so_far(|sizes| sizes.last().copied())
    }

    /// The sizes in the spec since a moment, and the one before.
    pub fn since(&self, moment: Instant) -> Vec<i32> {
        self.so_far(|sizes| {
            let before = sizes.iter().rev().find(|size| size.at < moment);
            let since = sizes.iter().filter(|size| size.at >= moment);
            before.into_iter().chain(since).map(|size| size.asked).collect()
        })
    }
}

fn size(deployment: Deployment) -> Size {
    let generation = deployment.metadata.generation.unwrap_or_default();
    let status = deployment.status.unwrap_or_default();
    let refuses = |kind: &str, value: &str| kind == "ReplicaFailure" && value == "True";
    Size {
        at: Instant::now(),
        asked: deployment.spec.and_then(|spec| spec.replicas).unwrap_or_default(),
        pods: status.replicas.unwrap_or_default(),
        ready: status.ready_replicas.unwrap_or_default(),
        generation,
        refused: status.conditions.iter().flatten().any(|condition| refuses(&condition.type_, &condition.status)),
    }
}

impl Ends {
    /// Follows a pipeline's pods.
    pub fn of(client: &Client, namespace: &str, pipeline: &str) -> Self {
        let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let config = Config::default().labels(&names::selector(pipeline));
        Self::start(api, config, |pods: &mut BTreeMap<String, Option<Instant>>, event| match event {
            Event::Apply(pod) | Event::InitApply(pod) => drop(pods.entry(pod.name_any()).or_default()),
            Event::Delete(pod) => drop(pods.insert(pod.name_any(), Some(Instant::now()))),
            Event::Init | Event::InitDone => {}
        })
    }
}

impl Statuses {
    /// Follows every pipeline.
    pub fn all(client: &Client) -> Self {
        let api: Api<ImagePipeline> = Api::all(client.clone());
        Self::start(api, Config::default(), |pipelines: &mut HashMap<_, _>, event| {
            if let Event::Apply(pipeline) | Event::InitApply(pipeline) = event {
                let key = (pipeline.namespace().unwrap_or_default(), pipeline.name_any());
                let generation = pipeline.metadata.generation.unwrap_or_default();
                pipelines.insert(key, (generation, pipeline.status.unwrap_or_default()));
            }
        })
    }

    /// Waits until the status of a pipeline's current spec satisfies `look`.
    pub async fn shows(
        &self,
        pipeline: (&str, &str),
        what: &str,
        limit: Duration,
        look: impl Fn(&ImagePipelineStatus) -> bool,
    ) {
        let key = (pipeline.0.to_owned(), pipeline.1.to_owned());
        let shows = |pipelines: &HashMap<_, (i64, ImagePipelineStatus)>| {
            let (generation, status) = pipelines.get(&key)?;
            (status.observed_generation == Some(*generation) && look(status)).then_some(())
        };
        self.until(&format!("{what} of {}/{}", key.0, key.1), limit, shows).await;
    }
}

/// Whether a status has a condition with this status and, if given, this reason.
pub fn has(status: &ImagePipelineStatus, kind: &str, value: &str, reason: Option<&str>) -> bool {
    status.conditions.iter().any(|condition| {
        condition.type_ == kind && condition.status == value && reason.is_none_or(|reason| condition.reason == reason)
    })
}
