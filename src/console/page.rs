//! The console's page as HTML, complete without the script. Values are escaped, and color is never the only carrier of
//! information.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::entry::{Advice, Entry, State};
use super::history::Point;
use super::plot::{self, Curve, Series};
use crate::api::conditions::ConditionType;
use crate::html::{Page, escape};
use crate::version;

/// The console's own CSS.
pub const STYLE: &str = include_str!("page.css");
/// Fetches the page again and replaces the parts that have changed.
pub const SCRIPT: &str = include_str!("page.js");

/// Pipelines per page; each has four plots and two tables.
const AT_ONCE: usize = 50;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Work {
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
pub struct Asked {
    /// Shows only pipelines whose namespace, name, queue, bucket or reason contains this text.
    pub find: String,
    /// Number of matching pipelines to skip.
    pub from: usize,
}

/// Namespace, name and entry of a pipeline.
pub type Shown<'a> = (&'a str, &'a str, &'a Entry);

pub fn page(about: &About, work: Work, asked: &Asked, all: &[Shown<'_>], now: Timestamp) -> String {
    let mut found: Vec<Shown<'_>> = all.iter().copied().filter(|shown| matches(shown, &asked.find)).collect();
    found.sort_by_cached_key(|(namespace, name, entry)| (entry.state(), *namespace, *name));
    let articles: String = found.iter().skip(asked.from).take(AT_ONCE).map(|shown| article(shown, now)).collect();
    let nothing = if found.is_empty() { nothing(about, work, all.len()) } else { String::new() };
    let body = format!(
        r##"<a class="skip" href="#pipelines">To the pipelines</a>
<header>
<h1>Image pipelines</h1>
<p id="summary" role="status">{summary}</p>
<p><span id="as-of">As of {time} UTC.</span> Operator {identity}, version {version}. Figures cover the time since it became the leader, at most one hour.
<button type="button" id="pause" aria-pressed="false" hidden>Pause updates</button></p>
<form role="search"><label for="find">Find a pipeline</label>
<input id="find" name="find" type="search" value="{find}" autocomplete="off"><button>Find</button></form>
</header>
<main id="pipelines" tabindex="-1" aria-label="Pipelines">
{nothing}{articles}</main>
<nav id="pages" aria-label="Pages">{pages}</nav>
"##,
        summary = summary(work, all),
        time = now.strftime("%Y-%m-%d %H:%M:%S"),
        identity = escape(&about.identity),
        version = version::VERSION_AND_REVISION,
        find = escape(&asked.find),
        pages = pages(asked, found.len()),
    );
    Page { title: "Image pipelines", style: STYLE, script: SCRIPT }.around(&body)
}

fn matches((namespace, name, entry): &Shown<'_>, find: &str) -> bool {
    let flow = entry.flow.iter().flat_map(|flow| [flow.queue.as_str(), flow.bucket.as_str()]);
    let reason = entry.condition(ConditionType::Ready).map(|ready| ready.reason.as_str());
    let find = find.trim().to_lowercase();
    [*namespace, *name].into_iter().chain(flow).chain(reason).any(|text| text.to_lowercase().contains(&find))
}

fn summary(work: Work, all: &[Shown<'_>]) -> String {
    match work {
        Work::Waiting => return "This operator waits: it is not the leader.".to_owned(),
        Work::Listing => return "The operator is reading the pipelines from the API server.".to_owned(),
        Work::Leading => {}
    }
    let count = |state| all.iter().filter(|(.., entry)| entry.state() == state).count();
    let states = State::ALL.map(|state| (count(state), state));
    let words = |count: usize, state: State| match (count, state) {
        (1, _) | (_, State::Noticed | State::Unknown | State::Fine) => state.words(),
        (_, State::Failing) => "need attention",
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

/// The text in place of the pipelines: why none is shown, and what to do.
fn nothing(about: &About, work: Work, there: usize) -> String {
    let About { namespace, lease, .. } = about;
    let (text, command) = match work {
        Work::Waiting => (
            "Another operator is the leader, or this operator can't reach the API server. The Lease names the leader's \
             pod: forward a port to that pod.",
            format!("kubectl -n {namespace} get lease {lease}"),
        ),
        Work::Listing => return "<p>Waiting for the API server.</p>\n".to_owned(),
        Work::Leading if there > 0 => {
            return "<p>No namespace, name, queue, bucket or reason contains this text.</p>\n".to_owned();
        }
        Work::Leading => (
            "No ImagePipeline exists in the namespaces that this operator watches. Write a manifest and apply it.",
            "kubectl explain imgp.spec --recursive".to_owned(),
        ),
    };
    format!("<p>{text}</p>\n<p><code>{}</code></p>\n", escape(&command))
}

fn pages(asked: &Asked, found: usize) -> String {
    let query: String = url::form_urlencoded::byte_serialize(asked.find.as_bytes()).collect();
    let link = |from: usize, words: &str| format!("<a href=\"?find={}&amp;from={from}\">{words}</a> ", escape(&query));
    let before = (asked.from > 0).then(|| link(asked.from.saturating_sub(AT_ONCE), "Previous"));
    let next = asked.from.saturating_add(AT_ONCE);
    let after = (next < found).then(|| link(next, "Next"));
    [before, after].into_iter().flatten().collect()
}

fn article((namespace, name, entry): &Shown<'_>, now: Timestamp) -> String {
    let (id, state) = (escape(&format!("{namespace}/{name}")), entry.state());
    let ready = entry.condition(ConditionType::Ready);
    let (reason, message) = ready.map_or(("", ""), |ready| (ready.reason.as_str(), ready.message.as_str()));
    let advice = entry.advice(namespace, name);
    let advice_text = if advice.is_empty() { format!("<p>{}</p>\n", escape(message)) } else { advice_list(&advice) };
    let flow = entry.flow.as_ref().map_or_else(String::new, |flow| {
        format!("<p>queue <b>{}</b> to bucket <b>{}</b></p>\n", escape(&flow.queue), escape(&flow.bucket))
    });
    let minutes = entry.history.minutes(now);
    let (table, conditions) = (minutes_table(&minutes, now), conditions(entry));
    // A resource that can't be parsed is never observed, so it has no history.
    let plots = if entry.flow.is_some() { plots(entry, &minutes) } else { String::new() };
    format!(
        r#"<article id="{id}" aria-labelledby="{id}:name" class="{class}">
<h2 id="{id}:name"><span class="state">{words}</span> {id} <small>{reason}</small></h2>
{flow}{advice_text}<div class="plots">
{plots}</div>
<details id="{id}:conditions"><summary>All conditions<span class="unseen"> of {id}</span></summary>
{conditions}</details>
<details id="{id}:minutes"><summary>Minute by minute<span class="unseen">, {id}</span></summary>
{table}</details>
</article>
"#,
        class = format!("{state:?}").to_lowercase(),
        words = state.words(),
        reason = escape(reason),
    )
}

fn advice_list(advice: &[Advice]) -> String {
    let item =
        |Advice { text, command }: &Advice| format!("<li>{}<br><code>{}</code></li>\n", escape(text), escape(command));
    format!("<ul class=\"advice\" aria-label=\"What to do\">\n{}</ul>\n", advice.iter().map(item).collect::<String>())
}

fn plots(entry: &Entry, minutes: &[Option<Point>]) -> String {
    let series = |class, curve, of: &dyn Fn(&Point) -> Option<f64>| Series {
        class,
        curve,
        values: minutes.iter().map(|point| point.as_ref().and_then(of)).collect(),
    };
    let count = |count: Option<i64>| count.map(|count| count as f64);
    let status = &entry.status;
    let total: u64 = minutes.iter().flatten().map(|point| point.stored).sum();
    let pods = format!("{} of {} ready", status.ready_replicas, status.desired_replicas);
    [
        figure(
            "Waiting",
            &known(status.backlog, "unknown"),
            vec![series("backlog", Curve::Area, &|point| count(point.backlog))],
        ),
        figure(
            "Consumers",
            &pods,
            vec![
                series("ready", Curve::Area, &|point| Some(f64::from(point.ready))),
                series("desired", Curve::Line, &|point| Some(f64::from(point.desired))),
            ],
        ),
        figure(
            "Stored/min",
            &format!("{total} this hour"),
            vec![series("stored", Curve::Area, &|point| Some(point.stored as f64))],
        ),
        figure(
            "Parked",
            &known(status.parked, "none seen"),
            vec![series("parked", Curve::Area, &|point| count(point.parked))],
        ),
    ]
    .concat()
}

fn known(count: Option<i64>, otherwise: &str) -> String {
    count.map_or_else(|| otherwise.to_owned(), |count| count.to_string())
}

/// A plot with its name and current value. The alternative text has no more than that: the table has all values.
fn figure(name: &str, now: &str, series: Vec<Series>) -> String {
    let values = || series.last().into_iter().flat_map(|series| series.values.iter().flatten());
    let most = values().copied().fold(0.0_f64, f64::max);
    let known = values().count();
    let alternative = format!("{name} over the last hour: {now}; at most {most}; known for {known} of 60 minutes");
    format!(
        "<figure><figcaption>{name} <b>{}</b></figcaption>{}</figure>\n",
        escape(now),
        plot::svg(&alternative, &series)
    )
}

fn minutes_table(minutes: &[Option<Point>], now: Timestamp) -> String {
    let mut rows = String::new();
    for point in minutes.iter().rev().flatten() {
        let Point { minute, backlog, parked, desired, ready, stored } = point;
        let time = Timestamp::from_second(minute.saturating_mul(60)).unwrap_or(now).strftime("%H:%M").to_string();
        let (backlog, parked) = (known(*backlog, "unknown"), known(*parked, "unknown"));
        rows += &format!(
            "<tr><th scope=\"row\">{time}</th><td>{backlog}</td><td>{desired}</td><td>{ready}</td><td>{stored}</td>\
             <td>{parked}</td></tr>\n"
        );
    }
    let heads = ["UTC", "waiting (maximum)", "desired consumers", "ready", "stored", "parked"];
    table(&heads, &rows)
}

fn conditions(entry: &Entry) -> String {
    let row = |condition: &Condition| {
        let since = condition.last_transition_time.0.strftime("%Y-%m-%d %H:%M:%S");
        let (status, reason, message) =
            (escape(&condition.status), escape(&condition.reason), escape(&condition.message));
        let kind = escape(&condition.type_);
        format!(
            "<tr><th scope=\"row\">{kind}</th><td>{status}</td><td>{reason}</td><td>{since}</td><td>{message}</td></tr>\n"
        )
    };
    table(
        &["condition", "status", "reason", "since, UTC", "message"],
        &entry.status.conditions.iter().map(row).collect::<String>(),
    )
}

fn table(heads: &[&str], rows: &str) -> String {
    let heads: String = heads.iter().map(|head| format!("<th scope=\"col\">{head}</th>")).collect();
    format!("<div class=\"wide\"><table>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}</tbody></table></div>\n")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests;
