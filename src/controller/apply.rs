//! Writes to Kubernetes: the Deployment, the pods' annotations, the status, events. Every write is
//! here, by one field manager, and only when something differs. It must never touch a Deployment
//! that another owns, nor write once another operator may lead.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams};
use kube::core::PartialObjectMeta;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client, Resource as _, ResourceExt as _};
use serde_json::{Value, json};

use super::leader::Term;
use super::observed::{Observed, ObservedPod, Trouble};
use super::status::Transition;
use crate::api::{ImagePipeline, ImagePipelineStatus, names};
use crate::reason::Reason;

/// What was asked for at the last apply of a Deployment, and the generation it led to.
struct Asked {
    deployment: Value,
    generation: Option<i64>,
}

type AskedByPipeline = HashMap<ObjectRef<ImagePipeline>, Asked>;

/// The writer.
pub struct Writer {
    client: Client,
    reporter: Reporter,
    term: Term,
    /// The API server may store a value in another form than it was sent; comparing with the last
    /// apply as well keeps such a difference from being applied for ever.
    asked: Mutex<AskedByPipeline>,
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
        Self { client, reporter, term, asked: Mutex::default() }
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
        if live.is_some_and(|live| !owned_by(live, pipeline)) {
            let message = format!(
                "Deployment {name:?} exists and belongs to another; rename this ImagePipeline, or delete that Deployment"
            );
            return Err(Trouble::new(Reason::NameTaken, message));
        }
        let refused = |error: String| {
            Trouble::new(Reason::DeploymentRefused, format!("Deployment {name:?} can't be written: {error}"))
        };
        let asked = serde_json::to_value(desired).map_err(|error| refused(error.to_string()))?;
        if live.is_some_and(|live| self.is_as_asked(pipeline, &asked, live)) {
            return Ok(());
        }
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), &pipeline.namespace().unwrap_or_default());
        let parameters = PatchParams::apply(names::FIELD_MANAGER).force();
        let patch = Patch::Apply(desired);
        let written =
            self.send(api.patch(&name, &parameters, &patch)).await.map_err(|error| refused(api_message(error)))?;
        self.locked().insert(
            ObjectRef::from_obj(pipeline),
            Asked { deployment: asked, generation: written.metadata.generation },
        );
        Ok(())
    }

    fn is_as_asked(&self, pipeline: &ImagePipeline, asked: &Value, live: &Deployment) -> bool {
        let as_before = self.locked().get(&ObjectRef::from_obj(pipeline)).is_some_and(|before| {
            // At or below: the watch may be behind what was written.
            before.deployment == *asked && live.metadata.generation <= before.generation
        });
        as_before || serde_json::to_value(live).is_ok_and(|live| contains(&live, asked))
    }

    /// Tells pods what Kubernetes is to know of them: which versions of their Secrets exist now, which
    /// makes the kubelet refresh the mounted files at once instead of within a minute or two; and
    /// before a shrink to `size`, what each holds, so that the idle go first.
    ///
    /// # Errors
    /// The API server refused; pods that are gone meanwhile do not count.
    pub async fn annotate_pods(
        &self,
        pipeline: &ImagePipeline,
        observed: &Observed,
        size: i32,
    ) -> Result<(), kube::Error> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &pipeline.namespace().unwrap_or_default());
        for pod in observed.pods.iter().filter(|pod| !pod.ending) {
            let annotations = annotations(pod, observed, size);
            if annotations.is_empty() {
                continue;
            }
            let patch = json!({ "metadata": { "annotations": annotations } });
            match self.send(api.patch(&pod.name, &PatchParams::default(), &Patch::Merge(patch))).await {
                Err(kube::Error::Api(status)) if status.is_not_found() => {}
                result => drop(result?),
            }
        }
        Ok(())
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
        match self.send(api.patch_status(name, &parameters, &Patch::Apply(patch))).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            result => result.map(drop),
        }
    }

    /// Publishes what has changed as events.
    ///
    /// # Errors
    /// The API server refused.
    pub async fn publish(&self, pipeline: &ImagePipeline, transitions: &[Transition]) -> Result<(), kube::Error> {
        for Transition { warning, reason, note } in transitions {
            let event = Event {
                type_: if *warning { EventType::Warning } else { EventType::Normal },
                reason: reason.to_string(),
                note: Some(note.chars().take(1000).collect()),
                action: "Reconcile".to_owned(),
                secondary: None,
            };
            // A recorder shows later events of the same reason under the text of its first.
            let recorder = Recorder::new(self.client.clone(), self.reporter.clone());
            self.send(recorder.publish(&event, &pipeline.object_ref(&()))).await?;
        }
        Ok(())
    }

    /// Sends a write, which begins with its first poll, unless another operator may lead by now.
    async fn send<T>(&self, write: impl Future<Output = Result<T, kube::Error>>) -> Result<T, kube::Error> {
        if !self.term.is_valid() {
            return Err(kube::Error::Service("another operator may lead by now".into()));
        }
        write.await
    }

    /// Forgets pipelines other than those that `lives` names.
    pub fn retain(&self, lives: impl Fn(&ObjectRef<ImagePipeline>) -> bool) {
        self.locked().retain(|pipeline, _| lives(pipeline));
    }

    fn locked(&self) -> MutexGuard<'_, AskedByPipeline> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The annotations that a pod lacks. One that says nothing of what it holds keeps its rank.
fn annotations(pod: &ObservedPod, observed: &Observed, size: i32) -> BTreeMap<&'static str, String> {
    let mut lacking = BTreeMap::new();
    if pod.secrets.as_ref() != Some(&observed.secrets) {
        lacking.insert(names::SECRETS_ANNOTATION, observed.secrets.clone());
    }
    // Where none is to stay, no order is needed.
    let shrinks = size > 0 && observed.size().is_some_and(|current| size < current);
    if let Some(report) = pod.report.as_ref().filter(|_| shrinks) {
        let cost = i32::try_from(report.in_flight).unwrap_or(i32::MAX).to_string();
        // Without the annotation it is 0.
        if pod.deletion_cost.as_deref().unwrap_or("0") != cost {
            lacking.insert(names::DELETION_COST_ANNOTATION, cost);
        }
    }
    lacking
}

fn owned_by(deployment: &Deployment, pipeline: &ImagePipeline) -> bool {
    let uid = pipeline.metadata.uid.as_deref().unwrap_or_default();
    deployment.owner_references().iter().any(|owner| owner.controller == Some(true) && owner.uid == uid)
}

fn api_message(error: kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message,
        other => other.to_string(),
    }
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
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::pod_status::{PodStatus, healthy};
    use crate::queue::QueueDepth;

    fn pod(in_flight: Option<u64>, cost: Option<&str>) -> ObservedPod {
        let report = in_flight.map(|in_flight| PodStatus { in_flight, ..healthy() });
        let (secrets, deletion_cost) = (Some("7.9".to_owned()), cost.map(str::to_owned));
        ObservedPod { report, secrets, deletion_cost, ..ObservedPod::default() }
    }

    /// Of five pods.
    fn observed() -> Observed {
        let deployment = serde_json::from_value(json!({ "spec": { "replicas": 5, "selector": {}, "template": {} } }));
        Observed {
            deployment: Some(Arc::new(deployment.unwrap())),
            depth: Ok(QueueDepth { ready: 0, consumers: 5 }),
            credentials: None,
            secrets: "7.9".to_owned(),
            pods: vec![],
        }
    }

    #[test]
    fn before_a_shrink_pods_are_ranked_by_what_they_hold_and_only_where_it_changes_anything() {
        let cost = names::DELETION_COST_ANNOTATION;
        let cases = [
            ("holds", pod(Some(7), None), 3, json!({ cost: "7" })),
            ("holds as before", pod(Some(7), Some("7")), 3, json!({})),
            ("holds less", pod(Some(2), Some("7")), 3, json!({ cost: "2" })),
            ("idle", pod(Some(0), None), 3, json!({})),
            ("idle again", pod(Some(0), Some("7")), 3, json!({ cost: "0" })),
            ("says nothing", pod(None, Some("7")), 3, json!({})),
            ("the size stays", pod(Some(7), None), 5, json!({})),
            ("the size grows", pod(Some(7), Some("2")), 9, json!({})),
            ("all go", pod(Some(7), None), 0, json!({})),
        ];
        for (name, pod, size, expected) in cases {
            assert_eq!(json!(annotations(&pod, &observed(), size)), expected, "{name}");
        }
    }

    /// Whether each kind of write reaches the API server.
    async fn sends(term: Term) -> Vec<(&'static str, bool)> {
        let sent = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counter = sent.clone();
        let answer = tower::service_fn(move |_: axum::http::Request<kube::client::Body>| {
            counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            std::future::ready(Ok::<_, std::convert::Infallible>(
                axum::http::Response::new(kube::client::Body::empty()),
            ))
        });
        let reporter = Reporter { controller: "c".to_owned(), instance: None };
        let writer = Writer::new(Client::new(answer, "default"), reporter, term);
        let pipeline = ImagePipeline::new(
            "tiles",
            serde_json::from_value(json!({
                "source": { "rabbitmq": { "queue": "tiles", "rabbitmqClusterReference": { "name": "rabbit" } } },
                "destination": { "s3": { "bucket": "tiles" } },
            }))
            .unwrap(),
        );
        let pod = ObservedPod { name: "tiles-1".to_owned(), ..pod(Some(7), None) };
        let observed = Observed { pods: vec![pod], ..observed() };
        let deployment: Deployment =
            serde_json::from_value(json!({ "metadata": { "name": "tiles-consumer" } })).unwrap();
        let transition = Transition { warning: false, reason: Reason::ScaledUp, note: "0 → 1".to_owned() };
        let mut reached = vec![];
        let mut count = |kind| reached.push((kind, sent.swap(0, std::sync::atomic::Ordering::Relaxed) > 0));
        drop(writer.apply(&pipeline, &deployment, None).await);
        count("Deployment");
        drop(writer.annotate_pods(&pipeline, &observed, 3).await);
        count("pod");
        drop(writer.write_status(&pipeline.metadata, &ImagePipelineStatus::default()).await);
        count("status");
        drop(writer.publish(&pipeline, &[transition]).await);
        count("event");
        reached
    }

    #[tokio::test]
    async fn nothing_is_sent_past_the_term() {
        let kinds = ["Deployment", "pod", "status", "event"];
        assert_eq!(sends(Term::unlimited()).await, kinds.map(|kind| (kind, true)));
        assert_eq!(sends(Term::ending(tokio::time::Instant::now())).await, kinds.map(|kind| (kind, false)));
    }

    #[test]
    fn a_pod_is_told_of_its_secrets_once() {
        let newer = Observed { secrets: "8.9".to_owned(), ..observed() };
        assert_eq!(json!(annotations(&pod(None, None), &newer, 5)), json!({ names::SECRETS_ANNOTATION: "8.9" }));
        assert!(annotations(&pod(None, None), &observed(), 5).is_empty());
    }

    #[test]
    fn what_others_add_is_no_difference_and_what_they_change_is() {
        let asked = json!({ "a": 1, "list": [{ "name": "x" }] });
        assert!(contains(&json!({ "a": 1, "list": [{ "name": "x", "defaulted": true }], "theirs": 2 }), &asked));
        assert!(!contains(&json!({ "a": 2, "list": [{ "name": "x" }] }), &asked));
        assert!(!contains(&json!({ "a": 1, "list": [{ "name": "x" }, { "name": "y" }] }), &asked));
        assert!(!contains(&json!({ "list": [{ "name": "x" }] }), &asked));
    }
}
