//! The displayed fields of one parked message, and its redrive target. Pure. Does not keep the body, and truncates
//! texts from headers and bodies.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::MOST_REDRIVES;
use super::outcome::Disposal;
use crate::message::{ImageMetadata, NAME_HEADER};

/// Suffix of the default name of a parking queue, after the name of the source queue.
const PARKED: &str = ".parked";

/// Maximum characters of a text.
const LONGEST: usize = 512;

/// One message. Fields without a header are `None`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ParkedMessage {
    /// Name of the `Reason`.
    pub reason: Option<String>,
    /// The error as a sentence.
    pub detail: Option<String>,
    pub namespace: Option<String>,
    /// Name of the pipeline.
    pub name: Option<String>,
    /// The source queue.
    pub queue: Option<String>,
    /// When a consumer first received the message.
    pub first_seen: Option<Timestamp>,
    /// Number of attempts of that consumer.
    pub attempts: Option<u32>,
    /// Number of redrives.
    pub redriven: u32,
    /// Length of the body.
    pub bytes: usize,
    /// The image's name, if the body or header has it in the default format.
    pub image: Option<String>,
    pub message_id: Option<String>,
}

/// The part of a body that is parsed.
#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow)]
    image_metadata: ImageMetadata<'a>,
}

impl ParkedMessage {
    pub fn read(header: &dyn Fn(&str) -> Option<String>, message_id: Option<&str>, redriven: u32, body: &[u8]) -> Self {
        let own = |key: &str| header(&format!("x-image-pipeline-{key}"));
        let named = serde_json::from_slice(body).map(|named: Named<'_>| named.image_metadata.image_name.into_owned());
        Self {
            reason: own("reason").map(short),
            detail: own("detail").map(short),
            namespace: own("namespace").map(short),
            name: own("name").map(short),
            // RabbitMQ adds this header to messages that it dead-letters.
            queue: own("queue").or_else(|| header("x-first-death-queue")),
            first_seen: own("first-seen").and_then(|time| time.parse().ok()),
            attempts: own("attempts").and_then(|attempts| attempts.parse().ok()),
            redriven,
            bytes: body.len(),
            image: named.ok().or_else(|| header(NAME_HEADER)).map(short),
            message_id: message_id.map(str::to_owned),
        }
    }

    /// The redrive target: `to` if set, else the queue that the parking queue's name implies. A header never sets the
    /// target, since a publisher may have written it; if it names another queue, the user must set `--to`.
    pub fn target(&self, parking: &str, to: Option<&str>, again: bool) -> Disposal {
        let implied = parking.strip_suffix(PARKED).filter(|queue| !queue.is_empty());
        let implied = implied.filter(|implied| self.queue.as_ref().is_none_or(|queue| queue == implied));
        match to.or(implied) {
            _ if self.redriven >= MOST_REDRIVES && !again => Disposal::TooOften,
            Some(queue) => Disposal::Done(Some(queue.to_owned())),
            None => Disposal::Unknown,
        }
    }
}

fn short(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(LONGEST) {
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(headers: &[(&str, &str)], body: &[u8]) -> ParkedMessage {
        let header = |name: &str| headers.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        ParkedMessage::read(&header, Some("id-1"), 0, body)
    }

    #[test]
    fn a_message_is_told_by_its_headers_and_its_name() {
        let headers = [
            ("x-image-pipeline-reason", "InvalidImage"),
            ("x-image-pipeline-queue", "tiles"),
            ("x-image-pipeline-first-seen", "2026-01-01T00:00:00Z"),
            ("x-image-pipeline-attempts", "2"),
            ("x-first-death-queue", "elsewhere"),
        ];
        let body = br#"{"device": [1], "image": "AAAA", "image_metadata": {"image_name": "north/4.png", "site": 1}}"#;
        let entry = read(&headers, body);
        assert_eq!(entry.reason.as_deref(), Some("InvalidImage"));
        assert_eq!(entry.queue.as_deref(), Some("tiles"));
        assert_eq!(entry.first_seen.map(|time| time.as_second()), Some(1_767_225_600));
        assert_eq!((entry.attempts, entry.bytes, entry.image.as_deref()), (Some(2), body.len(), Some("north/4.png")));
    }

    #[test]
    fn what_is_not_there_or_wrong_is_absent() {
        let entry = read(&[("x-image-pipeline-first-seen", "soon"), ("x-image-pipeline-attempts", "-1")], b"{\"image");
        assert!(entry.reason.is_none() && entry.first_seen.is_none() && entry.attempts.is_none());
        assert!(entry.image.is_none() && entry.queue.is_none());
        assert_eq!(read(&[("image_name", "raw.png")], b"\x89PNG").image.as_deref(), Some("raw.png"));
        assert_eq!(read(&[("x-first-death-queue", "tiles")], b"").queue.as_deref(), Some("tiles"));
        let long = read(&[("image_name", &"ä".repeat(100_000))], b"").image.unwrap_or_default();
        assert_eq!(long.chars().count(), LONGEST + 1);
    }

    #[test]
    fn a_message_goes_back_where_the_parking_queues_name_says_and_not_for_ever() {
        let to = |queue: &str| Disposal::Done(Some(queue.to_owned()));
        let entry = |queue: Option<&str>, redriven| ParkedMessage {
            queue: queue.map(str::to_owned),
            redriven,
            ..ParkedMessage::default()
        };
        for (queue, redriven, parking, given, again, expected) in [
            (Some("tiles"), 0, "tiles.parked", None, false, to("tiles")),
            (None, 0, "tiles.parked", None, false, to("tiles")),
            (Some("tiles"), 2, "tiles.parked", Some("other"), false, to("other")),
            (None, 0, "dlq", Some("other"), false, to("other")),
            (Some("tiles"), 3, "tiles.parked", None, false, Disposal::TooOften),
            (None, 7, "dlq", Some("other"), false, Disposal::TooOften),
            (Some("tiles"), 7, "tiles.parked", None, true, to("tiles")),
            // The publisher may have written the header.
            (Some("payroll"), 0, "tiles.parked", None, true, Disposal::Unknown),
            (Some("payroll"), 0, "dlq", None, true, Disposal::Unknown),
            (Some(""), 0, ".parked", None, true, Disposal::Unknown),
            (None, 0, "dlq", None, true, Disposal::Unknown),
        ] {
            let found = entry(queue, redriven).target(parking, given, again);
            assert_eq!(found, expected, "{queue:?} {redriven} {parking:?} {given:?} {again}");
        }
    }
}
