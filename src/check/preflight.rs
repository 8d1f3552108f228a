//! `image-pipeline check`: tries the broker, the queues and the bucket once, with the consumer's own code. Takes no
//! message and replaces no image.

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::api::assignment::Assignment;
use crate::api::failures::FailurePolicy;
use crate::api::image::ImageSettings;
use crate::api::names;
use crate::consumer::broker::{self, Broker};
use crate::consumer::decode::{DecodeError, Decoder, InvalidTemplate, ObjectKey};
use crate::consumer::encode::{EncodeError, Png, encode, inspect};
use crate::consumer::origin::Origin;
use crate::consumer::secrets::Secrets;
use crate::consumer::upload::{Object, Store, Trial};
use crate::rabbitmq::{Connection, QueueDepth, QueueError};
use crate::reason::Reason;

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Finding {
    pub check: Check,
    /// `true` if a consumer could work.
    pub passed: bool,
    /// The reason that the resource's condition would have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// What was found and, after a failure, what to do.
    pub message: String,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, strum::IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Check {
    /// Host name, port, TLS, user, password, virtual host.
    Broker,
    Queue,
    Parking,
    /// The bucket: endpoint, TLS, credentials, clock, region, permissions, encryption.
    Store,
}

impl Finding {
    fn passed(check: Check, message: impl Into<String>) -> Self {
        Self { check, passed: true, reason: None, message: message.into() }
    }

    fn failed(check: Check, reason: Reason, message: impl std::fmt::Display) -> Self {
        Self { check, passed: false, reason: Some(reason), message: message.to_string() }
    }
}

/// Runs all checks, the broker's and the bucket's concurrently.
pub async fn preflight(assignment: &Assignment, secrets: &Secrets) -> Vec<Finding> {
    let (broker, store) = tokio::join!(of_broker(assignment, secrets), of_store(assignment, secrets));
    broker.into_iter().chain([store]).collect()
}

async fn of_broker(assignment: &Assignment, secrets: &Secrets) -> Vec<Finding> {
    let source = assignment.source.rabbitmq.clone();
    let vhost = source.vhost.clone();
    let broker = Broker { secrets: secrets.clone(), source, name: "image-pipeline check".to_owned() };
    let connection = match broker.connect("preflight").await {
        Ok(connection) => connection,
        Err(error) => return vec![Finding::failed(Check::Broker, error.reason(), error)],
    };
    let connected = format!("connected to RabbitMQ, vhost {vhost:?}");
    let (queue, parking) = tokio::join!(queue(assignment, &connection), parking(assignment, &connection));
    broker::close(&connection).await;
    [Some(Finding::passed(Check::Broker, connected)), Some(queue), parking].into_iter().flatten().collect()
}

async fn queue(assignment: &Assignment, connection: &Connection) -> Finding {
    let queue = &assignment.source.rabbitmq.queue;
    match lasting(queue, connection).await {
        Ok(QueueDepth { ready, consumers: 0 }) => {
            Finding::passed(Check::Queue, format!("queue {queue:?} exists; messages ready: {ready}"))
        }
        Ok(QueueDepth { ready, consumers }) => {
            let message = format!(
                "queue {queue:?} exists; messages ready: {ready}; consumers: {consumers}, including this pipeline's \
                 pods; messages that other consumers take are not stored"
            );
            Finding::passed(Check::Queue, message)
        }
        Err(error) if error.reason() == Reason::DeclareRefused => {
            let message = format!(
                "this user may not declare queue {queue:?}, so check can't see it; consumers may still read it"
            );
            Finding::passed(Check::Queue, message)
        }
        Err(error) => Finding::failed(Check::Queue, error.reason(), error),
    }
}

async fn parking(assignment: &Assignment, connection: &Connection) -> Option<Finding> {
    if assignment.failures.policy != FailurePolicy::Park {
        return None;
    }
    let queue = names::parking_queue(&assignment.source, &assignment.failures);
    Some(match lasting(&queue, connection).await {
        Ok(depth) => {
            let message = format!("parking queue {queue:?} exists; messages parked: {}", depth.ready);
            Finding::passed(Check::Parking, message)
        }
        Err(error) if matches!(error.reason(), Reason::QueueNotFound | Reason::DeclareRefused) => {
            let message = format!(
                "parking queue {queue:?} does not exist, or this user may not declare it; a consumer creates it when \
                 it parks the first message"
            );
            Finding::passed(Check::Parking, message)
        }
        Err(error) => Finding::failed(Check::Parking, error.reason(), error),
    })
}

/// The depth of a queue. Fails for a queue that the broker deletes with its messages (auto-delete, not durable).
async fn lasting(queue: &str, connection: &Connection) -> Result<QueueDepth, QueueError> {
    let depth = connection.depth(queue).await?;
    connection.ensure_lasting(queue).await?;
    Ok(depth)
}

async fn of_store(assignment: &Assignment, secrets: &Secrets) -> Finding {
    let s3 = &assignment.destination.s3;
    let sample = match Sample::new(assignment) {
        Ok(sample) => sample,
        Err(error) => return Finding::failed(Check::Store, Reason::InvalidSpec, error),
    };
    let Some(key) = &sample.key else {
        let message = format!(
            "bucket {:?} was not tried: destination.s3.keyTemplate gives every image the same key, so a test object \
             would replace an image",
            s3.bucket
        );
        return Finding::passed(Check::Store, message);
    };
    let digest = sample.png.digest().to_string();
    let object = Object { key, png: sample.png.bytes(), digest: &digest, origin: Origin::default() };
    let key = key.as_str();
    match Store::new(s3, secrets).await.try_out(&object).await {
        Ok(Trial { left_behind: None }) => {
            let message = format!("bucket {:?} accepts images: test object {key} was stored and deleted", s3.bucket);
            Finding::passed(Check::Store, message)
        }
        Ok(Trial { left_behind: Some(error) }) => {
            let message =
                format!("bucket {:?} accepts images, but test object {key} could not be deleted: {error}", s3.bucket);
            Finding::passed(Check::Store, message)
        }
        Err(error) => Finding::failed(Check::Store, error.reason(), error),
    }
}

/// An image of one pixel, stored in the same way as consumers store images.
struct Sample {
    png: Png,
    /// `None` if the template gives every image the same key.
    key: Option<ObjectKey>,
}

#[derive(Debug, thiserror::Error)]
enum SampleError {
    #[error(transparent)]
    Template(#[from] InvalidTemplate),
    #[error(transparent)]
    Key(#[from] DecodeError),
    #[error(transparent)]
    Image(#[from] EncodeError),
}

impl Sample {
    /// Name and color are random, so the key differs from every image's key.
    fn new(assignment: &Assignment) -> Result<Self, SampleError> {
        let Assignment { source, message, image, destination, .. } = assignment;
        let decoder = Decoder::new(message, &destination.s3, source.rabbitmq.max_body_bytes.get())?;
        let now = Timestamp::now().as_second().unsigned_abs();
        let (png, other) = (pixel(image)?, "0".repeat(64));
        let name = format!("image-pipeline-check-{:016x}.png", fastrand::u64(..));
        let key = decoder.sample_key(&name, now, &png.digest().to_string())?;
        let is_own = decoder.sample_key("image-pipeline-check.png", now, &other)? != key;
        Ok(Self { png, key: is_own.then_some(key) })
    }
}

/// A PNG of one pixel, encoded from a BMP.
fn pixel(settings: &ImageSettings) -> Result<Png, EncodeError> {
    // File header: size 58, pixel data at 54. Info header of 40 bytes: 1 × 1, one plane, 24 bits, no compression.
    let mut bmp = b"BM\x3a\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\x01\0\0\0\x01\0\0\0\x01\0\x18\0".to_vec();
    bmp.resize(54, 0);
    let color = fastrand::u32(..).to_le_bytes();
    bmp.extend_from_slice(&[color[0], color[1], color[2], 0]);
    let header = inspect(&bmp, settings.max_pixels)?;
    encode(Bytes::from(bmp), &header, settings)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn sample(s3: Value) -> Sample {
        let assignment = json!({
            "source": { "rabbitmq": { "queue": "tiles", "rabbitmqClusterReference": { "name": "rabbit" } } },
            "destination": { "s3": s3 },
        });
        Sample::new(&serde_json::from_value(assignment).unwrap()).unwrap()
    }

    #[test]
    fn a_sample_has_a_key_of_the_template_and_is_one_pixel() {
        for (template, begins, ends) in [
            ("{name}", "tiles/image-pipeline-check-", ".png"),
            ("raw/{metadata.site}/{stem}-{digest}.png", "tiles/raw/image-pipeline-check-", ".png"),
            ("{digest}", "tiles/", ""),
            ("{metadata.site}/latest.png", "tiles/image-pipeline-check-", "/latest.png"),
        ] {
            let Sample { png, key } = sample(json!({ "bucket": "b1s", "prefix": "tiles/", "keyTemplate": template }));
            let key = key.unwrap();
            assert!(key.as_str().starts_with(begins) && key.as_str().ends_with(ends), "{key:?}");
            let image = image::load_from_memory(png.bytes()).unwrap();
            assert_eq!((image.width(), image.height()), (1, 1));
        }
    }

    #[test]
    fn no_sample_takes_the_key_of_an_image() {
        let key = |template: &str| sample(json!({ "bucket": "b1s", "keyTemplate": template })).key;
        assert_eq!(key("latest.png"), None);
        assert_eq!(key("{year}/latest.png"), None);
        assert_ne!(key("{name}"), key("{name}"));
    }
}
