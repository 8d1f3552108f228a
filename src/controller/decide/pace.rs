//! How many pods it takes to keep up with what comes: what all of them get done, against what one
//! gets done while more is waiting. It must never ask for more pods than there are: that they are too
//! few shows in the backlog.

use jiff::Timestamp;

/// Between two looks: what is done in less says little of how fast it is done.
const SHORTEST_SECONDS: f64 = 1.0;

/// The part of the time that pods may be at work where fewer of them are to keep up.
const AT_WORK: f64 = 0.9;

/// What the pods that consume have finished since they started.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    /// Messages.
    pub finished: u64,
    /// These pods.
    pub pods: u32,
}

/// What is remembered of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pace {
    last: Option<(Timestamp, Work, bool)>,
    /// Messages that one pod finishes in a second while more are waiting.
    speed: Option<f64>,
    /// Pods that keep up.
    pods: i32,
}

impl Pace {
    /// With the work done until now; `waiting`: more messages are ready.
    pub fn with(&self, now: Timestamp, work: Work, waiting: bool) -> Self {
        let last = Some((now, work, waiting));
        let Some((then, before, waited)) = self.last else { return Self { last, ..self.clone() } };
        let seconds = now.duration_since(then).as_secs_f64();
        if seconds < SHORTEST_SECONDS {
            return self.clone();
        }
        // Where pods came or went, what they say can't be compared.
        let finished = work.finished.checked_sub(before.finished).filter(|_| work.pods > 0 && work.pods == before.pods);
        let Some(finished) = finished else { return Self { last, pods: 0, ..self.clone() } };
        let rate = finished as f64 / seconds;
        // As it was known before this look: one message more or less in the queue now changes nothing now.
        let needed = self.speed.filter(|speed| *speed > 0.0).map_or(0.0, |speed| (rate / speed / AT_WORK).ceil());
        let seen = rate / f64::from(work.pods);
        let speed = match self.speed {
            _ if !(waiting && waited) => self.speed,
            Some(speed) => Some((speed + seen) / 2.0),
            None => Some(seen),
        };
        Self { last, speed, pods: needed as i32 }
    }

    /// Pods that keep up; 0 where it is not known.
    pub fn pods(&self) -> i32 {
        self.pods
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    /// Two seconds after the one before: pods, messages that they finished in between, and whether more wait.
    type Look = (u32, u64, bool);

    fn after(looks: &[Look]) -> Pace {
        let (mut now, mut finished, mut pace) = (Timestamp::UNIX_EPOCH, 0, Pace::default());
        for (pods, more, waiting) in looks.iter().copied() {
            now += SignedDuration::from_secs(2);
            finished += more;
            pace = pace.with(now, Work { finished, pods }, waiting);
        }
        pace
    }

    #[test]
    fn what_comes_is_held_against_what_one_pod_does_when_it_never_waits() {
        let full = [(4, 0, true), (4, 200, true), (4, 200, true)];
        let then = |looks: &[Look]| after(&[&full, looks].concat()).pods();
        let cases: [(&str, &[Look], i32); 7] = [
            ("at 25 a second each, more wait than they can do", &[], 5),
            ("58 a second come", &[(4, 116, false)], 3),
            ("44 a second come, which would be all that two can do", &[(4, 91, false)], 3),
            ("nothing comes", &[(4, 0, false)], 0),
            ("one has gone", &[(3, 116, false)], 0),
            ("one has gone, and it is known again", &[(3, 116, false), (3, 116, false)], 3),
            ("they have become half as fast", &[(4, 100, true), (4, 100, true), (4, 100, true), (4, 80, false)], 4),
        ];
        for (name, looks, pods) in cases {
            assert_eq!(then(looks), pods, "{name}");
        }
        assert_eq!(after(&[(4, 0, false), (4, 116, false)]).pods(), 0, "their speed was never seen");
        assert_eq!(after(&[(0, 0, true), (0, 0, true)]).pods(), 0, "there are none");
        assert_eq!(after(&[(4, 0, true), (4, 0, true), (4, 0, true)]).pods(), 0, "they do nothing");
    }

    #[test]
    fn a_look_too_soon_after_the_last_changes_nothing() {
        let pace = after(&[(4, 0, true), (4, 200, true), (4, 116, false)]);
        let (then, work, _) = pace.last.unwrap_or_default();
        let soon = then + SignedDuration::from_millis(900);
        assert_eq!(pace.with(soon, Work { finished: work.finished + 90, ..work }, true), pace);
    }
}
