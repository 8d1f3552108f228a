//! What the operator remembers of each pipeline between two reconciles. A restart of the operator may lose it.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;
use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

use super::apply::{Applies, PublishedEvents};
use super::build::{ConsumerImage, Template};
use super::foreign_consumers::ForeignConsumers;
use super::queue_reads::QueueReads;
use super::renewals::Renewals;
use super::rollouts::Verdict;
use super::{Guarded, decide};
use crate::api::source::RabbitmqSource;
use crate::api::{ImagePipeline, ImagePipelineStatus};

/// The memory of one pipeline.
#[derive(Default)]
pub struct PipelineMemory {
    /// The resource that this memory belongs to: a deleted pipeline may have had the same name.
    pub uid: Option<String>,
    pub sizing: decide::Memory,
    /// With the source that was observed.
    pub foreign: Option<(RabbitmqSource, ForeignConsumers)>,
    pub queues: QueueReads,
    pub applies: Applies,
    pub events: PublishedEvents,
    /// The status written last, until the watch has delivered it.
    pub written_status: Option<Arc<ImagePipelineStatus>>,
    pub status_written_at: Option<Timestamp>,
    /// The parse error that the status reports.
    pub invalid: Option<String>,
    pub renewals: Renewals,
    /// The generation of the spec for which the template was built last, and the digest of the template.
    pub built: Option<(i64, String)>,
    /// Whether the template of the last reconcile was held.
    pub template: Option<Verdict>,
}

impl PipelineMemory {
    /// The status of the previous reconcile.
    pub fn status<'a>(&'a self, pipeline: &'a ImagePipeline) -> Option<&'a ImagePipelineStatus> {
        self.written_status.as_deref().or(pipeline.status.as_ref())
    }

    /// The template of the pods with the operator's own image, built once for each generation of the spec.
    pub fn template_of(&mut self, pipeline: &ImagePipeline, image: &Arc<ConsumerImage>) -> Template {
        let image = Arc::clone(image);
        let generation = pipeline.metadata.generation;
        match &self.built {
            Some((built, digest)) if Some(*built) == generation => Template::of_digest(digest.clone(), image),
            _ => {
                let template = Template::new(pipeline, image);
                self.built = generation.map(|generation| (generation, template.digest().to_owned()));
                template
            }
        }
    }

    /// Drops the copy of the status that the watch has delivered.
    pub fn see(&mut self, pipeline: &ImagePipeline) {
        if self.written_status.as_deref() == pipeline.status.as_ref() {
            self.written_status = None;
        }
    }
}

/// The memories of all pipelines of a scope.
#[derive(Default)]
pub struct Memories(Mutex<HashMap<ObjectRef<ImagePipeline>, Arc<tokio::sync::Mutex<PipelineMemory>>>>);

impl Memories {
    /// The memory of a pipeline, for the length of one reconcile. The lock is never contended: kube runs one
    /// reconcile of an object at a time.
    pub async fn of(&self, guarded: &Guarded) -> OwnedMutexGuard<PipelineMemory> {
        let memory = Arc::clone(self.0.lock().entry(key_of(guarded)).or_default());
        memory.lock_owned().await
    }

    /// Drops the memory of all pipelines for which `lives` is false, and returns their keys.
    pub fn forget(&self, lives: impl Fn(&ObjectRef<ImagePipeline>) -> bool) -> Vec<ObjectRef<ImagePipeline>> {
        let mut memories = self.0.lock();
        let gone: Vec<_> = memories.keys().filter(|key| !lives(key)).cloned().collect();
        gone.iter().for_each(|key| drop(memories.remove(key)));
        gone
    }
}

pub fn key_of(guarded: &Guarded) -> ObjectRef<ImagePipeline> {
    ObjectRef::new(&guarded.name_any()).within(&guarded.namespace().unwrap_or_default())
}
