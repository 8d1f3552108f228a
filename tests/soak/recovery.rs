//! Recovery times after a fault: from its heal, or from the heal of the last overlapping fault, to the first image
//! of each affected pipeline. A pure function. The time that another fault adds does not count.

use super::kind::Kind;
use super::timeline::Happened;

/// Recovery of one pipeline from one fault.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recovery {
    pub kind: Kind,
    pub pipeline: usize,
    /// `None` if no image came.
    pub seconds: Option<f64>,
    /// Whether no other fault affected the pipeline meanwhile.
    pub alone: bool,
}

/// All recoveries. `stored` has the times of each pipeline's images, in order.
pub fn recoveries(faults: &[Happened], stored: &[Vec<f64>]) -> Vec<Recovery> {
    let of = |(pipeline, stored): (usize, &Vec<f64>)| {
        let felt: Vec<_> = faults.iter().filter(|fault| fault.pipeline.is_none_or(|hit| hit == pipeline)).collect();
        felt.iter().map(|fault| recovery(fault, &felt, pipeline, stored)).collect::<Vec<_>>()
    };
    stored.iter().enumerate().flat_map(of).collect()
}

fn recovery(fault: &Happened, felt: &[&Happened], pipeline: usize, stored: &[f64]) -> Recovery {
    let others = || felt.iter().filter(|other| !std::ptr::eq(**other, fault));
    let mut alone = !others().any(|other| other.began <= fault.healed && other.healed >= fault.began);
    let mut from = fault.healed;
    let first = loop {
        let first = stored.get(stored.partition_point(|at| *at < from)).copied();
        // A fault that is still active, or begins before the first image.
        let later = others().find(|other| other.healed > from && first.is_none_or(|first| other.began < first));
        let Some(later) = later else { break first };
        (from, alone) = (later.healed, false);
    };
    Recovery { kind: fault.kind, pipeline, seconds: first.map(|first| first - from), alone }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(kind: Kind, pipeline: Option<usize>, began: f64, healed: f64) -> Happened {
        Happened { kind, pipeline, episode: 0, began, healed }
    }

    fn seconds(faults: &[Happened], stored: &[f64]) -> Vec<(Option<f64>, bool)> {
        let recoveries = recoveries(faults, &[stored.to_vec()]);
        recoveries.iter().map(|recovery| (recovery.seconds, recovery.alone)).collect()
    }

    #[test]
    fn a_recovery_is_counted_from_the_heal_to_the_first_image() {
        let one = [fault(Kind::StoreFails, Some(0), 10.0, 20.0)];
        assert_eq!(seconds(&one, &[5.0, 15.0, 22.5, 30.0]), [(Some(2.5), true)]);
        assert_eq!(seconds(&one, &[5.0, 15.0]), [(None, true)]);
    }

    #[test]
    fn what_another_fault_makes_longer_is_not_counted() {
        let overlapping = [fault(Kind::StoreFails, Some(0), 10.0, 20.0), fault(Kind::BrokerKilled, None, 15.0, 25.0)];
        assert_eq!(seconds(&overlapping, &[21.0, 26.0]), [(Some(1.0), false), (Some(1.0), false)]);
        let following = [fault(Kind::StoreFails, Some(0), 10.0, 20.0), fault(Kind::BrokerKilled, None, 21.0, 25.0)];
        assert_eq!(seconds(&following, &[20.5, 26.0]), [(Some(0.5), true), (Some(1.0), true)]);
        assert_eq!(seconds(&following, &[26.0]), [(Some(1.0), false), (Some(1.0), true)]);
    }

    #[test]
    fn a_pipeline_recovers_from_what_it_felt() {
        let faults = [fault(Kind::StoreFails, Some(1), 10.0, 20.0), fault(Kind::BrokerKilled, None, 15.0, 18.0)];
        let recoveries = recoveries(&faults, &[vec![18.5], vec![24.0]]);
        let found: Vec<_> = recoveries.iter().map(|one| (one.kind, one.pipeline, one.seconds, one.alone)).collect();
        let expected = [
            (Kind::BrokerKilled, 0, Some(0.5), true),
            (Kind::StoreFails, 1, Some(4.0), false),
            (Kind::BrokerKilled, 1, Some(4.0), false),
        ];
        assert_eq!(found, expected);
    }
}
