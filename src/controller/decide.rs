//! The number of consumer pods: a pure function of the spec, the observed load, the memory of earlier decisions and the
//! time. An unknown queue depth never counts as an empty queue and never reduces the size (`decide/tests.rs`).

use std::collections::VecDeque;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::observation::Observation;
use crate::api::{ImagePipelineSpec, Scaling};
use crate::pod_status::PodStatus;
use crate::rabbitmq::QueueDepth;
use crate::reason::Reason;

mod pace;

use pace::{Pace, Progress};

/// Used if the spec sets none and no throughput has been measured.
const DEFAULT_MESSAGES_PER_REPLICA: i32 = 50;

/// A queue that has been empty for longer than this is read less often: every [`SELDOM`] poll intervals, at least every
/// [`SELDOM_AT_MOST`], unless the poll interval is longer.
const IDLE_AFTER: SignedDuration = SignedDuration::from_mins(30);
const SELDOM: u32 = 5;
const SELDOM_AT_MOST: Duration = Duration::from_secs(10);

/// The part of the spec that decides the size.
#[derive(Clone, Debug, PartialEq)]
pub struct SizeSpec<'a> {
    /// A fixed size, which overrides everything else.
    pub replicas: Option<i32>,
    /// Whether the size is frozen.
    pub paused: bool,
    /// How the size follows the queue depth otherwise.
    pub scaling: &'a Scaling,
}

impl<'a> From<&'a ImagePipelineSpec> for SizeSpec<'a> {
    fn from(spec: &'a ImagePipelineSpec) -> Self {
        Self { replicas: spec.replicas, paused: spec.paused, scaling: &spec.scaling }
    }
}

/// The load that one reconcile observed.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    /// The Deployment's current size; `None` if there is no Deployment yet.
    pub current: Option<i32>,
    /// `None` if the queue could not be read.
    pub depth: Option<QueueDepth>,
    /// Unacknowledged messages that the pods report.
    pub in_flight: u64,
    pub progress: Progress,
    /// Whether any pod reports an open consumer on the queue.
    pub consuming: bool,
    /// Whether a pod did not report, so that it may hold messages that `in_flight` lacks.
    pub unasked: bool,
    /// Whether more pods would not help.
    pub held: bool,
    /// Whether a dependency of all pods is down, so that running pods make no progress either.
    pub away: bool,
    /// Messages per second that one pod finishes; `None` if no pod reports it.
    pub throughput: Option<f64>,
}

impl Load {
    /// Includes pods that are terminating: they still hold messages.
    pub fn of(observed: &Observation) -> Self {
        let reports = || observed.pods.iter().filter_map(|pod| pod.report.as_ref());
        Self {
            current: observed.size(),
            depth: observed.depth.as_ref().ok().copied(),
            in_flight: reports().map(|report| report.in_flight).fold(0, u64::saturating_add),
            progress: progress(reports()),
            consuming: reports().any(|report| report.consuming),
            // A pod that is not ready may hold messages too, for example while S3 fails. A terminating pod on a lost
            // node may stay forever, so it does not count.
            unasked: observed.pods.iter().any(|pod| pod.report.is_none() && (pod.ready || pod.running && !pod.ending)),
            held: observed.growth_blocker().is_some(),
            away: observed.dependency_fault().is_some(),
            throughput: throughput(reports()),
        }
    }
}

/// The sum over the consuming pods. It falls when a pod goes, so [`Pace`] compares only sums of equally many pods.
fn progress<'a>(reports: impl Iterator<Item = &'a PodStatus>) -> Progress {
    reports.filter(|report| report.consuming).fold(Progress::default(), |Progress { finished, pods }, report| {
        Progress {
            finished: finished.saturating_add(report.processed).saturating_add(report.parked),
            pods: pods.saturating_add(1),
        }
    })
}

/// The mean over the pods; an idle pod reports its speed when it last worked. Pods are not trusted: values that are not
/// a positive finite number are ignored.
fn throughput<'a>(reports: impl Iterator<Item = &'a PodStatus>) -> Option<f64> {
    let speeds = reports.filter_map(|report| report.throughput).filter(|speed| speed.is_finite() && *speed > 0.0);
    let (sum, pods) = speeds.fold((0.0, 0.0), |(sum, pods), speed| (sum + speed, pods + 1.0));
    (pods > 0.0).then(|| sum / pods)
}

/// State between two decisions. If it is lost in a restart of the operator, a smaller size comes later and the
/// throughput is measured again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// The throughput reported last, used while no pod reports one.
    throughput: Option<f64>,
    /// Sizes that were needed, each with the time until which it was needed. Times rise and sizes fall from front to
    /// back: a size that a later one reaches is dropped.
    needs: VecDeque<(Timestamp, i32)>,
    pace: Pace,
    /// Since when the backlog has been 0; `None`: it is not, or is unknown.
    empty_since: Option<Timestamp>,
}

impl Memory {
    /// Adds the size that is needed now, for the backlog or to keep up, and drops the sizes older than the window. An
    /// empty memory starts with the current size as needed until now.
    fn with(&self, now: Timestamp, wanted: i32, current: i32, pace: Pace, window: Duration) -> Self {
        let wanted = wanted.max(pace.pods().min(current));
        let mut needs = self.needs.clone();
        // The size of the last poll was needed until this poll.
        let last = needs.pop_back().map_or(current, |(_, last)| last);
        for need in [last, wanted] {
            while needs.pop_back_if(|(_, earlier)| *earlier <= need).is_some() {}
            needs.push_back((now, need));
        }
        let left = |(until, _): &mut (Timestamp, i32)| now.duration_since(*until).as_secs_f64() >= window.as_secs_f64();
        while needs.len() > 1 && needs.pop_front_if(left).is_some() {}
        Self { needs, pace, ..self.clone() }
    }

    /// Drops the needed sizes, so that the window starts again.
    fn without_needs(self) -> Self {
        Self { needs: VecDeque::new(), ..self }
    }

    /// The largest size needed within the window.
    fn most(&self) -> i32 {
        self.needs.front().map_or(0, |(_, most)| *most)
    }
}

/// What a size follows from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Basis {
    /// `replicas`.
    FixedSize,
    Paused,
    /// The size stays, because the backlog is unknown.
    DepthUnknown,
    /// The backlog needs more pods, but more would not help.
    GrowthHeld,
    ScaledUp,
    ScaledDown,
    /// The size fits the backlog, or the time for a smaller one has not come.
    BacklogCounted,
}

impl Basis {
    pub fn reason(self) -> Reason {
        match self {
            Self::FixedSize => Reason::FixedSize,
            Self::Paused => Reason::Paused,
            Self::DepthUnknown => Reason::DepthUnknown,
            Self::GrowthHeld => Reason::GrowthHeld,
            Self::ScaledUp => Reason::ScaledUp,
            Self::ScaledDown => Reason::ScaledDown,
            Self::BacklogCounted => Reason::BacklogCounted,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The size to apply.
    pub replicas: i32,
    pub basis: Basis,
    /// Messages ready or in flight; `None` if the depth is unknown.
    pub backlog: Option<i64>,
    pub messages_per_replica: f64,
    /// Whether the backlog needs more pods than the maximum.
    pub limited: bool,
    /// Time until the next reconcile.
    pub check_again_in: Duration,
}

impl Decision {
    /// Why this size, for the event of a changed size.
    pub fn explained(&self) -> String {
        let backlog = self.backlog.map_or_else(|| "unknown".to_owned(), |backlog| backlog.to_string());
        match self.basis {
            Basis::FixedSize => "fixed by spec.replicas".to_owned(),
            Basis::Paused => "spec.paused".to_owned(),
            Basis::DepthUnknown => "backlog unknown, kept within the limits of scaling".to_owned(),
            Basis::GrowthHeld => format!("backlog {backlog}, but more pods would not help now"),
            _ => format!("backlog {backlog}, {:.0} messages per pod", self.messages_per_replica),
        }
    }
}

/// Decides the size. A fixed or frozen size stays. Otherwise the size grows immediately, except while more pods would
/// not help: then only a first pod is started. It shrinks to the largest size that was needed within `scaleDownAfter`,
/// for the backlog or to keep up, and stays while the depth is unknown.
pub fn decide(asked: &SizeSpec<'_>, load: &Load, memory: &Memory, now: Timestamp) -> (Decision, Memory) {
    let SizeSpec { replicas, paused, scaling } = *asked;
    let (min, max) = (scaling.min_replicas, scaling.max_replicas.max(scaling.min_replicas));
    let backlog = trusted_backlog(load);
    let throughput = load.throughput.or(memory.throughput);
    let empty_since = (backlog == Some(0)).then(|| memory.empty_since.unwrap_or(now));
    let memory = Memory { throughput, empty_since, ..memory.clone() };
    let messages_per_replica = messages_per_replica(scaling, throughput);
    let poll_interval = Duration::from(scaling.poll_interval);
    let check_again_in = check_again_in(poll_interval, empty_since, now);
    let decision =
        |replicas, basis, limited| Decision { replicas, basis, backlog, messages_per_replica, limited, check_again_in };
    if let Some(replicas) = replicas {
        return (decision(replicas, Basis::FixedSize, false), memory.without_needs());
    }
    if paused {
        return (decision(load.current.unwrap_or(min), Basis::Paused, false), memory.without_needs());
    }
    let current = load.current.unwrap_or(min).clamp(min, max);
    let Some(backlog) = backlog else {
        return (decision(current, Basis::DepthUnknown, false), memory.without_needs());
    };
    let needed = (backlog as f64 / messages_per_replica).ceil();
    let limited = needed > f64::from(max);
    let wanted = (needed as i32).clamp(min, max);
    // At least two polls: RabbitMQ may report a false zero while a queue's leader moves.
    let window = Duration::from(scaling.scale_down_after).max(poll_interval);
    // Pods that keep up leave no backlog; if they were removed, the backlog would return. While a dependency is down,
    // the number of finished messages says nothing about the pods' speed.
    let pace = match load.away {
        true => Pace::default(),
        false => memory.pace.with(now, load.progress, load.depth.is_some_and(|depth| depth.ready > 0)),
    };
    let memory = memory.with(now, wanted, current, pace, window);
    let most = memory.most();
    let (replicas, basis) = match () {
        () if wanted > current && load.held => (current.max(1), Basis::GrowthHeld),
        () if wanted > current => (wanted, Basis::ScaledUp),
        () if most < current && !load.unasked => (most, Basis::ScaledDown),
        () => (current, Basis::BacklogCounted),
    };
    (decision(replicas, basis, limited), memory)
}

fn check_again_in(poll_interval: Duration, empty_since: Option<Timestamp>, now: Timestamp) -> Duration {
    match empty_since {
        Some(since) if now.duration_since(since) >= IDLE_AFTER => {
            poll_interval.max(SELDOM_AT_MOST.min(poll_interval.saturating_mul(SELDOM)))
        }
        _ => poll_interval,
    }
}

/// The backlog per pod: `messagesPerReplica`, or what one pod finishes within `drainWithin`.
fn messages_per_replica(scaling: &Scaling, throughput: Option<f64>) -> f64 {
    match (scaling.messages_per_replica, scaling.drain_within, throughput) {
        // Finite, so that a backlog divided by it never becomes 0.
        (None, Some(time), Some(throughput)) => (throughput * Duration::from(time).as_secs_f64()).min(f64::MAX),
        (given, ..) => given.unwrap_or(DEFAULT_MESSAGES_PER_REPLICA).max(1).into(),
    }
}

/// Ready plus in-flight messages; `None` if unknown. 0 ready and 0 consumers while a pod consumes is not an empty
/// queue: a quorum queue without a reachable leader answers so (RabbitMQ's `rabbit_quorum_queue:stat/2`).
fn trusted_backlog(load: &Load) -> Option<i64> {
    let depth = load.depth?;
    if depth.ready == 0 && depth.consumers == 0 && load.consuming {
        return None;
    }
    Some(i64::from(depth.ready).saturating_add(i64::try_from(load.in_flight).unwrap_or(i64::MAX)))
}

#[cfg(test)]
mod tests;
