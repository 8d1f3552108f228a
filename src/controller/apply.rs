//! Writes to Kubernetes: the Deployment, the pods' annotations, the status, events. Every write is
//! here, by one field manager, and only when something differs. It must never touch a Deployment
//! that another owns.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures::{StreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ListParams, Patch, PatchParams};
use kube::core::PartialObjectMeta;
use kube::runtime::events::Reporter;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client, Resource as _, ResourceExt as _};
use serde_json::{Value, json};

use super::answered::answered;
use super::leader::Term;
use super::observed::{Observed, ObservedPod, Trouble};
use super::status::Transition;
use crate::api::{ImagePipeline, ImagePipelineStatus, names};
use crate::reason::Reason;

mod events;

use events::Events;

/// How many pods are annotated at the same time.
const PATCHES_AT_ONCE: usize = 16;

/// How long an order of pods holds for a shrink that could not be carried out.
const RANKED_FOR: SignedDuration = SignedDuration::from_secs(30);

/// The digest of what was asked for at the last apply of a Deployment, and what it led to.
struct Asked {
    digest: blake3::Hash,
    uid: Option<String>,
    generation: Option<i64>,
    /// The size, until the watch has brought it.
    unseen: Option<i32>,
}

type ByPipeline<T> = HashMap<ObjectRef<ImagePipeline>, T>;

/// The writer.
pub struct Writer {
    client: Client,
    events: Events,
    term: Term,
    /// The API server may store a value in another form than it was sent; comparing with the last
    /// apply as well keeps such a difference from being applied for ever.
    asked: Mutex<ByPipeline<Asked>>,
    /// The size that pods were ranked for, and when.
    ranked: Mutex<ByPipeline<(i32, Timestamp)>>,
}

/// What came of applying.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Applied {
    /// Why the Deployment could not be written, if it could not.
    pub trouble: Option<Trouble>,
}

impl Writer {
    /// A writer that names itself as `reporter` in events, and writes within `term`.
    pub fn new(client: Client, reporter: Reporter, term: Term) -> Self {
        let events = Events::new(client.clone(), reporter);
        Self { client, events, term, asked: Mutex::default(), ranked: Mutex::default() }
    }

    /// Applies the Deployment unless the live one has everything asked for.
    pub async fn apply(&self, pipeline: &ImagePipeline, desired: &Deployment, live: Option<&Deployment>) -> Applied {
        let trouble = self.write_deployment(pipeline, desired, live).await.err();
        Applied { trouble }
    }

    async fn write_deployment(
        &self,
        pipeline: &ImagePipeline,
        desired: &Deployment,
        live: Option<&Deployment>,
    ) -> Result<(), Trouble> {
        let name = desired.name_any();
        let taken = || {
            let message = format!(
                "Deployment {name:?} exists and belongs to another; rename this ImagePipeline, or delete that Deployment"
            );
            Trouble::new(Reason::NameTaken, message)
        };
        if live.is_some_and(|live| !owned_by(live, pipeline)) {
            return Err(taken());
        }
        let refused = |error: String| {
            Trouble::new(Reason::DeploymentRefused, format!("Deployment {name:?} can't be written: {error}"))
        };
        let asked = serde_json::to_vec(desired).map_err(|error| refused(error.to_string()))?;
        let digest = blake3::hash(&asked);
        if live.is_some_and(|live| self.is_as_before(pipeline, digest, live) || is_as_asked(desired, live)) {
            return Ok(());
        }
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), &pipeline.namespace().unwrap_or_default());
        let patch = Patch::Apply(desired);
        let apply = async |force| {
            let parameters = PatchParams { force, ..PatchParams::apply(names::FIELD_MANAGER) };
            self.send(api.patch(&name, &parameters, &patch)).await
        };
        // One without our labels is not watched: whose fields they are is seen only where none is forced.
        let written = match apply(live.is_some()).await {
            Err(error) if is_of_others(&error) => {
                let named = ListParams::default().fields(&format!("metadata.name={name}"));
                let found = answered(api.list(&named)).await.map_err(|error| refused(api_message(error)))?;
                if !found.iter().any(|found| found.name_any() == name && owned_by(found, pipeline)) {
                    return Err(taken());
                }
                apply(true).await
            }
            written => written,
        };
        let written = written.map_err(|error| refused(api_message(error)))?;
        locked(&self.asked).insert(
            ObjectRef::from_obj(pipeline),
            Asked {
                digest,
                uid: written.metadata.uid,
                generation: written.metadata.generation,
                unseen: desired.spec.as_ref().and_then(|spec| spec.replicas),
            },
        );
        Ok(())
    }

    /// The size that was written last, as long as `live` is of before: the watch may be behind.
    pub fn unseen_size(&self, pipeline: &ImagePipeline, live: Option<&Deployment>) -> Option<i32> {
        let mut asked = locked(&self.asked);
        let last = asked.get_mut(&ObjectRef::from_obj(pipeline))?;
        let brought =
            live.is_some_and(|live| live.metadata.uid != last.uid || live.metadata.generation >= last.generation);
        last.unseen = last.unseen.filter(|_| !brought);
        last.unseen
    }

    fn is_as_before(&self, pipeline: &ImagePipeline, digest: blake3::Hash, live: &Deployment) -> bool {
        locked(&self.asked).get(&ObjectRef::from_obj(pipeline)).is_some_and(|before| {
            // At or below: the watch may be behind what was written.
            before.digest == digest && live.metadata.generation <= before.generation
        })
    }

    /// Tells pods what Kubernetes is to know of them: which versions of their Secrets exist now, which
    /// makes the kubelet refresh the mounted files at once instead of within a minute or two; and
    /// before a shrink to `size`, what each holds, so that the idle go first.
    ///
    /// # Errors
    /// The API server refused one; all have been tried. Pods that are gone meanwhile do not count.
    pub async fn annotate_pods(
        &self,
        pipeline: &ImagePipeline,
        observed: &Observed,
        size: i32,
        now: Timestamp,
    ) -> Result<(), kube::Error> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &pipeline.namespace().unwrap_or_default());
        let key = ObjectRef::from_obj(pipeline);
        let ranks = shrinks(observed, size);
        let is_ranked = locked(&self.ranked).get(&key).is_some_and(|last| holds(*last, size, now));
        let lacking = observed.pods.iter().filter(|pod| !pod.ending).filter_map(|pod| {
            let annotations = annotations(pod, observed, ranks && !is_ranked);
            (!annotations.is_empty()).then(|| self.send(annotate(&api, &pod.name, annotations)))
        });
        let lacking: Vec<_> = lacking.collect();
        let done: Vec<_> = stream::iter(lacking).buffer_unordered(PATCHES_AT_ONCE).collect().await;
        let done: Result<(), kube::Error> = done.into_iter().collect();
        match (ranks, &done) {
            (true, Ok(())) if !is_ranked => drop(locked(&self.ranked).insert(key, (size, now))),
            (true, Ok(())) => {}
            (false, _) | (true, Err(_)) => drop(locked(&self.ranked).remove(&key)),
        }
        done
    }

    /// Writes the status of the resource that has this metadata. The answer is read as metadata
    /// alone: the resource may be one that can't be read whole.
    ///
    /// # Errors
    /// The API server refused. A resource that is gone meanwhile does not count.
    pub async fn write_status(&self, meta: &ObjectMeta, status: &ImagePipelineStatus) -> Result<(), kube::Error> {
        let (name, namespace) =
            (meta.name.as_deref().unwrap_or_default(), meta.namespace.as_deref().unwrap_or_default());
        let api: Api<PartialObjectMeta<ImagePipeline>> = Api::namespaced(self.client.clone(), namespace);
        let patch = json!({
            "apiVersion": ImagePipeline::api_version(&()),
            "kind": ImagePipeline::kind(&()),
            "status": status,
        });
        let parameters = PatchParams::apply(names::FIELD_MANAGER).force();
        let patch = Patch::Apply(patch);
        match self.send(api.patch_status(name, &parameters, &patch)).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            result => result.map(drop),
        }
    }

    /// Publishes what has changed as events.
    ///
    /// # Errors
    /// The API server refused.
    pub async fn publish(
        &self,
        pipeline: &ImagePipeline,
        transitions: &[Transition],
        now: Timestamp,
    ) -> Result<(), kube::Error> {
        for transition in transitions {
            self.send(self.events.publish(pipeline, transition, now)).await?;
        }
        Ok(())
    }

    /// Sends a write, which begins with its first poll, unless another operator may lead by now.
    async fn send<T>(&self, write: impl Future<Output = Result<T, kube::Error>>) -> Result<T, kube::Error> {
        if !self.term.is_valid() {
            return Err(kube::Error::Service("another operator may lead by now".into()));
        }
        answered(write).await
    }

    /// Forgets pipelines other than those that `lives` names.
    pub fn retain(&self, lives: impl Fn(&ObjectRef<ImagePipeline>) -> bool) {
        locked(&self.asked).retain(|pipeline, _| lives(pipeline));
        locked(&self.ranked).retain(|pipeline, _| lives(pipeline));
        self.events.retain(lives);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn annotate(api: &Api<Pod>, pod: &str, annotations: BTreeMap<&'static str, String>) -> Result<(), kube::Error> {
    let patch = json!({ "metadata": { "annotations": annotations } });
    match api.patch(pod, &PatchParams::default(), &Patch::Merge(patch)).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        result => result.map(drop),
    }
}

/// Whether pods must be ranked: where none is to stay, no order is needed.
fn shrinks(observed: &Observed, size: i32) -> bool {
    size > 0 && observed.size().is_some_and(|current| size < current)
}

/// Whether pods that were ranked for a size need not be ranked again.
fn holds((ranked_for, when): (i32, Timestamp), size: i32, now: Timestamp) -> bool {
    ranked_for == size && now.duration_since(when) < RANKED_FOR
}

/// The annotations that a pod lacks. One that says nothing of what it holds keeps its rank.
fn annotations(pod: &ObservedPod, observed: &Observed, ranks: bool) -> BTreeMap<&'static str, String> {
    let mut lacking = BTreeMap::new();
    if pod.secrets.as_ref() != Some(&observed.secrets) {
        lacking.insert(names::SECRETS_ANNOTATION, observed.secrets.clone());
    }
    if let Some(report) = pod.report.as_ref().filter(|_| ranks) {
        let cost = i32::try_from(report.in_flight).unwrap_or(i32::MAX).to_string();
        // Without the annotation it is 0.
        if pod.deletion_cost.as_deref().unwrap_or("0") != cost {
            lacking.insert(names::DELETION_COST_ANNOTATION, cost);
        }
    }
    lacking
}

/// Whether the same write may succeed a moment later: no rule has refused it.
pub fn may_pass(error: &kube::Error) -> bool {
    let by_rule = |code| (400..500).contains(&code) && ![409, 429].contains(&code);
    !matches!(error, kube::Error::Api(status) if by_rule(status.code))
}

fn owned_by(deployment: &Deployment, pipeline: &ImagePipeline) -> bool {
    let uid = pipeline.metadata.uid.as_deref().unwrap_or_default();
    deployment.owner_references().iter().any(|owner| owner.controller == Some(true) && owner.uid == uid)
}

/// Whether others have set what was to be applied (Kubernetes, "Server-Side Apply", "Conflicts").
fn is_of_others(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    let causes = status.details.iter().flat_map(|details| &details.causes);
    status.code == 409 && causes.into_iter().any(|cause| cause.reason == "FieldManagerConflict")
}

fn api_message(error: kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message,
        other => other.to_string(),
    }
}

/// Whether the live one has everything asked for.
fn is_as_asked(desired: &Deployment, live: &Deployment) -> bool {
    let asked = serde_json::to_value(desired);
    asked.is_ok_and(|asked| serde_json::to_value(live).is_ok_and(|live| contains(&live, &asked)))
}

/// Whether `live` has everything that `asked` has: what others added does not count.
fn contains(live: &Value, asked: &Value) -> bool {
    match (live, asked) {
        (Value::Object(live), Value::Object(asked)) => {
            asked.iter().all(|(key, asked)| live.get(key).is_some_and(|live| contains(live, asked)))
        }
        (Value::Array(live), Value::Array(asked)) => {
            live.len() == asked.len() && live.iter().zip(asked).all(|(live, asked)| contains(live, asked))
        }
        (live, asked) => live == asked,
    }
}

#[cfg(test)]
mod tests;
