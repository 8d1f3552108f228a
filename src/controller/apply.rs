//! All writes to pipelines and their objects: the Deployment, the pods' annotations, the status, events. A write is
//! sent only if something differs. A Deployment that does not belong to the pipeline is never written.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams};
use kube::core::PartialObjectMeta;
use kube::runtime::events::Reporter;
use kube::{Api, Client, Resource as _};
use serde_json::json;

use super::build::Desired;
use super::cause::Cause;
use super::leader::Term;
use super::live::LiveDeployment;
use super::observation::Observation;
use super::requests::{turn, with_timeout};
use super::transitions::Transition;
use crate::api::{ImagePipeline, ImagePipelineStatus, names};

mod deployment;
mod events;
mod pods;

use deployment::LastApply;
use events::Events;
pub use events::PublishedEvents;

/// What the operator remembers of the writes of one pipeline.
#[derive(Default)]
pub struct Applies {
    /// The API server may store a value in another form than it was sent. The comparison with the last apply keeps such
    /// a difference from being applied in every reconcile.
    deployment: Option<LastApply>,
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
    /// Why the Deployment could not be written. `None`: it is written, or was already as applied. After a failed
    /// annotation its size may be larger than desired.
    pub cause: Option<Cause>,
    pub annotation: Result<(), kube::Error>,
}

impl Applies {
    /// The size written last, while `live` is older than that write because the watch lags.
    pub fn unseen_size(&mut self, live: Option<&LiveDeployment>) -> Option<i32> {
        let last = self.deployment.as_mut()?;
        let brought = live.is_some_and(|live| live.meta().uid != last.uid || live.meta().generation >= last.generation);
        last.unseen = last.unseen.filter(|_| !brought);
        last.unseen
    }

    fn is_as_before(&self, desired: &Desired, live: &LiveDeployment) -> bool {
        self.deployment.as_ref().is_some_and(|before| {
            // At or below: the watch may lag.
            before.desired == *desired && before.uid == live.meta().uid && live.meta().generation <= before.generation
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
        mut desired: Desired,
        observed: &Observation,
        memory: &mut Applies,
    ) -> Applied {
        let wanted = desired.replicas;
        let annotation = self.annotate_pods(pipeline, observed, wanted, memory).await;
        if let Err(error) = &annotation
            && wanted > 0
            && pods::may_pass(error)
        {
            desired.replicas = wanted.max(observed.size().unwrap_or(0));
        }
        let cause = self.write_deployment(pipeline, &desired, observed.deployment.as_deref(), memory).await.err();
        Applied { cause, annotation }
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
        published: &mut PublishedEvents,
        now: Timestamp,
    ) -> Result<(), kube::Error> {
        for transition in transitions {
            self.send(self.events.publish(pipeline, transition, published, now)).await?;
        }
        Ok(())
    }

    /// Sends a write, unless the term has ended. A future does nothing before its first poll, so a write that is
    /// refused here is never sent.
    async fn send<T>(&self, write: impl Future<Output = Result<T, kube::Error>>) -> Result<T, kube::Error> {
        let _turn = turn().await;
        if !self.term.is_valid() {
            return Err(kube::Error::Service("another operator may be the leader by now".into()));
        }
        with_timeout(write).await
    }
}

#[cfg(test)]
mod tests;
