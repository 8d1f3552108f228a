//! Annotates consumer pods: with the versions of their Secrets, and with their rank before a scale-down.

use std::collections::BTreeMap;

use futures::{StreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use super::{Applies, Writer};
use crate::api::{ImagePipeline, names};
use crate::controller::observation::{Observation, ObservedPod};

const PATCHES_AT_ONCE: usize = 16;

/// How long the ranking of pods stays valid while a smaller size is not reached.
const RANKED_FOR: SignedDuration = SignedDuration::from_secs(30);

impl Writer {
    /// Annotates pods. The current versions of their Secrets make the kubelet refresh the mounted files immediately
    /// instead of after a minute or two. Before a scale-down to `size`, the deletion cost is set to the number of
    /// messages that a pod holds, so that Kubernetes deletes idle pods first.
    ///
    /// # Errors
    /// The first error, after all pods were tried. A pod that is gone meanwhile is no error.
    pub(super) async fn annotate_pods(
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
}

async fn annotate(api: &Api<Pod>, pod: &str, annotations: BTreeMap<&'static str, String>) -> Result<(), kube::Error> {
    let patch = json!({ "metadata": { "annotations": annotations } });
    match api.patch(pod, &PatchParams::default(), &Patch::Merge(patch)).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        result => result.map(drop),
    }
}

/// Whether pods must be ranked. A scale-down to 0 needs no order.
pub(super) fn shrinks(observed: &Observation, size: i32) -> bool {
    size > 0 && observed.size().is_some_and(|current| size < current)
}

/// Whether the last ranking is still valid.
pub(super) fn holds((ranked_for, when): (i32, Timestamp), size: i32, now: Timestamp) -> bool {
    ranked_for == size && now.duration_since(when) < RANKED_FOR
}

/// The annotations that a pod lacks. A pod without a report keeps its deletion cost.
pub(super) fn annotations(pod: &ObservedPod, observed: &Observation, ranks: bool) -> BTreeMap<&'static str, String> {
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
pub(super) fn may_pass(error: &kube::Error) -> bool {
    let by_rule = |code| (400..500).contains(&code) && ![409, 429].contains(&code);
    !matches!(error, kube::Error::Api(status) if by_rule(status.code))
}
