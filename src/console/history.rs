//! The last hour of a pipeline: at most 60 points, one per minute. A minute without a reconcile has no point. Pure: the
//! time is an argument.

use std::collections::{HashMap, HashSet, VecDeque};

use jiff::Timestamp;

pub const MINUTES: usize = 60;

/// What one reconcile found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Look {
    /// Messages ready or in flight; `None`: unknown.
    pub backlog: Option<i64>,
    /// Messages in the parking queue; `None`: unknown.
    pub parked: Option<i64>,
    /// The decided size.
    pub desired: i32,
    pub ready: i32,
    /// All pods, each with the number of messages stored since its process started, if the pod reports it.
    pub pods: Vec<(String, Option<u64>)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Point {
    /// Minutes since the Unix epoch.
    pub minute: i64,
    /// The largest backlog of the minute.
    pub backlog: Option<i64>,
    /// The last number of parked messages.
    pub parked: Option<i64>,
    /// The largest decided size.
    pub desired: i32,
    /// The highest number of ready pods.
    pub ready: i32,
    /// Messages stored, as the pods reported them.
    pub stored: u64,
}

#[derive(Clone, Debug, Default)]
pub struct History {
    points: VecDeque<Point>,
    /// The last count of each current pod.
    stored: HashMap<String, u64>,
}

impl History {
    pub fn add(&mut self, look: &Look, now: Timestamp) {
        let stored = self.stored_since(&look.pods);
        let minute = minute_of(now);
        if self.points.back().is_none_or(|last| last.minute < minute) {
            self.points.push_back(Point { minute, ..Point::default() });
        }
        while self.points.len() > MINUTES {
            self.points.pop_front();
        }
        let Some(point) = self.points.back_mut() else { return };
        point.backlog = point.backlog.max(look.backlog);
        point.parked = look.parked;
        point.desired = point.desired.max(look.desired);
        point.ready = point.ready.max(look.ready);
        point.stored = point.stored.saturating_add(stored);
    }

    /// The last 60 minutes, the current minute last; `None`: a minute without a reconcile.
    pub fn minutes(&self, now: Timestamp) -> Vec<Option<Point>> {
        let last = minute_of(now);
        let mut minutes = vec![None; MINUTES];
        for point in &self.points {
            let place = usize::try_from(last - point.minute).ok().and_then(|ago| (MINUTES - 1).checked_sub(ago));
            if let Some(minute) = place.and_then(|place| minutes.get_mut(place)) {
                *minute = Some(*point);
            }
        }
        minutes
    }

    /// The messages stored since the last reconcile. The first reconcile counts none: its pods may have stored them
    /// long ago. A smaller count comes from a restarted process.
    fn stored_since(&mut self, pods: &[(String, Option<u64>)]) -> u64 {
        let first = self.points.is_empty();
        let mut stored = 0_u64;
        for (pod, now) in pods {
            let Some(now) = *now else { continue };
            let before = self.stored.insert(pod.clone(), now).or(first.then_some(now));
            let since = before.and_then(|before| now.checked_sub(before)).unwrap_or(now);
            stored = stored.saturating_add(since);
        }
        let there: HashSet<&str> = pods.iter().map(|(pod, _)| pod.as_str()).collect();
        self.stored.retain(|pod, _| there.contains(pod.as_str()));
        stored
    }
}

fn minute_of(now: Timestamp) -> i64 {
    now.as_second().div_euclid(60)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(600_000 + seconds).unwrap()
    }

    fn pods(reports: &[(&str, Option<u64>)]) -> Look {
        let pods = reports.iter().map(|(pod, stored)| ((*pod).to_owned(), *stored)).collect();
        Look { pods, ..Look::default() }
    }

    #[test]
    fn a_minute_keeps_the_most_that_was_seen_in_it_and_the_parked_of_its_end() {
        let mut history = History::default();
        for (seconds, backlog, parked, desired, ready) in [
            (0, None, Some(9), 0, 0),
            (2, Some(300), Some(1), 6, 0),
            (50, Some(4), Some(2), 1, 5),
            (61, None, None, 0, 1),
        ] {
            history.add(&Look { backlog, parked, desired, ready, pods: vec![] }, at(seconds));
        }
        let minutes = history.minutes(at(65));
        let first = Point { minute: 10_000, backlog: Some(300), parked: Some(2), desired: 6, ready: 5, stored: 0 };
        assert_eq!(minutes[58], Some(first));
        assert_eq!(minutes[59], Some(Point { minute: 10_001, ready: 1, ..Point::default() }));
        assert_eq!(minutes[..58], [None; 58]);
    }

    #[test]
    fn an_hour_is_kept_and_a_minute_nobody_looked_at_stays_empty() {
        let mut history = History::default();
        for minute in (0..100).filter(|minute| *minute != 90) {
            history.add(&Look { desired: minute, ..Look::default() }, at(i64::from(minute) * 60));
        }
        assert_eq!(history.points.len(), MINUTES);
        let desired: Vec<_> =
            history.minutes(at(99 * 60)).iter().map(|point| point.map(|point| point.desired)).collect();
        let expected: Vec<_> = (40..100).map(|minute| (minute != 90).then_some(minute)).collect();
        assert_eq!(desired, expected);
        assert!(history.minutes(at(300 * 60)).iter().all(Option::is_none), "all points are older than an hour");
    }

    #[test]
    fn what_pods_stored_is_counted_once_whatever_becomes_of_them() {
        let mut history = History::default();
        let looks: [&[(&str, Option<u64>)]; 7] = [
            &[("a", Some(100))],                 // stored before the first reconcile, perhaps hours ago
            &[("a", Some(110)), ("b", Some(5))], // 10, and all 5 of a new pod
            &[("a", None), ("b", Some(5))],      // no answer
            &[("a", Some(112)), ("b", Some(6))], // 2 and 1
            &[("a", Some(3)), ("b", Some(6))],   // its process restarted: 3
            &[("b", Some(6))],                   // pod a is gone
            &[("a", Some(1)), ("b", Some(6))],   // a new pod of the same name: 1
        ];
        for reports in looks {
            history.add(&pods(reports), at(0));
        }
        assert_eq!(history.minutes(at(0))[59].unwrap().stored, 10 + 5 + 2 + 1 + 3 + 1);
    }
}
