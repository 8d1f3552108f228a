//! The console's page: the values of its template, `page.html`. The page is complete without the script, and color is
//! never the only carrier of information.

use askama::Template;
use jiff::Timestamp;

use super::entry::{Advice, Entry, Urgency};
use super::history::Point;
use super::plot::{self, Curve, Series};
use crate::api::conditions::ConditionType;
use crate::html::Page;
use crate::version;

/// The console's own CSS.
pub const STYLE: &str = include_str!("page.css");
/// Fetches the page again and replaces the parts that have changed.
pub const SCRIPT: &str = include_str!("page.js");

/// Pipelines per page; each has four plots and two tables.
const AT_ONCE: usize = 50;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Role {
    /// Another operator is the leader, or the leader is not known yet.
    Waiting,
    /// This operator is the leader and waits for the first lists.
    Listing,
    /// This operator is the leader.
    Leading,
}

/// This operator, as the page names it.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// The holder identity in the Lease.
    pub identity: String,
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub lease: String,
}

/// The query of the request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PageQuery {
    /// Shows only pipelines whose namespace, name, queue, bucket or reason contains this text.
    pub find: String,
    /// Number of matching pipelines to skip.
    pub from: usize,
}

/// Namespace, name and entry of a pipeline.
pub type Shown<'a> = (&'a str, &'a str, &'a Entry);

#[derive(Template)]
#[template(path = "page.html")]
struct Body<'a> {
    about: &'a About,
    version: &'static str,
    time: String,
    summary: String,
    asked: &'a PageQuery,
    empty: Option<Empty>,
    articles: Vec<Article<'a>>,
    /// The text to find, encoded for a query.
    query: String,
    /// Number of pipelines to skip for the previous and the next page, if there is one.
    previous: Option<usize>,
    next: Option<usize>,
}

/// Why no pipeline is shown, and a command that helps.
struct Empty {
    text: &'static str,
    command: Option<String>,
}

/// One pipeline.
struct Article<'a> {
    /// Namespace and name.
    id: String,
    /// CSS class of the state.
    class: String,
    state: &'static str,
    /// Reason and message of the condition `Ready`.
    reason: &'a str,
    message: &'a str,
    entry: &'a Entry,
    advice: Vec<Advice>,
    plots: Vec<Plot>,
    /// The latest first.
    minutes: Vec<Minute>,
}

/// A plot with its name and current value.
struct Plot {
    name: &'static str,
    current: String,
    svg: String,
}

/// A row of the table of minutes.
struct Minute {
    time: String,
    backlog: String,
    parked: String,
    point: Point,
}

pub fn page(about: &About, work: Role, asked: &PageQuery, all: &[Shown<'_>], now: Timestamp) -> String {
    let mut found: Vec<Shown<'_>> = all.iter().copied().filter(|shown| matches(shown, &asked.find)).collect();
    found.sort_by_cached_key(|(namespace, name, entry)| (entry.state(), *namespace, *name));
    let next = asked.from.saturating_add(AT_ONCE);
    let body = Body {
        about,
        version: version::VERSION_AND_REVISION,
        time: now.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        summary: summary(work, all),
        asked,
        empty: found.is_empty().then(|| empty(about, work, all.len())),
        articles: found.iter().skip(asked.from).take(AT_ONCE).map(|shown| article(shown, now)).collect(),
        query: url::form_urlencoded::byte_serialize(asked.find.as_bytes()).collect(),
        previous: (asked.from > 0).then(|| asked.from.saturating_sub(AT_ONCE)),
        next: (next < found.len()).then_some(next),
    };
    Page { title: "Image pipelines", style: STYLE, script: SCRIPT }.around(&body.to_string())
}

fn matches((namespace, name, entry): &Shown<'_>, find: &str) -> bool {
    let flow = entry.flow.iter().flat_map(|flow| [flow.queue.as_str(), flow.bucket.as_str()]);
    let reason = entry.condition(ConditionType::Ready).map(|ready| ready.reason.as_str());
    let find = find.trim().to_lowercase();
    [*namespace, *name].into_iter().chain(flow).chain(reason).any(|text| text.to_lowercase().contains(&find))
}

fn summary(work: Role, all: &[Shown<'_>]) -> String {
    match work {
        Role::Waiting => return "This operator waits: it is not the leader.".to_owned(),
        Role::Listing => return "The operator is reading the pipelines from the API server.".to_owned(),
        Role::Leading => {}
    }
    let count = |state| all.iter().filter(|(.., entry)| entry.state() == state).count();
    let states = Urgency::ALL.map(|state| (count(state), state));
    let words = |count: usize, state: Urgency| match (count, state) {
        (1, _) | (_, Urgency::Noticed | Urgency::Unknown | Urgency::Fine) => state.words(),
        (_, Urgency::Failing) => "need attention",
    };
    let parts: Vec<_> = states
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, state)| format!("{count} {}", words(*count, *state)))
        .collect();
    let pipelines = if all.len() == 1 { "pipeline" } else { "pipelines" };
    let parts = if parts.is_empty() { String::new() } else { format!(": {}", parts.join(", ")) };
    format!("{} {pipelines}{parts}.", all.len())
}

/// The text in place of the pipelines. `count`: the number of all pipelines.
fn empty(about: &About, work: Role, count: usize) -> Empty {
    let About { namespace, lease, .. } = about;
    match work {
        Role::Waiting => Empty {
            text: "Another operator is the leader, or this operator can't reach the API server. The Lease names the \
                   leader's pod: forward a port to that pod.",
            command: Some(format!("kubectl -n {namespace} get lease {lease}")),
        },
        Role::Listing => Empty { text: "Waiting for the API server.", command: None },
        Role::Leading if count > 0 => {
            Empty { text: "No namespace, name, queue, bucket or reason contains this text.", command: None }
        }
        Role::Leading => Empty {
            text: "No ImagePipeline exists in the namespaces that this operator watches. Write a manifest and apply it.",
            command: Some("kubectl explain imgp.spec --recursive".to_owned()),
        },
    }
}

fn article<'a>((namespace, name, entry): &Shown<'a>, now: Timestamp) -> Article<'a> {
    let entry: &'a Entry = entry;
    let state = entry.state();
    let ready = entry.condition(ConditionType::Ready);
    let points = entry.history.minutes(now);
    Article {
        id: format!("{namespace}/{name}"),
        class: format!("{state:?}").to_lowercase(),
        state: state.words(),
        reason: ready.map_or("", |ready| &ready.reason),
        message: ready.map_or("", |ready| &ready.message),
        entry,
        advice: entry.advice(namespace, name),
        // A resource that can't be parsed is never observed, so it has no history.
        plots: if entry.flow.is_some() { plots(entry, &points) } else { Vec::new() },
        minutes: points.into_iter().rev().flatten().map(minute).collect(),
    }
}

fn plots(entry: &Entry, minutes: &[Option<Point>]) -> Vec<Plot> {
    let series = |class, curve, of: &dyn Fn(&Point) -> Option<f64>| Series {
        class,
        curve,
        values: minutes.iter().map(|point| point.as_ref().and_then(of)).collect(),
    };
    let count = |count: Option<i64>| count.map(|count| count as f64);
    let status = &entry.status;
    let total: u64 = minutes.iter().flatten().map(|point| point.stored).sum();
    let pods = format!("{} of {} ready", status.ready_replicas, status.desired_replicas);
    vec![
        plot(
            "Waiting",
            known(status.backlog, "unknown"),
            &[series("backlog", Curve::Area, &|point| count(point.backlog))],
        ),
        plot(
            "Consumers",
            pods,
            &[
                series("ready", Curve::Area, &|point| Some(f64::from(point.ready))),
                series("desired", Curve::Line, &|point| Some(f64::from(point.desired))),
            ],
        ),
        plot(
            "Stored/min",
            format!("{total} this hour"),
            &[series("stored", Curve::Area, &|point| Some(point.stored as f64))],
        ),
        plot(
            "Parked",
            known(status.parked, "none seen"),
            &[series("parked", Curve::Area, &|point| count(point.parked))],
        ),
    ]
}

fn known(count: Option<i64>, otherwise: &str) -> String {
    count.map_or_else(|| otherwise.to_owned(), |count| count.to_string())
}

/// The alternative text has only the current and the largest value: the table has all values.
fn plot(name: &'static str, current: String, series: &[Series]) -> Plot {
    let values = || series.last().into_iter().flat_map(|series| series.values.iter().flatten());
    let most = values().copied().fold(0.0_f64, f64::max);
    let known = values().count();
    let alternative = format!("{name} over the last hour: {current}; at most {most}; known for {known} of 60 minutes");
    Plot { name, current, svg: plot::svg(&alternative, series) }
}

fn minute(point: Point) -> Minute {
    let time = Timestamp::from_second(point.minute.saturating_mul(60)).unwrap_or_default();
    Minute {
        time: time.strftime("%H:%M").to_string(),
        backlog: known(point.backlog, "unknown"),
        parked: known(point.parked, "unknown"),
        point,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests;
