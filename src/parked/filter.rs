//! Selects parked messages. A message matches only if its headers satisfy every filter.

use jiff::{Span, SpanRelativeTo, Timestamp};

use super::message::ParkedMessage;
use crate::reason::Reason;

/// A message must match all filters. Without filters, all messages are selected.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Filters (default: all messages)")]
pub struct FilterArgs {
    /// Parked for this reason; may be repeated
    #[arg(long = "reason", value_name = "REASON", value_parser = reason)]
    pub reasons: Vec<Reason>,
    /// Parked by this ImagePipeline
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = pipeline)]
    pub pipeline: Option<Pipeline>,
    /// First received at this time or later: a time such as 2026-05-04T08:00:00Z, or an age such as 90m, 2h, 7d
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub since: Option<Timestamp>,
    /// First received before this time
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub until: Option<Timestamp>,
    /// Message id
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// Maximum number of messages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
}

/// Namespace and name of an ImagePipeline.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pipeline {
    pub namespace: String,
    pub name: String,
}

impl FilterArgs {
    /// Whether a message is selected.
    pub fn matches(&self, entry: &ParkedMessage) -> bool {
        let Self { reasons, pipeline, since, until, id, limit: _ } = self;
        let is_one = |reason: &str| reasons.iter().any(|wanted| wanted.as_str() == reason);
        let of = |Pipeline { namespace, name }: &Pipeline| {
            entry.namespace.as_deref() == Some(namespace) && entry.name.as_deref() == Some(name)
        };
        (reasons.is_empty() || entry.reason.as_deref().is_some_and(is_one))
            && pipeline.as_ref().is_none_or(of)
            && since.is_none_or(|since| entry.first_seen.is_some_and(|seen| seen >= since))
            && until.is_none_or(|until| entry.first_seen.is_some_and(|seen| seen < until))
            && id.as_ref().is_none_or(|id| entry.message_id.as_ref() == Some(id))
    }

    /// Maximum number of messages to select.
    pub fn limit(&self, only_one: bool) -> u64 {
        if only_one { 1 } else { self.limit.unwrap_or(u64::MAX) }
    }
}

fn reason(text: &str) -> Result<Reason, String> {
    text.parse().map_err(|_| {
        "unknown reason; parked list counts messages by reason, such as InvalidImage or MissingField".to_owned()
    })
}

fn pipeline(text: &str) -> Result<Pipeline, String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok(Pipeline { namespace: namespace.to_owned(), name: name.to_owned() })
        }
        _ => Err("expected NAMESPACE/NAME, such as greench/forest-tiles".to_owned()),
    }
}

fn moment(text: &str) -> Result<Timestamp, String> {
    at(text, Timestamp::now())
}

fn at(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let ago = || {
        let span: Span = text.parse().ok()?;
        let back = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
        if back.is_negative() { None } else { now.checked_sub(back).ok() }
    };
    let expected = || "expected a time such as 2026-05-04T08:00:00Z, or an age such as 90m, 2h or 7d".to_owned();
    text.parse().ok().or_else(ago).ok_or_else(expected)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn entry() -> ParkedMessage {
        ParkedMessage {
            reason: Some("InvalidImage".to_owned()),
            namespace: Some("greench".to_owned()),
            name: Some("tiles".to_owned()),
            first_seen: Some(time("2026-05-04T08:00:00Z")),
            message_id: Some("id-1".to_owned()),
            ..ParkedMessage::default()
        }
    }

    #[test]
    fn all_that_is_asked_for_must_hold() {
        let none = FilterArgs::default;
        let of = |text| Some(pipeline(text).unwrap());
        let cases = [
            (none(), true),
            (FilterArgs { reasons: vec![Reason::InvalidImage], ..none() }, true),
            (FilterArgs { reasons: vec![Reason::InvalidJson, Reason::InvalidImage], ..none() }, true),
            (FilterArgs { reasons: vec![Reason::InvalidJson], ..none() }, false),
            (FilterArgs { pipeline: of("greench/tiles"), ..none() }, true),
            (FilterArgs { pipeline: of("greench/other"), ..none() }, false),
            (FilterArgs { pipeline: of("other/tiles"), ..none() }, false),
            (FilterArgs { since: Some(time("2026-05-04T08:00:00Z")), ..none() }, true),
            (FilterArgs { since: Some(time("2026-05-04T08:00:01Z")), ..none() }, false),
            (FilterArgs { until: Some(time("2026-05-04T08:00:01Z")), ..none() }, true),
            (FilterArgs { until: Some(time("2026-05-04T08:00:00Z")), ..none() }, false),
            (FilterArgs { id: Some("id-1".to_owned()), ..none() }, true),
            (FilterArgs { id: Some("id-2".to_owned()), ..none() }, false),
            (FilterArgs { reasons: vec![Reason::InvalidImage], id: Some("id-2".to_owned()), ..none() }, false),
        ];
        for (filter, expected) in cases {
            assert_eq!(filter.matches(&entry()), expected, "{filter:?}");
            let asks = format!("{filter:?}") != format!("{:?}", none());
            assert_eq!(filter.matches(&ParkedMessage::default()), !asks, "of a message without headers: {filter:?}");
        }
    }

    #[test]
    fn times_are_moments_or_how_long_ago() {
        let now = time("2026-05-04T08:00:00Z");
        for (text, expected) in [
            ("2026-05-03T00:00:00Z", "2026-05-03T00:00:00Z"),
            ("2026-05-03T00:00:00+02:00", "2026-05-02T22:00:00Z"),
            ("2h", "2026-05-04T06:00:00Z"),
            ("1h30m", "2026-05-04T06:30:00Z"),
            ("7d", "2026-04-27T08:00:00Z"),
        ] {
            assert_eq!(at(text, now), Ok(time(expected)), "{text}");
        }
        for text in ["", "yesterday", "2", "-2h", "2h ago", "1 month", "2026-05-03", "999999999d"] {
            assert!(at(text, now).is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_reason_or_pipeline_is_refused() {
        assert_eq!(reason("CrashingMessage"), Ok(Reason::CrashingMessage));
        assert!(reason("invalidimage").is_err() && reason("").is_err());
        for text in ["", "tiles", "/tiles", "greench/", "a/b/c"] {
            assert!(pipeline(text).is_err(), "{text:?}");
        }
    }
}
