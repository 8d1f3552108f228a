//! What one look at a pipeline found, as values, and what follows from it alone: which pods speak
//! for the present spec, and why more of them could not help. It must never read anything, nor
//! decide a size.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;

use crate::pod_status::{Health, PodStatus};
use crate::queue::QueueDepth;
use crate::reason::Reason;

/// What one look at a pipeline found.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The Deployment of the pipeline's name, whoever owns it.
    pub deployment: Option<Arc<Deployment>>,
    /// The digest of the present spec, which pods that are made by it carry.
    pub spec: String,
    /// The size that was written last, if the Deployment above is of before.
    pub written: Option<i32>,
    /// The queue's depth, or why it could not be read.
    pub depth: Result<QueueDepth, Trouble>,
    /// Messages in the parking queue, if that is known.
    pub parked: Option<u32>,
    /// How many others than our pods consume the queue, at the least and for a while.
    pub foreign: u32,
    /// What is wrong with the store's Secrets, if anything.
    pub credentials: Option<Trouble>,
    /// The versions of the Secrets referred to, as one text.
    pub secrets: String,
    /// The consumer pods, those that are ending included.
    pub pods: Vec<ObservedPod>,
}

/// One consumer pod.
#[derive(Clone, Debug, Default)]
pub struct ObservedPod {
    /// The pod's name.
    pub name: String,
    /// Whether Kubernetes counts it as ready.
    pub ready: bool,
    /// Whether Kubernetes says that its consumer runs, ready or not.
    pub running: bool,
    /// Whether it has been told to end.
    pub ending: bool,
    /// Why it does not run, if Kubernetes says so.
    pub trouble: Option<Trouble>,
    /// What it says of itself; `None` if it could not be asked.
    pub report: Option<PodStatus>,
    /// Which versions of its Secrets it has been told of.
    pub secrets: Option<String>,
    /// The digest of the spec that it was made by.
    pub spec: Option<String>,
    /// What Kubernetes has been told that its end would cost.
    pub deletion_cost: Option<String>,
}

/// Something wrong, named.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Trouble {
    /// The bounded reason.
    pub reason: Reason,
    /// One or two sentences for a person.
    pub message: String,
}

impl Trouble {
    /// A trouble.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

impl Observed {
    /// The Deployment's size, if there is one; the API server fills in 1 where none is given.
    pub fn size(&self) -> Option<i32> {
        let seen = || Some(self.deployment.as_ref()?.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1));
        self.written.or_else(seen)
    }

    /// What the pods say that count: those of the present spec, once one of them speaks. Those of an
    /// earlier one, which a rollout keeps until new ones are ready, may tell of a fault that is mended.
    pub fn speaking(&self) -> impl Iterator<Item = &PodStatus> {
        let pods = || self.pods.iter().filter(|pod| !pod.ending && pod.report.is_some());
        let any_present = pods().any(|pod| self.is_present(pod));
        pods().filter(move |pod| !any_present || self.is_present(pod)).filter_map(|pod| pod.report.as_ref())
    }

    /// Whether only pods of an earlier spec speak: what they met may be mended in the present one.
    pub fn speaks_of_before(&self) -> bool {
        let mut pods = self.pods.iter().filter(|pod| !pod.ending && pod.report.is_some()).peekable();
        pods.peek().is_some() && !pods.any(|pod| self.is_present(pod))
    }

    /// Why the Deployment's ReplicaSet can't create pods: quota, Pod Security, admission.
    pub fn replica_failure(&self) -> Option<Trouble> {
        let conditions = self.deployment.as_ref()?.status.as_ref()?.conditions.as_ref()?;
        let failure =
            conditions.iter().find(|condition| condition.type_ == "ReplicaFailure" && condition.status == "True")?;
        let detail = failure.message.as_deref().unwrap_or("no detail given");
        Some(Trouble::new(Reason::PodsRefused, format!("Kubernetes refuses consumer pods: {detail}")))
    }

    /// Why more pods could not help, if so: what all of them need is down, or they can't start.
    pub fn no_use_growing(&self) -> Option<Trouble> {
        self.away().or_else(|| self.replica_failure()).or_else(|| self.not_starting())
    }

    /// What all pods need and is down, if anything.
    pub fn away(&self) -> Option<Trouble> {
        self.credentials
            .clone()
            .or_else(|| self.down(|report| &report.storage, |report| report.in_flight > 0))
            .or_else(|| self.down(|report| &report.broker, |report| report.consuming))
    }

    /// Why a pod of the present spec does not start. One that can't run where another does is that
    /// one's own trouble, or its node's; one that no node has room for tells of any other.
    fn not_starting(&self) -> Option<Trouble> {
        let present = || self.pods.iter().filter(|pod| !pod.ending && self.is_present(pod));
        let runs = present().any(|pod| pod.ready);
        let counts = |trouble: &&Trouble| !runs || trouble.reason == Reason::Unschedulable;
        present().filter_map(|pod| pod.trouble.as_ref()).find(counts).cloned()
    }

    /// The fault of something that a pod says fails, unless another that is `trying` it has it
    /// working: that is one pod's own trouble. What idle pods say may be from before.
    fn down(&self, of: impl Fn(&PodStatus) -> &Health, trying: impl Fn(&PodStatus) -> bool) -> Option<Trouble> {
        let works = |report: &PodStatus| trying(report) && matches!(of(report), Health::Available { .. });
        let fault = self.speaking().find_map(|report| of(report).fault())?;
        let up = self.speaking().any(works);
        (!up).then(|| Trouble::new(fault.reason, &fault.message))
    }

    fn is_present(&self, pod: &ObservedPod) -> bool {
        pod.spec.as_ref() == Some(&self.spec)
    }
}

#[cfg(test)]
mod tests;
