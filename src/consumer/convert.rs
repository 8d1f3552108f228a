//! decode ─▶ encode for one delivery: on blocking threads or, for a redelivered or renewed message, which may have
//! crashed a consumer, in a separate process.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::capacity::{Capacity, Memory};
use super::decode::{Decoder, Incoming, Job, ObjectKey};
use super::encode::{Header, Png, encode, inspect};
use super::isolate::{Decoded, Isolation};
use super::metrics::{Metrics, TimedStep};
use super::settle::Refusal;
use crate::api::image::ImageSettings;
use crate::rabbitmq::Delivery;

pub struct Converter {
    pub decoder: Decoder,
    pub image: ImageSettings,
    /// Decodes redelivered and renewed messages in separate processes.
    pub isolation: Isolation,
    pub capacity: Capacity,
    pub metrics: Metrics,
}

/// The object to store. Holds the memory permit as long as the PNG.
pub struct Converted {
    pub key: ObjectKey,
    pub png: Png,
    pub digest: String,
    _memory: Memory,
}

impl Converter {
    /// # Errors
    /// The message can never be stored.
    pub async fn convert(self: Arc<Self>, delivery: Arc<Delivery>) -> Result<Converted, Refusal> {
        if let Some(detail) = delivery.unreadable() {
            return Err(Refusal::unreadable(detail));
        }
        if delivery.redelivered() || delivery.renewals() > 0 {
            return self.isolated(&delivery).await;
        }
        let processor = self.capacity.processor().await;
        let started = Instant::now();
        let this = Arc::clone(&self);
        let (processor, decoded) = processor.run(move || this.decode(&delivery)).await?;
        let (job, header) = decoded?;
        self.metrics.stage(TimedStep::Decode, started.elapsed());

        let started = Instant::now();
        let file_bytes = u64::try_from(job.image.len()).unwrap_or(u64::MAX);
        let memory = self.capacity.memory(header.bytes_needed().saturating_add(file_bytes)).await?;
        let this = Arc::clone(&self);
        let (_, encoded) = processor.run(move || this.encode(&job, &header, memory)).await?;
        self.metrics.stage(TimedStep::Encode, started.elapsed());
        encoded
    }

    fn decode(&self, delivery: &Delivery) -> Result<(Job, Header), Refusal> {
        let header = |name: &str| delivery.header(name);
        let incoming = Incoming { body: delivery.body(), timestamp: delivery.timestamp(), header: &header };
        let job = self.decoder.decode(&incoming)?;
        let header = inspect(&job.image, self.image.max_pixels)?;
        Ok((job, header))
    }

    fn encode(&self, job: &Job, header: &Header, mut memory: Memory) -> Result<Converted, Refusal> {
        let png = encode(Bytes::clone(&job.image), header, &self.image)?;
        memory.keep(png.bytes().len());
        let digest = png.digest().to_string();
        let key = job.key(&digest)?;
        Ok(Converted { key, png, digest, _memory: memory })
    }

    async fn isolated(&self, delivery: &Delivery) -> Result<Converted, Refusal> {
        let header = |name: &str| delivery.header(name);
        let incoming = Incoming { body: delivery.body(), timestamp: delivery.timestamp(), header: &header };
        let Decoded { key, png, memory } =
            self.isolation.convert(&incoming, &self.decoder, &self.capacity, &self.metrics).await?;
        let digest = png.digest().to_string();
        Ok(Converted { key, digest, png, _memory: memory })
    }
}
