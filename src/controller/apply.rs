//! All writes to pipelines and their objects: the Deployment, the pods' annotations, the status, events. A write is
//! sent only if something differs. A Deployment that does not belong to the pipeline is never written.

use std::collections::BTreeMap;

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

use super::leader::Term;
use super::observation::{Cause, Observation, ObservedPod};
use super::timeout::with_timeout;
use super::transitions::Transition;
use crate::api::{ImagePipeline, ImagePipelineStatus, names};
use crate::reason::Reason;

mod events;

use events::Events;

const PATCHES_AT_ONCE: usize = 16;

/// How long the ranking of pods stays valid while a smaller size is not reached.
const RANKED_FOR: SignedDuration = SignedDuration::from_secs(30);

/// The last apply of a Deployment: a digest of what was sent, and the result.
struct Asked {
    digest: blake3::Hash,
    uid: Option<String>,
    generation: Option<i64>,
    /// The size, until the watch has delivered it.
    unseen: Option<i32>,
}

/// What the operator remembers of the writes of one pipeline.
#[derive(Default)]
pub struct Applies {
    /// The API server may store a value in another form than it was sent. The comparison with the last apply keeps such
    /// a difference from being applied in every reconcile.
    deployment: Option<Asked>,
    /// The size for which the pods were ranked last, and when.
    ranked: Option<(i32, Timestamp)>,
}

pub struct Writer {
    client: Client,
    events: Events,
    term: Term,
}

#[derive(Debug)]
pub struct Applied {
    /// Why the Deployment could not be written; `None`: it is as desired.
    pub cause: Option<Cause>,
    pub annotated: Result<(), kube::Error>,
}

impl Applies {
    /// The size written last, while `live` is older than that write because the watch lags.
    pub fn unseen_size(&mut self, live: Option<&Deployment>) -> Option<i32> {
        let last = self.deployment.as_mut()?;
        let brought =
            live.is_some_and(|live| live.metadata.uid != last.uid || live.metadata.generation >= last.generation);
        last.unseen = last.unseen.filter(|_| !brought);
        last.unseen
    }

    fn is_as_before(&self, digest: blake3::Hash, live: &Deployment) -> bool {
        self.deployment.as_ref().is_some_and(|before| {
            // At or below: the watch may lag.
            before.digest == digest && live.metadata.generation <= before.generation
        })
    }
}

impl Writer {
    /// `reporter` is the source of the events. Writes outside `term` are refused.
    pub fn new(client: Client, reporter: Reporter, term: Term) -> Self {
        let events = Events::new(client.clone(), reporter);
        Self { client, events, term }
    }

    /// Annotates the pods, and then applies the Deployment: Kubernetes chooses the pods to delete as soon as the size
    /// falls. While annotating fails by an error that may pass, the size does not fall.
    pub async fn apply(
        &self,
        pipeline: &ImagePipeline,
        mut desired: Deployment,
        observed: &Observation,
        memory: &mut Applies,
    ) -> Applied {
        let mut size = desired.spec.as_mut().and_then(|spec| spec.replicas.as_mut());
        let wanted = size.as_deref().copied().unwrap_or(0);
        let annotated = self.annotate_pods(pipeline, observed, wanted, memory).await;
        if let (Some(size), Err(error)) = (&mut size, &annotated)
            && wanted > 0
            && may_pass(error)
        {
            **size = wanted.max(observed.size().unwrap_or(0));
        }
        let cause = self.write_deployment(pipeline, &desired, observed.deployment.as_deref(), memory).await.err();
        Applied { cause, annotated }
    }

    /// Applies the Deployment unless the live Deployment already has all desired fields.
    async fn write_deployment(
        &self,
        pipeline: &ImagePipeline,
        desired: &Deployment,
        live: Option<&Deployment>,
        memory: &mut Applies,
    ) -> Result<(), Cause> {
        let name = desired.name_any();
        let taken = || {
            let message = format!(
                "Deployment {name:?} exists and does not belong to this ImagePipeline; rename the ImagePipeline, or \
                 delete the Deployment"
            );
            Cause::new(Reason::NameTaken, message)
        };
        if live.is_some_and(|live| !owned_by(live, pipeline)) {
            return Err(taken());
        }
        let refused = |error: String| {
            Cause::new(Reason::DeploymentRefused, format!("Deployment {name:?} can't be written: {error}"))
        };
        let asked = serde_json::to_vec(desired).map_err(|error| refused(error.to_string()))?;
        let digest = blake3::hash(&asked);
        if live.is_some_and(|live| memory.is_as_before(digest, live) || is_as_asked(desired, live)) {
            return Ok(());
        }
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), &pipeline.namespace().unwrap_or_default());
        let patch = Patch::Apply(desired);
        let apply = async |force| {
            let parameters = PatchParams { force, ..PatchParams::apply(names::FIELD_MANAGER) };
            self.send(api.patch(&name, &parameters, &patch)).await
        };
        // A Deployment without our labels is not watched, so `live` is `None`: the first apply is not forced, and a
        // conflict shows that the Deployment exists.
        let written = match apply(live.is_some()).await {
            Err(error) if is_of_others(&error) => {
                let named = ListParams::default().fields(&format!("metadata.name={name}"));
                let found = with_timeout(api.list(&named)).await.map_err(|error| refused(api_message(error)))?;
                if !found.iter().any(|found| found.name_any() == name && owned_by(found, pipeline)) {
                    return Err(taken());
                }
                apply(true).await
            }
            written => written,
        };
        let written = written.map_err(|error| refused(api_message(error)))?;
        memory.deployment = Some(Asked {
            digest,
            uid: written.metadata.uid,
            generation: written.metadata.generation,
            unseen: desired.spec.as_ref().and_then(|spec| spec.replicas),
        });
        Ok(())
    }

    /// Annotates pods. The current versions of their Secrets make the kubelet refresh the mounted files immediately
    /// instead of after a minute or two. Before a scale-down to `size`, the deletion cost is set to the number of
    /// messages that a pod holds, so that Kubernetes deletes idle pods first.
    ///
    /// # Errors
    /// The first error, after all pods were tried. A pod that is gone meanwhile is no error.
    async fn annotate_pods(
        &self,
        pipeline: &ImagePipeline,
        observed: &Observation,
        size: i32,
        memory: &mut Applies,
    ) -> Result<(), kube::Error> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &pipeline.namespace().unwrap_or_default());
        let ranks = shrinks(observed, size);
        let is_ranked = memory.ranked.is_some_and(|last| holds(last, size, observed.at));
        let lacking = observed.pods.iter().filter(|pod| !pod.ending).filter_map(|pod| {
            let annotations = annotations(pod, observed, ranks && !is_ranked);
            (!annotations.is_empty()).then(|| self.send(annotate(&api, &pod.name, annotations)))
        });
        let lacking: Vec<_> = lacking.collect();
        let done: Vec<_> = stream::iter(lacking).buffer_unordered(PATCHES_AT_ONCE).collect().await;
        let done: Result<(), kube::Error> = done.into_iter().collect();
        if !ranks || done.is_err() {
            memory.ranked = None;
        } else if !is_ranked {
            memory.ranked = Some((size, observed.at));
        }
        done
    }

    /// Writes the status of the resource with this metadata. The response is parsed as metadata only, because the spec
    /// may be invalid. A resource that is gone meanwhile is no error.
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

    /// Sends a write, unless the term has ended. A future does nothing before its first poll, so a write that is
    /// refused here is never sent.
    async fn send<T>(&self, write: impl Future<Output = Result<T, kube::Error>>) -> Result<T, kube::Error> {
        if !self.term.is_valid() {
            return Err(kube::Error::Service("another operator may be the leader by now".into()));
        }
        with_timeout(write).await
    }

    /// Drops the state of all pipelines for which `lives` is false.
    pub fn retain(&self, lives: impl Fn(&ObjectRef<ImagePipeline>) -> bool) {
        self.events.retain(lives);
    }
}

async fn annotate(api: &Api<Pod>, pod: &str, annotations: BTreeMap<&'static str, String>) -> Result<(), kube::Error> {
    let patch = json!({ "metadata": { "annotations": annotations } });
    match api.patch(pod, &PatchParams::default(), &Patch::Merge(patch)).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        result => result.map(drop),
    }
}

/// Whether pods must be ranked. A scale-down to 0 needs no order.
fn shrinks(observed: &Observation, size: i32) -> bool {
    size > 0 && observed.size().is_some_and(|current| size < current)
}

/// Whether the last ranking is still valid.
fn holds((ranked_for, when): (i32, Timestamp), size: i32, now: Timestamp) -> bool {
    ranked_for == size && now.duration_since(when) < RANKED_FOR
}

/// The annotations that a pod lacks. A pod without a report keeps its deletion cost.
fn annotations(pod: &ObservedPod, observed: &Observation, ranks: bool) -> BTreeMap<&'static str, String> {
    let mut lacking = BTreeMap::new();
    if pod.secrets.as_ref() != Some(&observed.secrets) {
        lacking.insert(names::SECRETS_ANNOTATION, observed.secrets.clone());
    }
    if let Some(report) = pod.report.as_ref().filter(|_| ranks) {
        let cost = i32::try_from(report.in_flight).unwrap_or(i32::MAX).to_string();
        // Without the annotation the cost is 0.
        if pod.deletion_cost.as_deref().unwrap_or("0") != cost {
            lacking.insert(names::DELETION_COST_ANNOTATION, cost);
        }
    }
    lacking
}

/// Whether the same write may succeed later: any error but a refusal by a rule (status 4xx without 409 and 429).
fn may_pass(error: &kube::Error) -> bool {
    let by_rule = |code| (400..500).contains(&code) && ![409, 429].contains(&code);
    !matches!(error, kube::Error::Api(status) if by_rule(status.code))
}

fn owned_by(deployment: &Deployment, pipeline: &ImagePipeline) -> bool {
    let uid = pipeline.metadata.uid.as_deref().unwrap_or_default();
    deployment.owner_references().iter().any(|owner| owner.controller == Some(true) && owner.uid == uid)
}

/// Whether another field manager owns a field of the apply (Kubernetes, "Server-Side Apply", "Conflicts").
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

fn is_as_asked(desired: &Deployment, live: &Deployment) -> bool {
    let asked = serde_json::to_value(desired);
    asked.is_ok_and(|asked| serde_json::to_value(live).is_ok_and(|live| contains(&live, &asked)))
}

/// Whether `live` has every field of `asked`; further fields do not count.
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
