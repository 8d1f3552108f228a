//! The consumer's throughput: messages finished per second of busy time, over the last 30 s of busy time. Time without
//! a held message does not count, so that a pod with few messages does not look slow. Pure: time is an argument.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Busy time over which the rate is averaged.
const WINDOW: Duration = Duration::from_secs(30);

/// Busy time between two marks: the precision of the window.
const MARK_EVERY: Duration = Duration::from_secs(1);

/// Totals at one moment: messages finished and busy time.
#[derive(Clone, Copy, Default)]
struct Done {
    finished: u32,
    worked: Duration,
}

#[derive(Default)]
pub struct Throughput {
    done: Done,
    working_since: Option<Instant>,
    /// Marks within the window, and the last one before it.
    marks: VecDeque<Done>,
}

impl Throughput {
    /// Starts busy time, when the first message is held.
    pub fn begin(&mut self, now: Instant) {
        self.working_since = Some(now);
        self.mark(now);
    }

    /// Stops busy time, when no message is held any more.
    pub fn rest(&mut self, now: Instant) {
        self.done = self.done_at(now);
        self.working_since = None;
    }

    /// Counts a finished message, which the broker will not redeliver.
    pub fn finish(&mut self, now: Instant) {
        self.done.finished = self.done.finished.wrapping_add(1);
        self.mark(now);
    }

    /// Messages finished per second of busy time; `None` if none was finished within the window.
    pub fn per_second(&self, now: Instant) -> Option<f64> {
        let done = self.done_at(now);
        let before = self.marks.iter().rev().find(|mark| done.worked.saturating_sub(mark.worked) >= WINDOW);
        let from = before.or(self.marks.front())?;
        let finished = done.finished.wrapping_sub(from.finished);
        let worked = done.worked.saturating_sub(from.worked).as_secs_f64();
        (finished > 0 && worked > 0.0).then(|| f64::from(finished) / worked)
    }

    fn done_at(&self, now: Instant) -> Done {
        let working = self.working_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        Done { worked: self.done.worked + working, ..self.done }
    }

    fn mark(&mut self, now: Instant) {
        let done = self.done_at(now);
        let since = |mark: &Done| done.worked.saturating_sub(mark.worked);
        while self.marks.get(1).is_some_and(|mark| since(mark) >= WINDOW) {
            self.marks.pop_front();
        }
        if self.marks.back().is_none_or(|mark| since(mark) >= MARK_EVERY) {
            self.marks.push_back(done);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Finishes ten messages a second for `seconds`.
    fn work(throughput: &mut Throughput, from: Instant, seconds: u32) -> Instant {
        throughput.begin(from);
        let mut now = from;
        for _ in 0..seconds * 10 {
            now += Duration::from_millis(100);
            throughput.finish(now);
        }
        throughput.rest(now);
        now
    }

    fn rounded(throughput: &Throughput, now: Instant) -> Option<f64> {
        throughput.per_second(now).map(|rate| (rate * 10.0).round() / 10.0)
    }

    #[test]
    fn counts_time_of_work_alone() {
        let (start, mut throughput) = (Instant::now(), Throughput::default());
        assert_eq!(throughput.per_second(start), None);
        let now = work(&mut throughput, start, 5);
        assert_eq!(rounded(&throughput, now), Some(10.0));
        let now = now + Duration::from_secs(20);
        assert_eq!(rounded(&throughput, now), Some(10.0), "idle time does not count");
        let now = work(&mut throughput, now, 2);
        assert_eq!(rounded(&throughput, now), Some(10.0));
    }

    #[test]
    fn forgets_what_is_older_than_the_window() {
        let (start, mut throughput) = (Instant::now(), Throughput::default());
        let now = work(&mut throughput, start, 60);
        assert!(throughput.marks.len() <= 32, "{} marks", throughput.marks.len());
        throughput.begin(now);
        let now = now + Duration::from_secs(31);
        assert_eq!(throughput.per_second(now), None, "nothing was finished within the window");
        throughput.finish(now + Duration::from_secs(9));
        assert_eq!(rounded(&throughput, now + Duration::from_secs(9)), Some(0.0));
        assert!(throughput.per_second(now + Duration::from_secs(9)).unwrap() >= 0.025, "one message in 40 s");
    }

    #[test]
    fn slows_down_while_nothing_is_finished() {
        let (start, mut throughput) = (Instant::now(), Throughput::default());
        let now = work(&mut throughput, start, 10);
        throughput.begin(now);
        assert_eq!(rounded(&throughput, now + Duration::from_secs(10)), Some(5.0));
    }
}
