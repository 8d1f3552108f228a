//! How many consumer pods there should be: one pure function of what was asked for, what was
//! observed, what is remembered and the time. It must never take an unreadable depth for an empty
//! queue, and never shrink on one.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;

use super::observed::Observed;
use crate::api::{ImagePipelineSpec, Scaling};
use crate::pod_status::PodStatus;
use crate::queue::QueueDepth;
use crate::reason::Reason;

mod pace;

use pace::{Pace, Work};

/// Where the user says nothing of it, and nothing has been measured.
const DEFAULT_MESSAGES_PER_REPLICA: i32 = 50;

/// What the user asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked<'a> {
    /// A fixed size, which nothing changes.
    pub replicas: Option<i32>,
    /// Whether the size stays as it is.
    pub paused: bool,
    /// How the size follows the queue otherwise.
    pub scaling: &'a Scaling,
}

impl<'a> From<&'a ImagePipelineSpec> for Asked<'a> {
    fn from(spec: &'a ImagePipelineSpec) -> Self {
        Self { replicas: spec.replicas, paused: spec.paused, scaling: &spec.scaling }
    }
}

/// What one look at a pipeline found out about its load.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    /// The Deployment's present size; `None` if there is no Deployment yet.
    pub current: Option<i32>,
    /// Messages ready in the queue and consumers on it; `None` if they could not be read.
    pub depth: Option<QueueDepth>,
    /// Messages that the pods say they hold.
    pub in_flight: u64,
    /// What the pods have got done.
    pub work: Work,
    /// Whether a pod says that it has an open consumer on the queue.
    pub consuming: bool,
    /// Whether a pod could not be asked, so that it may hold messages nobody counted.
    pub unasked: bool,
    /// Whether more pods could not help.
    pub held: bool,
    /// Whether that is for what all pods need and is down, so that those that run do nothing either.
    pub away: bool,
    /// Messages that a pod finishes in a second of work; `None` if no pod tells.
    pub throughput: Option<f64>,
}

impl Load {
    /// The load in what was observed. A pod that is told to stop still holds messages, so it counts.
    pub fn of(observed: &Observed) -> Self {
        let reports = || observed.pods.iter().filter_map(|pod| pod.report.as_ref());
        Self {
            current: observed.size(),
            depth: observed.depth.as_ref().ok().copied(),
            in_flight: reports().map(|report| report.in_flight).fold(0, u64::saturating_add),
            work: work(reports()),
            consuming: reports().any(|report| report.consuming),
            // One that is not ready may hold messages as well, for a store that fails. One that ends, on a
            // node that is lost, may be there for ever.
            unasked: observed.pods.iter().any(|pod| pod.report.is_none() && (pod.ready || pod.running && !pod.ending)),
            held: observed.no_use_growing().is_some(),
            away: observed.away().is_some(),
            throughput: throughput(reports()),
        }
    }
}

/// Of the pods that consume: one that goes takes its figures along.
fn work<'a>(reports: impl Iterator<Item = &'a PodStatus>) -> Work {
    reports.filter(|report| report.consuming).fold(Work::default(), |Work { finished, pods }, report| Work {
        finished: finished.saturating_add(report.processed).saturating_add(report.parked),
        pods: pods.saturating_add(1),
    })
}

/// The mean of what the pods say; an idle one says how fast it was when it worked. A pod is not
/// trusted: nothing that is no speed counts.
fn throughput<'a>(reports: impl Iterator<Item = &'a PodStatus>) -> Option<f64> {
    let speeds = reports.filter_map(|report| report.throughput).filter(|speed| speed.is_finite() && *speed > 0.0);
    let (sum, pods) = speeds.fold((0.0, 0.0), |(sum, pods), speed| (sum + speed, pods + 1.0));
    (pods > 0.0).then(|| sum / pods)
}

/// What must be remembered from one decision to the next. Lost on a restart of the operator, which
/// only makes a shrink later, and has a speed measured anew.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// The speed that pods told last, for when there is none to tell.
    throughput: Option<f64>,
    /// Sizes that were needed and until when, the largest and oldest first: one that a later one
    /// reaches is left out.
    needs: VecDeque<(Timestamp, i32)>,
    pace: Pace,
}

impl Memory {
    /// With the size that is needed now, for the backlog or to keep up, without those of before the
    /// window. A memory without any begins with the present size as needed until now.
    fn with(&self, now: Timestamp, wanted: i32, current: i32, pace: Pace, window: Duration) -> Self {
        let wanted = wanted.max(pace.pods().min(current));
        let mut needs = self.needs.clone();
        // What the last reading asked for has held until this one.
        let last = needs.pop_back().map_or(current, |(_, last)| last);
        for need in [last, wanted] {
            while needs.pop_back_if(|(_, earlier)| *earlier <= need).is_some() {}
            needs.push_back((now, need));
        }
        let left = |(until, _): &mut (Timestamp, i32)| now.duration_since(*until).as_secs_f64() >= window.as_secs_f64();
        while needs.len() > 1 && needs.pop_front_if(left).is_some() {}
        Self { needs, pace, ..self.clone() }
    }

    /// Without the sizes that were needed: the window begins anew.
    fn without_needs(self) -> Self {
        Self { needs: VecDeque::new(), ..self }
    }

    /// The largest size needed within the window.
    fn most(&self) -> i32 {
        self.needs.front().map_or(0, |(_, most)| *most)
    }
}

/// The size wanted and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The size to apply.
    pub replicas: i32,
    /// What was decided upon.
    pub reason: Reason,
    /// Messages ready or in flight; `None` if the depth is unknown.
    pub backlog: Option<i64>,
    /// How much backlog one pod is for.
    pub messages_per_replica: f64,
    /// Whether the backlog asks for more than the maximum.
    pub limited: bool,
    /// When to look again.
    pub check_again_in: Duration,
}

impl Decision {
    /// Why the size is what it is, for a person.
    pub fn explained(&self) -> String {
        let backlog = self.backlog.map_or_else(|| "unknown".to_owned(), |backlog| backlog.to_string());
        match self.reason {
            Reason::FixedSize => "fixed by spec.replicas".to_owned(),
            Reason::Paused => "spec.paused".to_owned(),
            Reason::DepthUnknown => "backlog unknown, within the limits of spec.scaling".to_owned(),
            Reason::GrowthHeld => format!("backlog {backlog}, and more pods could not help now"),
            _ => format!("backlog {backlog}, {:.0} messages a pod", self.messages_per_replica),
        }
    }
}

/// Decides the size. One that the user has fixed or frozen is that. Else it grows at once, though
/// not while that could not help, where only a first pod is started; it shrinks to the most that was
/// needed, for the backlog or to keep up, within `scaleDownAfter`, and holds while the depth is unknown.
pub fn decide(asked: &Asked<'_>, load: &Load, memory: &Memory, now: Timestamp) -> (Decision, Memory) {
    let Asked { replicas, paused, scaling } = *asked;
    let (min, max) = (scaling.min_replicas, scaling.max_replicas.max(scaling.min_replicas));
    let backlog = trusted_backlog(load);
    let throughput = load.throughput.or(memory.throughput);
    let memory = Memory { throughput, ..memory.clone() };
    let messages_per_replica = messages_per_replica(scaling, throughput);
    let poll_interval = Duration::from(scaling.poll_interval);
    let decision = |replicas, reason, limited| Decision {
        replicas,
        reason,
        backlog,
        messages_per_replica,
        limited,
        check_again_in: poll_interval,
    };
    if let Some(replicas) = replicas {
        return (decision(replicas, Reason::FixedSize, false), memory.without_needs());
    }
    if paused {
        return (decision(load.current.unwrap_or(min), Reason::Paused, false), memory.without_needs());
    }
    let current = load.current.unwrap_or(min).clamp(min, max);
    let Some(backlog) = backlog else {
        return (decision(current, Reason::DepthUnknown, false), memory.without_needs());
    };
    let needed = (backlog as f64 / messages_per_replica).ceil();
    let limited = needed > f64::from(max);
    let wanted = (needed as i32).clamp(min, max);
    // Never on one reading: a broker may answer a false zero while a queue's leader moves.
    let window = Duration::from(scaling.scale_down_after).max(poll_interval);
    // Pods that keep up leave no backlog: without them it would be back, and they with it.
    // What they do while they can't says nothing of their speed.
    let pace = match load.away {
        true => Pace::default(),
        false => memory.pace.with(now, load.work, load.depth.is_some_and(|depth| depth.ready > 0)),
    };
    let memory = memory.with(now, wanted, current, pace, window);
    let most = memory.most();
    let (replicas, reason) = match () {
        () if wanted > current && load.held => (current.max(1), Reason::GrowthHeld),
        () if wanted > current => (wanted, Reason::ScaledUp),
        () if most < current && !load.unasked => (most, Reason::ScaledDown),
        () => (current, Reason::BacklogCounted),
    };
    (decision(replicas, reason, limited), memory)
}

/// How much backlog one pod is for: as given, or what it gets done within `drainWithin`.
fn messages_per_replica(scaling: &Scaling, throughput: Option<f64>) -> f64 {
    match (scaling.messages_per_replica, scaling.drain_within, throughput) {
        // Finite, so that a backlog is never none at all.
        (None, Some(time), Some(throughput)) => (throughput * Duration::from(time).as_secs_f64()).min(f64::MAX),
        (given, ..) => given.unwrap_or(DEFAULT_MESSAGES_PER_REPLICA).max(1).into(),
    }
}

/// Ready plus held; `None` if it can't be known. (0 ready, 0 consumers) while a pod consumes is no
/// empty queue: a quorum queue without a reachable leader answers so (RabbitMQ's
/// `rabbit_quorum_queue:stat/2`).
fn trusted_backlog(load: &Load) -> Option<i64> {
    let depth = load.depth?;
    if depth.ready == 0 && depth.consumers == 0 && load.consuming {
        return None;
    }
    Some(i64::from(depth.ready).saturating_add(i64::try_from(load.in_flight).unwrap_or(i64::MAX)))
}

#[cfg(test)]
mod tests;
