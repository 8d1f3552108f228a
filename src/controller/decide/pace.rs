//! The number of pods that keep up with the incoming messages: the rate at which all pods finish messages, divided by
//! the speed of one pod while messages wait. The caller caps the number at the current size, so that it only delays a
//! scale-down: too few pods show in the backlog.

use jiff::Timestamp;

/// The shortest time between two measurements; a shorter time gives no reliable rate.
const SHORTEST_SECONDS: f64 = 1.0;

/// The highest utilization at which pods count as keeping up.
const AT_WORK: f64 = 0.9;

/// The work of the consuming pods since they started.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Progress {
    /// Messages, over all pods.
    pub finished: u64,
    pub pods: u32,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pace {
    last: Option<(Timestamp, Progress, bool)>,
    /// Messages per second that one pod finishes while more messages wait.
    speed: Option<f64>,
    /// The number of pods that keep up; 0: unknown.
    pods: i32,
}

impl Pace {
    /// Adds a measurement. `waiting`: the queue holds ready messages.
    pub fn with(&self, now: Timestamp, progress: Progress, waiting: bool) -> Self {
        let last = Some((now, progress, waiting));
        let Some((then, before, waited)) = self.last else { return Self { last, ..self.clone() } };
        let seconds = now.duration_since(then).as_secs_f64();
        if seconds < SHORTEST_SECONDS {
            return self.clone();
        }
        // After a pod has come or gone, the sums can't be compared.
        let is_comparable = progress.pods > 0 && progress.pods == before.pods;
        let finished = progress.finished.checked_sub(before.finished).filter(|_| is_comparable);
        let Some(finished) = finished else { return Self { last, pods: 0, ..self.clone() } };
        let rate = finished as f64 / seconds;
        // By the speed before this measurement: a single message in the queue now must not change the result now.
        let needed = self.speed.filter(|speed| *speed > 0.0).map_or(0.0, |speed| (rate / speed / AT_WORK).ceil());
        let seen = rate / f64::from(progress.pods);
        let speed = match self.speed {
            _ if !(waiting && waited) => self.speed,
            Some(speed) => Some((speed + seen) / 2.0),
            None => Some(seen),
        };
        Self { last, speed, pods: needed as i32 }
    }

    /// The number of pods that keep up; 0: unknown.
    pub fn pods(&self) -> i32 {
        self.pods
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    /// A poll 2 s after the previous one: pods, messages finished since then, whether more messages wait.
    type Look = (u32, u64, bool);

    fn after(looks: &[Look]) -> Pace {
        let (mut now, mut finished, mut pace) = (Timestamp::UNIX_EPOCH, 0, Pace::default());
        for (pods, more, waiting) in looks.iter().copied() {
            now += SignedDuration::from_secs(2);
            finished += more;
            pace = pace.with(now, Progress { finished, pods }, waiting);
        }
        pace
    }

    #[test]
    fn what_comes_is_held_against_what_one_pod_does_when_it_never_waits() {
        let full = [(4, 0, true), (4, 200, true), (4, 200, true)];
        let then = |looks: &[Look]| after(&[&full, looks].concat()).pods();
        let cases: [(&str, &[Look], i32); 7] = [
            ("25 per second and pod, and messages wait", &[], 5),
            ("58 per second arrive", &[(4, 116, false)], 3),
            ("45.5 per second arrive, more than two pods finish", &[(4, 91, false)], 3),
            ("nothing arrives", &[(4, 0, false)], 0),
            ("one pod has gone", &[(3, 116, false)], 0),
            ("one pod has gone, and the rate is known again", &[(3, 116, false), (3, 116, false)], 3),
            ("the pods have become half as fast", &[(4, 100, true), (4, 100, true), (4, 100, true), (4, 80, false)], 4),
        ];
        for (name, looks, pods) in cases {
            assert_eq!(then(looks), pods, "{name}");
        }
        assert_eq!(after(&[(4, 0, false), (4, 116, false)]).pods(), 0, "the speed was never measured");
        assert_eq!(after(&[(0, 0, true), (0, 0, true)]).pods(), 0, "no pods");
        assert_eq!(after(&[(4, 0, true), (4, 0, true), (4, 0, true)]).pods(), 0, "the pods finish nothing");
    }

    #[test]
    fn a_look_too_soon_after_the_last_changes_nothing() {
        let pace = after(&[(4, 0, true), (4, 200, true), (4, 116, false)]);
        let (then, progress, _) = pace.last.unwrap_or_default();
        let soon = then + SignedDuration::from_millis(900);
        assert_eq!(pace.with(soon, Progress { finished: progress.finished + 90, ..progress }, true), pace);
    }
}
