//! What the reconciles of a scope share, and the state of each pipeline between two reconciles. A restart of the
//! operator may lose that state.

use std::collections::HashMap;

use jiff::Timestamp;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::{Resource as _, ResourceExt as _};
use parking_lot::Mutex;

use super::apply::Writer;
use super::build::{ConsumerImage, Template};
use super::decide::{self, Asked, Load, Memory, decide};
use super::foreign_consumers::{self, ForeignConsumers};
use super::instruments::Instruments;
use super::metrics::PipelineLabels;
use super::observation::Observation;
use super::observe::Sources;
use super::renewals::Renewals;
use super::{Error, Guarded, status};
use crate::api::conditions::ConditionType;
use crate::api::source::RabbitmqSource;
use crate::api::{ImagePipeline, ImagePipelineStatus};
use crate::reason::Reason;

pub struct Context {
    pub sources: Sources,
    pub writer: Writer,
    pub image: ConsumerImage,
    pub instruments: Instruments,
    /// All ImagePipelines of the scope.
    pub pipelines: Store<Guarded>,
    pub remembered: Mutex<HashMap<ObjectRef<ImagePipeline>, Remembered>>,
}

/// State of a pipeline between two reconciles.
#[derive(Clone, Default)]
pub struct Remembered {
    uid: Option<String>,
    memory: Memory,
    /// With the source that was observed.
    foreign: Option<(RabbitmqSource, ForeignConsumers)>,
    written: Option<(ImagePipelineStatus, Timestamp)>,
    invalid: Option<String>,
    renewals: Renewals,
}

impl Context {
    /// The only clock of the reconciles.
    pub fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    /// Adds to an observation what the spec and earlier reconciles provide: the digest of the pod template, the size
    /// written last, and the foreign consumers.
    pub fn recall(&self, pipeline: &ImagePipeline, template: &Template, observed: &mut Observation) {
        template.digest().clone_into(&mut observed.spec);
        observed.written = self.writer.unseen_size(pipeline, observed.deployment.as_deref());
        let source = &pipeline.spec.source.rabbitmq;
        let others = foreign_consumers::others(observed);
        let mut remembered = self.remembered.lock();
        let foreign = &mut remembered.entry(ObjectRef::from_obj(pipeline)).or_default().foreign;
        let before = match foreign.take() {
            Some((of, before)) if of == *source => before,
            Some(_) => ForeignConsumers::default(),
            None => ForeignConsumers::reported(if said_foreign(pipeline) { others.unwrap_or(1).max(1) } else { 0 }),
        };
        let now = before.with(others, self.now());
        observed.foreign = now.count();
        *foreign = Some((source.clone(), now));
    }

    /// Drops the state of a deleted pipeline with the same name, and clears the error of an invalid resource once it
    /// parses.
    pub fn meet(&self, guarded: &Guarded) {
        let uid = guarded.meta().uid.clone();
        let mut remembered = self.remembered.lock();
        let known = remembered.entry(key_of(guarded)).or_default();
        if known.uid != uid {
            *known = Remembered { uid, ..Remembered::default() };
            self.instruments.console.forget(&guarded.namespace().unwrap_or_default(), &guarded.name_any());
        }
        if guarded.0.is_ok() {
            known.invalid = None;
        }
    }

    /// Decides the size, stores the state for the next decision, and updates the metrics.
    pub fn decide(&self, pipeline: &ImagePipeline, observed: &Observation) -> decide::Decision {
        let key = ObjectRef::from_obj(pipeline);
        let memory = self.remembered.lock().get(&key).map(|remembered| remembered.memory.clone()).unwrap_or_default();
        let (decision, memory) = decide(&Asked::from(&pipeline.spec), &Load::of(observed), &memory, self.now());
        let renewed = {
            let mut remembered = self.remembered.lock();
            let of_pipeline = remembered.entry(key).or_default();
            of_pipeline.memory = memory;
            of_pipeline.renewals.count(&observed.pods)
        };
        let unknown = observed.depth.as_ref().err().map(|cause| cause.reason);
        let labels = labels_of(pipeline.namespace(), pipeline.name_any());
        self.instruments.metrics.renewed(&labels, renewed);
        self.instruments.metrics.decided(&labels, &decision, unknown);
        self.instruments.metrics.parked(&labels, observed.parked);
        decision
    }

    /// The status last written: the watch may not have delivered it yet.
    pub fn previous_status(&self, pipeline: &ImagePipeline) -> ImagePipelineStatus {
        let written = self
            .remembered
            .lock()
            .get(&ObjectRef::from_obj(pipeline))
            .and_then(|remembered| remembered.written.clone());
        written.map(|(status, _)| status).or_else(|| pipeline.status.clone()).unwrap_or_default()
    }

    /// Writes the status if it is due, and publishes its changes as events.
    pub async fn report(
        &self,
        pipeline: &ImagePipeline,
        previous: &ImagePipelineStatus,
        status: ImagePipelineStatus,
        decision: &decide::Decision,
        now: Timestamp,
    ) -> Result<(), Error> {
        self.instruments
            .metrics
            .set_conditions(&labels_of(pipeline.namespace(), pipeline.name_any()), &status.conditions);
        let key = ObjectRef::from_obj(pipeline);
        let written =
            self.remembered.lock().get(&key).and_then(|remembered| remembered.written.as_ref().map(|(_, when)| *when));
        let since = now.duration_since(written.unwrap_or(Timestamp::UNIX_EPOCH));
        if !status::is_due(previous, &status, since) {
            return Ok(());
        }
        // Until the response arrives, the resource's status is unknown: a write may be applied and still fail here.
        self.remembered.lock().entry(key.clone()).or_default().written = None;
        self.writer.write_status(&pipeline.metadata, &status).await.map_err(Error::Write)?;
        let transitions = status::transitions(previous, &status, decision);
        self.remembered.lock().entry(key.clone()).or_default().written = Some((status, now));
        self.publish(pipeline, &transitions, now).await
    }

    /// Publishes how many messages the consumers renewed, if that is due.
    ///
    /// # Errors
    /// The API server refused. The next reconcile publishes the event again.
    pub async fn report_renewals(&self, pipeline: &ImagePipeline, now: Timestamp) -> Result<(), Error> {
        let (key, queue) = (ObjectRef::from_obj(pipeline), &pipeline.spec.source.rabbitmq.queue);
        let due = self.remembered.lock().get(&key).and_then(|remembered| remembered.renewals.event(queue, now));
        let Some(event) = due else { return Ok(()) };
        self.publish(pipeline, &[event], now).await?;
        self.remembered.lock().entry(key).or_default().renewals.reported(now);
        Ok(())
    }

    /// Writes changes to the log and publishes them as events.
    async fn publish(
        &self,
        pipeline: &ImagePipeline,
        transitions: &[status::Transition],
        now: Timestamp,
    ) -> Result<(), Error> {
        let pipeline_name = shown(&ObjectRef::from_obj(pipeline));
        for status::Transition { warning, reason, note } in transitions {
            if *warning {
                tracing::warn!(pipeline = pipeline_name, %reason, "{note}");
            } else {
                tracing::info!(pipeline = pipeline_name, %reason, "{note}");
            }
        }
        self.writer.publish(pipeline, transitions, now).await.map_err(Error::Write)
    }

    /// Reports in the status that the resource can't be parsed, once per error.
    pub async fn report_invalid(&self, guarded: &Guarded, detail: &str) -> Result<(), Error> {
        let meta = guarded.meta();
        let key = key_of(guarded);
        let known = self.remembered.lock().get(&key).and_then(|remembered| remembered.invalid.clone());
        if known.as_deref() == Some(detail) || meta.deletion_timestamp.is_some() {
            return Ok(());
        }
        tracing::warn!(pipeline = shown(&key), detail, "ImagePipeline can't be read; its Deployment stays unchanged");
        let status = status::invalid(meta.generation, detail, self.now());
        self.instruments
            .metrics
            .set_conditions(&labels_of(guarded.namespace(), guarded.name_any()), &status.conditions);
        self.instruments.console.note_invalid(meta, &status);
        self.writer.write_status(meta, &status).await.map_err(Error::Write)?;
        let mut remembered = self.remembered.lock();
        let known = remembered.entry(key).or_default();
        (known.invalid, known.written) = (Some(detail.to_owned()), None);
        Ok(())
    }

    /// Drops the state of deleted pipelines.
    pub fn forget_deleted(&self) {
        let lives = |key: &ObjectRef<ImagePipeline>| {
            let namespace = key.namespace.clone().unwrap_or_default();
            self.pipelines.get(&ObjectRef::new(&key.name).within(&namespace)).is_some()
        };
        self.sources.brokers.retain(lives);
        self.writer.retain(lives);
        let gone: Vec<_> = self.remembered.lock().keys().filter(|key| !lives(key)).cloned().collect();
        for key in gone {
            self.remembered.lock().remove(&key);
            self.instruments.console.forget(key.namespace.as_deref().unwrap_or_default(), &key.name);
            self.instruments.metrics.forget(&labels_of(key.namespace.clone(), key.name.clone()));
        }
    }
}

/// Whether the status reports foreign consumers for the current spec: a restarted operator keeps reporting them.
fn said_foreign(pipeline: &ImagePipeline) -> bool {
    pipeline.status.as_ref().is_some_and(|status| {
        status.observed_generation == pipeline.metadata.generation
            && status.conditions.iter().any(|condition| {
                condition.type_ == ConditionType::QueueFound.as_str()
                    && condition.reason == Reason::ForeignConsumers.as_str()
            })
    })
}

fn key_of(guarded: &Guarded) -> ObjectRef<ImagePipeline> {
    ObjectRef::new(&guarded.name_any()).within(&guarded.namespace().unwrap_or_default())
}

/// `namespace/name`, for logs.
pub fn shown<K: reflector::Lookup>(key: &ObjectRef<K>) -> String {
    format!("{}/{}", key.namespace.as_deref().unwrap_or_default(), key.name)
}

fn labels_of(namespace: Option<String>, pipeline: String) -> PipelineLabels {
    PipelineLabels { namespace: namespace.unwrap_or_default(), pipeline }
}
