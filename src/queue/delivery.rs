//! A delivered message, the stream of them, and what a parked one carries. It must never change a
//! body, nor let a parked message carry a property that would act again.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use lapin::BasicProperties;
use lapin::options::{BasicAckOptions, BasicRejectOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};

use super::QueueError;

/// Headers of RabbitMQ that would route or count a parked message again.
const ACTING_HEADERS: [&str; 4] = ["CC", "BCC", "x-delivery-count", "x-acquired-count"];

/// Messages of one consumer, until the broker or this side cancels it. The end of the stream while
/// nobody cancelled is a failure: the queue was deleted, or the channel died.
pub struct Deliveries {
    inner: lapin::Consumer,
}

/// One message, held until it is acknowledged or rejected, or its channel closes.
#[derive(Debug)]
pub struct Delivery {
    inner: lapin::message::Delivery,
    body: Bytes,
}

/// Why a message is parked, as its headers say it.
#[derive(Debug)]
pub struct Parked<'a> {
    /// The bounded reason's name.
    pub reason: &'a str,
    /// One sentence for a person.
    pub detail: &'a str,
    /// The pipeline's namespace.
    pub namespace: &'a str,
    /// The pipeline's name.
    pub name: &'a str,
    /// How often this consumer tried.
    pub attempts: u32,
    /// When this consumer first saw it, RFC 3339.
    pub first_seen: &'a str,
}

impl Deliveries {
    pub(super) fn new(inner: lapin::Consumer) -> Self {
        Self { inner }
    }
}

impl Stream for Deliveries {
    type Item = Result<Delivery, QueueError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.inner.poll_next_unpin(context).map(|next| {
            next.map(|delivery| match delivery {
                Ok(mut inner) => {
                    let body = std::mem::take(&mut inner.data).into();
                    Ok(Delivery { inner, body })
                }
                Err(error) => Err(QueueError::from_lapin(&error)),
            })
        })
    }
}

impl Delivery {
    /// The body as the publisher sent it. Clones share it.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// A header that is text, a whole number or a boolean, as text.
    pub fn header(&self, name: &str) -> Option<String> {
        text(self.inner.properties.headers().as_ref()?.inner().get(name)?)
    }

    /// Whether the broker has delivered it before, to whomever.
    pub fn redelivered(&self) -> bool {
        self.inner.redelivered
    }

    /// The channel's number for this delivery.
    pub fn tag(&self) -> u64 {
        self.inner.delivery_tag
    }

    /// The publisher's message id, if it gave one.
    pub fn message_id(&self) -> Option<&str> {
        self.inner.properties.message_id().as_ref().map(ShortString::as_str)
    }

    /// When the publisher made the message, in seconds since 1970, if it said so.
    pub fn timestamp(&self) -> Option<u64> {
        *self.inner.properties.timestamp()
    }

    /// Acknowledges this message alone.
    ///
    /// # Errors
    /// The channel it came by is gone: the broker will deliver the message again.
    pub async fn acknowledge(&self) -> Result<(), QueueError> {
        settled(self.inner.acker.ack(BasicAckOptions::default()).await)
    }

    /// Gives this message up: it goes wherever its queue's dead letters go, or nowhere.
    ///
    /// # Errors
    /// The channel it came by is gone: the broker will deliver the message again.
    pub async fn reject(&self) -> Result<(), QueueError> {
        settled(self.inner.acker.reject(BasicRejectOptions { requeue: false }).await)
    }

    /// The original properties, made safe to publish again, with the reason in headers.
    pub(super) fn parked_properties(&self, parked: &Parked<'_>) -> BasicProperties {
        parked_properties(&self.inner.properties, parked)
    }
}

fn settled(sent: lapin::Result<bool>) -> Result<(), QueueError> {
    match sent {
        Ok(true) => Ok(()),
        Ok(false) => Err(QueueError::connection_lost("the channel closed before the message was settled")),
        Err(error) => Err(QueueError::from_lapin(&error)),
    }
}

fn text(value: &AMQPValue) -> Option<String> {
    match value {
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok().map(str::to_owned),
        AMQPValue::ShortString(text) => Some(text.as_str().to_owned()),
        AMQPValue::Boolean(value) => Some(value.to_string()),
        AMQPValue::ShortShortInt(value) => Some(value.to_string()),
        AMQPValue::ShortShortUInt(value) => Some(value.to_string()),
        AMQPValue::ShortInt(value) => Some(value.to_string()),
        AMQPValue::ShortUInt(value) => Some(value.to_string()),
        AMQPValue::LongInt(value) => Some(value.to_string()),
        AMQPValue::LongUInt(value) => Some(value.to_string()),
        AMQPValue::LongLongInt(value) => Some(value.to_string()),
        _ => None,
    }
}

fn parked_properties(original: &BasicProperties, parked: &Parked<'_>) -> BasicProperties {
    let mut headers = FieldTable::default();
    for (key, value) in original.headers().iter().flat_map(FieldTable::inner) {
        if ACTING_HEADERS.contains(&key.as_str()) {
            headers.insert(format!("x-original-{key}").into(), value.clone());
        } else {
            headers.insert(key.clone(), value.clone());
        }
    }
    let text = |value: &str| AMQPValue::LongString(value.into());
    for (key, value) in [("x-original-user-id", original.user_id()), ("x-original-expiration", original.expiration())] {
        if let Some(value) = value {
            headers.insert(key.into(), text(value.as_str()));
        }
    }
    let Parked { reason, detail, namespace, name, attempts, first_seen } = parked;
    for (key, value) in [
        ("x-image-pipeline-reason", text(reason)),
        ("x-image-pipeline-detail", text(detail)),
        ("x-image-pipeline-namespace", text(namespace)),
        ("x-image-pipeline-name", text(name)),
        ("x-image-pipeline-attempts", AMQPValue::LongUInt(*attempts)),
        ("x-image-pipeline-first-seen", text(first_seen)),
    ] {
        headers.insert(key.into(), value);
    }
    let mut properties = BasicProperties::default().with_delivery_mode(super::PERSISTENT).with_headers(headers);
    for (value, set) in [
        (
            original.content_type(),
            BasicProperties::with_content_type as fn(BasicProperties, ShortString) -> BasicProperties,
        ),
        (original.content_encoding(), BasicProperties::with_content_encoding),
        (original.correlation_id(), BasicProperties::with_correlation_id),
        (original.reply_to(), BasicProperties::with_reply_to),
        (original.message_id(), BasicProperties::with_message_id),
        (original.kind(), BasicProperties::with_type),
        (original.app_id(), BasicProperties::with_app_id),
    ] {
        if let Some(value) = value {
            properties = set(properties, value.clone());
        }
    }
    if let Some(timestamp) = original.timestamp() {
        properties = properties.with_timestamp(*timestamp);
    }
    if let Some(priority) = original.priority() {
        properties = properties.with_priority(*priority);
    }
    properties
}

#[cfg(test)]
#[allow(clippy::expect_used)]
mod tests {
    use super::*;

    fn parked() -> Parked<'static> {
        Parked {
            reason: "InvalidImage",
            detail: "truncated",
            namespace: "greench",
            name: "forest-tiles",
            attempts: 1,
            first_seen: "2026-01-01T00:00:00Z",
        }
    }

    #[test]
    fn headers_are_read_as_text() {
        let cases = [
            (AMQPValue::LongString("north/4.png".into()), Some("north/4.png")),
            (AMQPValue::LongString("Öä.png".into()), Some("Öä.png")),
            (AMQPValue::LongString(vec![0xff, 0xfe].into()), None),
            (AMQPValue::LongLongInt(-7), Some("-7")),
            (AMQPValue::ShortShortUInt(200), Some("200")),
            (AMQPValue::Boolean(true), Some("true")),
            (AMQPValue::Double(1.5), None),
            (AMQPValue::FieldTable(FieldTable::default()), None),
        ];
        for (value, expected) in cases {
            assert_eq!(text(&value).as_deref(), expected, "{value:?}");
        }
    }

    #[test]
    fn properties_that_would_act_again_are_renamed() {
        let mut headers = FieldTable::default();
        headers.insert("CC".into(), AMQPValue::LongString("elsewhere".into()));
        headers.insert("x-delivery-count".into(), AMQPValue::LongLongInt(7));
        headers.insert("device".into(), AMQPValue::LongString("north-4".into()));
        let original = BasicProperties::default()
            .with_headers(headers)
            .with_user_id("camera".into())
            .with_expiration("1000".into())
            .with_message_id("id-1".into());

        let properties = parked_properties(&original, &parked());

        assert_eq!((properties.user_id(), properties.expiration()), (&None, &None));
        assert_eq!(properties.message_id().as_ref().map(ShortString::as_str), Some("id-1"));
        assert_eq!(*properties.delivery_mode(), Some(2));
        let headers = properties.headers().clone().expect("headers");
        let keys: Vec<&str> = headers.inner().keys().map(ShortString::as_str).collect();
        assert!(!keys.contains(&"CC") && !keys.contains(&"x-delivery-count"), "{keys:?}");
        for kept in
            ["x-original-CC", "x-original-x-delivery-count", "x-original-user-id", "x-original-expiration", "device"]
        {
            assert!(keys.contains(&kept), "{kept} in {keys:?}");
        }
        assert_eq!(headers.inner().get("x-image-pipeline-reason"), Some(&AMQPValue::LongString("InvalidImage".into())));
    }
}
