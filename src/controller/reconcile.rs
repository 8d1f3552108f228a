//! The reconcile of one pipeline: accept → observe → decide → build → apply → status → report.

use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::runtime::controller::Action;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::{Resource as _, ResourceExt as _};

use super::apply::Writer;
use super::build::{self, ConsumerImage, Desired, Template};
use super::decide::{self, Decision, Load, SizeSpec, decide};
use super::instruments::Instruments;
use super::live::LiveDeployment;
use super::memory::{Memories, PipelineMemory, key_of};
use super::metrics::PipelineLabels;
use super::observation::Observation;
use super::observe::Sources;
use super::rollouts::{self, Hold, Rollouts, Verdict};
use super::status::status;
use super::{Error, Guarded};
use crate::api::{ImagePipeline, ImagePipelineStatus, names};

/// What the reconciles of a scope share. A scope is one watched namespace, or the whole cluster.
pub struct Context {
    pub sources: Sources,
    pub writer: Writer,
    pub image: Arc<ConsumerImage>,
    pub instruments: Instruments,
    /// All ImagePipelines of the scope.
    pub pipelines: Store<Guarded>,
    pub memories: Memories,
    pub rollouts: Arc<Rollouts>,
    /// Whether the rollouts that run at the start have been counted.
    pub running_counted: Once,
}

/// `guarded` is an ImagePipeline, or its parse error and metadata.
///
/// # Errors
/// Annotating a pod, or writing the status or an event, failed. No condition can report that; kube calls
/// [`error_policy`].
pub async fn reconcile(guarded: Arc<Guarded>, context: Arc<Context>) -> Result<Action, Error> {
    let mut memory = context.memories.of(&guarded).await;
    let Some(pipeline) = context.accept(&guarded, &mut memory).await? else { return Ok(Action::await_change()) };
    let started = Instant::now();
    let template = context.template(pipeline, &mut memory);
    let observation = context.sources.observe(pipeline, &template, &mut memory).await;
    let decision = context.decide(pipeline, &observation, &mut memory.sizing);
    let desired = Desired::new(decision.replicas, template);
    let applied = context.writer.apply(pipeline, desired, &observation, &mut memory.applies).await;
    let none = ImagePipelineStatus::default();
    let previous = memory.status(pipeline).unwrap_or(&none);
    let status = status(previous, pipeline, &observation, &decision, &applied);
    context.report(pipeline, &observation, &decision, applied, status, &mut memory).await?;
    context.instruments.metrics.reconcile_seconds.observe(started.elapsed().as_secs_f64());
    Ok(Action::requeue(decision.check_again_in))
}

/// Logs an error of [`reconcile`], which no condition can report, and reconciles again after the pipeline's poll
/// interval. No other code logs such an error.
pub fn error_policy(guarded: Arc<Guarded>, error: &Error, _: Arc<Context>) -> Action {
    let again = match &guarded.0 {
        Ok(pipeline) => pipeline.spec.scaling.poll_interval.into(),
        Err(_) => Duration::from_secs(30),
    };
    let name = shown(&key_of(&guarded));
    tracing::warn!(pipeline = name, %error, "reconcile failed; trying again");
    Action::requeue(again.max(Duration::from_secs(2)))
}

impl Context {
    /// The pipeline to reconcile; `None`: nothing to do until the resource changes, because it can't be parsed or is
    /// being deleted. Resets the memory of a recreated resource, reports a parse error, and waits for the first lists.
    async fn accept<'a>(
        &self,
        guarded: &'a Guarded,
        memory: &mut PipelineMemory,
    ) -> Result<Option<&'a ImagePipeline>, Error> {
        let uid = &guarded.meta().uid;
        if memory.uid != *uid {
            *memory = PipelineMemory { uid: uid.clone(), ..PipelineMemory::default() };
            self.instruments.console.forget(&guarded.namespace().unwrap_or_default(), &guarded.name_any());
        }
        let pipeline = match &guarded.0 {
            Ok(pipeline) => pipeline,
            Err(invalid) => {
                self.report_invalid(guarded, &invalid.error, memory).await?;
                return Ok(None);
            }
        };
        memory.invalid = None;
        memory.see(pipeline);
        if pipeline.metadata.deletion_timestamp.is_some() {
            return Ok(None);
        }
        self.sources.lists.complete().await;
        Ok(Some(pipeline))
    }

    /// The template for the pods. After an upgrade of the operator it is the live one until it is the pipeline's turn.
    fn template(&self, pipeline: &ImagePipeline, memory: &mut PipelineMemory) -> Template {
        let (live, now) = (self.sources.deployment(pipeline), Timestamp::now());
        let (key, is_pinned) = (ObjectRef::from_obj(pipeline), names::is_pinned(pipeline));
        self.running_counted.call_once(|| self.rollouts.count_running(self.sources.rolling_out(), now));
        let pods = live.as_deref().filter(|_| is_pinned).and_then(LiveDeployment::pods);
        let pinned = pods.as_ref().and_then(build::image_of).filter(|pinned| pinned.image != self.image.image);
        let template = match pinned {
            Some(image) => Template::new(pipeline, image).pinned(),
            None => memory.template_of(pipeline, &self.image),
        };
        let Some(live) = live else { return template };
        let status = memory.status(pipeline);
        let is_failing = status.is_some_and(|status| rollouts::is_failing(&status.conditions));
        let observed = status.and_then(|status| status.observed_generation);
        let generation = pipeline.metadata.generation;
        let digest = template.digest().to_owned();
        let Some(earlier) = rollouts::outdated(&live, generation, observed, &digest, memory.template.as_ref()) else {
            // The watch may not have delivered the last write.
            if live.digest() == Some(digest.as_str()) {
                self.rollouts.note(&key, rollouts::is_replacing(&live), is_failing);
            }
            memory.template = Some(Verdict { digest, is_held: false });
            return template;
        };
        let has_pods = live.replicas != 0;
        let hold = match () {
            () if is_pinned => Some(Hold::Pinned),
            () if has_pods && !self.rollouts.begin(&key, is_failing || rollouts::is_replacing(&live), now) => {
                Some(Hold::Turn)
            }
            () => None,
        };
        memory.template = Some(Verdict { digest, is_held: hold.is_some() });
        match hold {
            Some(hold) => template.held(hold, earlier),
            None => template,
        }
    }

    /// Decides the size, and counts the decision in the metrics.
    fn decide(&self, pipeline: &ImagePipeline, observation: &Observation, memory: &mut decide::Memory) -> Decision {
        let (decision, next) = decide(&SizeSpec::from(&pipeline.spec), &Load::of(observation), memory, observation.at);
        *memory = next;
        let unknown = observation.depth.as_ref().err().map(|cause| cause.reason);
        let labels = labels_of(&ObjectRef::from_obj(pipeline));
        self.instruments.metrics.decided(&labels, &decision, unknown);
        self.instruments.metrics.parked(&labels, observation.parked);
        decision
    }

    /// Drops the state of deleted pipelines.
    pub fn forget_deleted(&self) {
        let lives = |key: &ObjectRef<ImagePipeline>| {
            let namespace = key.namespace.clone().unwrap_or_default();
            self.pipelines.get(&ObjectRef::new(&key.name).within(&namespace)).is_some()
        };
        for key in self.memories.forget(lives) {
            self.instruments.console.forget(key.namespace.as_deref().unwrap_or_default(), &key.name);
            self.instruments.metrics.forget(&labels_of(&key));
            self.rollouts.forget(&key);
        }
        self.sources.connections.retain_used();
    }
}

/// `namespace/name`, for logs.
pub fn shown<K: reflector::Lookup>(key: &ObjectRef<K>) -> String {
    format!("{}/{}", key.namespace.as_deref().unwrap_or_default(), key.name)
}

pub fn labels_of(key: &ObjectRef<ImagePipeline>) -> PipelineLabels {
    PipelineLabels { namespace: key.namespace.clone().unwrap_or_default(), pipeline: key.name.clone() }
}
