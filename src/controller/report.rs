//! Reports a reconcile: metrics, console, status and events. The status is written only if it is due.

use std::sync::Arc;

use jiff::Timestamp;
use kube::Resource as _;
use kube::runtime::reflector::ObjectRef;

use super::apply::Applied;
use super::decide::Decision;
use super::memory::{PipelineMemory, key_of};
use super::observation::{Observation, ObservedPod};
use super::reconcile::{Context, labels_of, shown};
use super::transitions::{Transition, transitions};
use super::{Error, Guarded, status};
use crate::api::{ImagePipeline, ImagePipelineStatus};

impl Context {
    /// # Errors
    /// The API server did not accept the status, an event or, before that, an annotation of a pod.
    pub async fn report(
        &self,
        pipeline: &ImagePipeline,
        observation: &Observation,
        decision: &Decision,
        applied: Applied,
        status: ImagePipelineStatus,
        memory: &mut PipelineMemory,
    ) -> Result<(), Error> {
        let labels = labels_of(&ObjectRef::from_obj(pipeline));
        self.instruments.metrics.renewed(&labels, memory.renewals.count(&observation.pods));
        let status = Arc::new(status);
        self.instruments.metrics.set_status(&labels, Arc::clone(&status));
        let stored = |pod: &ObservedPod| (pod.name.clone(), pod.report.as_ref().map(|report| report.processed));
        let pods = observation.pods.iter().map(stored).collect();
        self.instruments.console.note(pipeline, Arc::clone(&status), pods, observation.at);
        self.report_status(pipeline, decision, status, observation.at, memory).await?;
        self.report_renewals(pipeline, observation.at, memory).await?;
        applied.annotation.map_err(Error::Write)
    }

    /// Writes the status if it is due, and publishes its changes as events.
    async fn report_status(
        &self,
        pipeline: &ImagePipeline,
        decision: &Decision,
        status: Arc<ImagePipelineStatus>,
        now: Timestamp,
        memory: &mut PipelineMemory,
    ) -> Result<(), Error> {
        let none = ImagePipelineStatus::default();
        let previous = memory.status(pipeline).unwrap_or(&none);
        let written_at = memory.status_written_at.unwrap_or(Timestamp::UNIX_EPOCH);
        if !status::is_due(previous, &status, now.duration_since(written_at)) {
            return Ok(());
        }
        let previous = previous.clone();
        // Until the response arrives, the resource's status is unknown: a write may be applied and still fail here.
        (memory.written_status, memory.status_written_at) = (None, None);
        self.writer.write_status(&pipeline.metadata, &status).await.map_err(Error::Write)?;
        let changes = transitions(&previous, &status, decision);
        (memory.written_status, memory.status_written_at) = (Some(status), Some(now));
        self.publish(pipeline, &changes, now, memory).await
    }

    /// Publishes how many messages the consumers renewed, if that is due. If the API server refuses the event, the next
    /// reconcile publishes it again.
    async fn report_renewals(
        &self,
        pipeline: &ImagePipeline,
        now: Timestamp,
        memory: &mut PipelineMemory,
    ) -> Result<(), Error> {
        let queue = &pipeline.spec.source.rabbitmq.queue;
        let Some(event) = memory.renewals.event(queue, now) else { return Ok(()) };
        self.publish(pipeline, &[event], now, memory).await?;
        memory.renewals.reported(now);
        Ok(())
    }

    /// Writes changes to the log and publishes them as events.
    async fn publish(
        &self,
        pipeline: &ImagePipeline,
        transitions: &[Transition],
        now: Timestamp,
        memory: &mut PipelineMemory,
    ) -> Result<(), Error> {
        let pipeline_name = shown(&ObjectRef::from_obj(pipeline));
        for Transition { warning, reason, note } in transitions {
            if *warning {
                tracing::warn!(pipeline = pipeline_name, %reason, "{note}");
            } else {
                tracing::info!(pipeline = pipeline_name, %reason, "{note}");
            }
        }
        self.writer.publish(pipeline, transitions, &mut memory.events, now).await.map_err(Error::Write)
    }

    /// Reports in the status that the resource can't be parsed, once per error.
    pub async fn report_invalid(
        &self,
        guarded: &Guarded,
        detail: &str,
        memory: &mut PipelineMemory,
    ) -> Result<(), Error> {
        let (meta, key) = (guarded.meta(), key_of(guarded));
        if memory.invalid.as_deref() == Some(detail) || meta.deletion_timestamp.is_some() {
            return Ok(());
        }
        tracing::warn!(pipeline = shown(&key), detail, "ImagePipeline can't be read; its Deployment stays unchanged");
        let status = Arc::new(status::invalid(meta.generation, detail, Timestamp::now()));
        self.instruments.metrics.set_status(&labels_of(&key), Arc::clone(&status));
        self.instruments.console.note_invalid(meta, Arc::clone(&status));
        self.writer.write_status(meta, &status).await.map_err(Error::Write)?;
        memory.invalid = Some(detail.to_owned());
        (memory.written_status, memory.status_written_at) = (None, None);
        Ok(())
    }
}
