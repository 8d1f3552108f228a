//! The figures and their targets: pure functions of the measurements, for the table and the record.
//! A figure without a value never meets its target.

pub const MIB: f64 = (1 << 20) as f64;

#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// Key in the record.
    pub key: &'static str,
    /// Description for the table.
    pub meaning: &'static str,
    /// Seconds, bytes, percent or a number, according to the key.
    pub value: f64,
    /// The target's maximum; `None` for a figure without a target.
    pub at_most: Option<f64>,
}

impl Figure {
    /// A figure with a target.
    pub fn within(key: &'static str, meaning: &'static str, value: f64, at_most: f64) -> Self {
        Self { key, meaning, value, at_most: Some(at_most) }
    }

    /// A figure without a target.
    pub fn without_target(key: &'static str, meaning: &'static str, value: f64) -> Self {
        Self { key, meaning, value, at_most: None }
    }

    /// Whether the target is met. NaN never meets a target.
    pub fn is_met(&self) -> bool {
        self.at_most.is_none_or(|most| self.value <= most)
    }
}

/// The smallest value that at least `percent` percent of the values do not exceed.
pub fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
}

pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Number of changes of direction of a size.
pub fn flaps(sizes: &[i32]) -> usize {
    let mut sizes = sizes.to_vec();
    sizes.dedup();
    let grew: Vec<bool> = sizes.windows(2).map(|pair| pair[1] > pair[0]).collect();
    grew.windows(2).filter(|pair| pair[0] != pair[1]).count()
}

/// Number of decreases of a size.
pub fn scale_ins(sizes: &[i32]) -> usize {
    sizes.windows(2).filter(|pair| pair[1] < pair[0]).count()
}

/// Mean time that pods remained after the queue was empty. `ends` are the pods' ends, counted from that moment;
/// pods that ended earlier do not count.
pub fn idle_pod_seconds(ends: &[f64]) -> f64 {
    mean(&ends.iter().copied().filter(|end| *end > 0.0).collect::<Vec<_>>())
}

/// A phase of the poll interval for each round: one random moment in each of `rounds` equal parts, in random order,
/// so that few rounds estimate the mean well.
pub fn phases(rounds: usize) -> Vec<f64> {
    let mut phases: Vec<f64> = (0..rounds).map(|part| (part as f64 + fastrand::f64()) / rounds as f64).collect();
    fastrand::shuffle(&mut phases);
    phases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!((percentile(&values, 50), percentile(&values, 99), percentile(&values, 100)), (50.0, 99.0, 100.0));
        assert_eq!((percentile(&[7.0], 50), percentile(&[3.0, 1.0], 50), percentile(&[3.0, 1.0], 99)), (7.0, 1.0, 3.0));
        assert!(percentile(&[], 50).is_nan());
    }

    #[test]
    fn only_a_change_of_direction_is_a_flap() {
        let cases: [(&[i32], usize, usize); 6] = [
            (&[], 0, 0),
            (&[2, 2, 2], 0, 0),
            (&[0, 3, 5, 5, 9], 0, 0),
            (&[0, 8, 8, 4, 1], 1, 2),
            (&[0, 3, 2, 3, 2], 3, 2),
            (&[5, 5, 0], 0, 1),
        ];
        for (sizes, expected, ins) in cases {
            assert_eq!((flaps(sizes), scale_ins(sizes)), (expected, ins), "{sizes:?}");
        }
    }

    #[test]
    fn a_pod_that_was_gone_before_the_queue_was_empty_was_not_idle() {
        assert_eq!(idle_pod_seconds(&[-3.0, 60.0, 64.0]), 62.0);
        assert!(idle_pod_seconds(&[-3.0]).is_nan(), "nothing was measured");
    }

    #[test]
    fn rounds_begin_in_every_part_of_the_interval() {
        let mut phases = phases(10);
        assert!(!phases.is_sorted(), "one in three million");
        phases.sort_by(f64::total_cmp);
        assert_eq!(phases.iter().map(|phase| (phase * 10.0) as i32).collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn a_figure_is_met_up_to_its_target_and_never_without_a_value() {
        let met = |value| Figure::within("k", "m", value, 2.0).is_met();
        assert_eq!([met(2.0), met(2.001), met(f64::NAN)], [true, false, false]);
        assert!(Figure::without_target("k", "m", 7.0).is_met());
    }
}
