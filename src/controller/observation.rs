//! The observation of one reconcile, and what follows from it alone: which pods' reports count for the current spec,
//! and why more pods would not help. Pure: no I/O.

use std::sync::Arc;

use jiff::Timestamp;

use super::cause::Cause;
use super::live::LiveDeployment;
use super::rollouts::Hold;
use crate::pod_status::{Health, PodStatus};
use crate::rabbitmq::QueueDepth;
use crate::reason::Reason;

/// What one reconcile observed of a pipeline.
#[derive(Clone, Debug)]
pub struct Observation {
    /// When the queue depth and the pods had been read: the time of everything that follows in this reconcile.
    pub at: Timestamp,
    /// The Deployment with the pipeline's Deployment name, whatever its owner.
    pub deployment: Option<Arc<LiveDeployment>>,
    /// The digest of the current pod template, which its pods carry as an annotation.
    pub spec: String,
    /// Why the pods do not get the version of this operator.
    pub hold: Option<Hold>,
    /// The size written last, while `deployment` is still older than that write.
    pub written: Option<i32>,
    pub depth: Result<QueueDepth, Cause>,
    /// Messages in the parking queue; `None`: unknown, or the policy parks none.
    pub parked: Option<u32>,
    /// Consumers on the queue that are not this pipeline's pods: the lowest number for some time.
    pub foreign: u32,
    /// The fault of the Secrets for S3, if any.
    pub credentials: Option<Cause>,
    /// The resource versions of all Secrets of the spec, joined by dots.
    pub secrets: String,
    /// The consumer pods, including terminating pods.
    pub pods: Vec<ObservedPod>,
}

#[derive(Clone, Debug, Default)]
pub struct ObservedPod {
    pub name: String,
    /// The pod's condition `Ready`.
    pub ready: bool,
    /// Whether the consumer container runs, ready or not.
    pub running: bool,
    /// Whether the pod is terminating.
    pub ending: bool,
    /// Why the pod does not run, as Kubernetes reports it.
    pub cause: Option<Cause>,
    /// The pod's `/status`; `None` if the pod does not run or did not answer.
    pub report: Option<PodStatus>,
    /// The annotation with the Secrets' versions.
    pub secrets: Option<String>,
    /// The annotation with the digest of its pod template.
    pub spec: Option<String>,
    /// The annotation `pod-deletion-cost`.
    pub deletion_cost: Option<String>,
}

impl Observation {
    /// Without the depth if a pod reports that the queue is a stream: the depth of a stream never falls, so it must not
    /// set the size. An operator whose user may not configure the queue can't see its type.
    pub fn without_depth_of_stream(mut self) -> Self {
        let fault = self.current_reports().filter_map(|report| report.broker.fault());
        let stream = fault.filter(|fault| fault.reason == Reason::StreamNotSupported).last();
        if let Some(cause) = stream.map(|fault| Cause::new(fault.reason, &fault.message)) {
            self.depth = Err(cause);
        }
        self
    }

    /// The Deployment's size; `None` without a Deployment.
    pub fn size(&self) -> Option<i32> {
        self.written.or_else(|| Some(self.deployment.as_ref()?.replicas))
    }

    /// The reports that count: those from pods of the current spec, once one of them has reported. A rollout keeps pods
    /// of the previous spec until new pods are ready; they may report a fault that the new spec has fixed.
    pub fn current_reports(&self) -> impl Iterator<Item = &PodStatus> {
        let pods = || self.pods.iter().filter(|pod| !pod.ending && pod.report.is_some());
        let any_current = pods().any(|pod| self.has_current_spec(pod));
        pods().filter(move |pod| !any_current || self.has_current_spec(pod)).filter_map(|pod| pod.report.as_ref())
    }

    /// Whether only pods of a previous spec have reported.
    pub fn only_previous_spec_reports(&self) -> bool {
        let mut pods = self.pods.iter().filter(|pod| !pod.ending && pod.report.is_some()).peekable();
        pods.peek().is_some() && !pods.any(|pod| self.has_current_spec(pod))
    }

    /// Why the Deployment's ReplicaSet can't create pods, such as quota, Pod Security or an admission webhook.
    pub fn replica_failure(&self) -> Option<Cause> {
        let detail = self.deployment.as_ref()?.status.as_ref()?.replica_failure.as_ref()?;
        Some(Cause::new(Reason::PodsRefused, format!("Kubernetes refuses to create consumer pods: {detail}")))
    }

    /// Why more pods would not help: a dependency of all pods is down, or new pods can't start.
    pub fn growth_blocker(&self) -> Option<Cause> {
        self.dependency_fault().or_else(|| self.replica_failure()).or_else(|| self.not_starting())
    }

    /// The fault of a dependency that all pods need.
    pub fn dependency_fault(&self) -> Option<Cause> {
        self.credentials
            .clone()
            .or_else(|| self.down(|report| &report.storage, |report| report.in_flight > 0))
            .or_else(|| self.down(|report| &report.broker, |report| report.consuming))
    }

    /// Why pods of the current spec do not start. If another pod is ready, the fault is limited to one pod or its node
    /// and does not count, except `Unschedulable`: no further pod would fit.
    fn not_starting(&self) -> Option<Cause> {
        let present = || self.pods.iter().filter(|pod| !pod.ending && self.has_current_spec(pod));
        let runs = present().any(|pod| pod.ready);
        let counts = |cause: &&Cause| !runs || cause.reason == Reason::Unschedulable;
        present().filter_map(|pod| pod.cause.as_ref()).find(counts).cloned()
    }

    /// The fault of a dependency that a pod reports, unless the same dependency works for another pod: then the fault
    /// is limited to one pod. Only pods that are `trying` the dependency prove that it works: the report of an idle pod
    /// may be old.
    fn down(&self, of: impl Fn(&PodStatus) -> &Health, trying: impl Fn(&PodStatus) -> bool) -> Option<Cause> {
        let works = |report: &PodStatus| trying(report) && matches!(of(report), Health::Available { .. });
        let fault = self.current_reports().find_map(|report| of(report).fault())?;
        let up = self.current_reports().any(works);
        (!up).then(|| Cause::new(fault.reason, &fault.message))
    }

    fn has_current_spec(&self, pod: &ObservedPod) -> bool {
        pod.spec.as_ref() == Some(&self.spec)
    }
}

#[cfg(test)]
mod tests;
