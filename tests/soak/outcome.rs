//! The outcome of a soak: the account, recovery times by kind, memory and restarts, and what of these is wrong. A
//! pure function.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::kind::{Kind, RECOVERS_WITHIN};
use super::memory::Memory;
use super::recovery::Recovery;
use super::restarts::Restarts;
use super::timeline::Record;
use accounting::account::Account;

/// Allowed growth of a process in MiB per hour, for page cache and allocator.
const SLOPE_PER_HOUR: f64 = 16.0;

/// A soak shorter than this, in hours, is not judged by growth.
const SLOPE_AFTER_HOURS: f64 = 0.5;

/// Confirmed messages per hour that a soak needs: with fewer, the faults meet idle consumers.
const MESSAGES_PER_HOUR: f64 = 150_000.0;

/// The measurements of a soak.
pub struct Outcome {
    /// Repeats the soak.
    pub seed: u64,
    /// Hours of fault injection.
    pub hours: f64,
    pub account: Account,
    /// Faults and log lines.
    pub record: Record,
    /// Recovery of each pipeline from each fault.
    pub recoveries: Vec<Recovery>,
    /// Memory of operator and consumers.
    pub memory: Memory,
    /// Pods with more container restarts than the faults caused.
    pub unexplained: Vec<Restarts>,
    /// Number of all restarts.
    pub restarts: i32,
}

/// Slowest recovery from one kind of fault, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Slowest {
    /// While it was the only fault.
    pub alone: Option<f64>,
    /// While other faults were active too.
    pub together: Option<f64>,
}

impl Outcome {
    /// Number of faults of each kind.
    pub fn faults_by_kind(&self) -> BTreeMap<Kind, usize> {
        let mut counts = BTreeMap::new();
        for fault in &self.record.faults {
            *counts.entry(fault.kind).or_default() += 1;
        }
        counts
    }

    /// Slowest recovery from each kind.
    pub fn slowest(&self) -> BTreeMap<Kind, Slowest> {
        let mut slowest = BTreeMap::<Kind, Slowest>::new();
        for Recovery { kind, seconds, alone, .. } in &self.recoveries {
            let of_kind = slowest.entry(*kind).or_default();
            let place = if *alone { &mut of_kind.alone } else { &mut of_kind.together };
            *place = Some(place.unwrap_or(0.0).max(seconds.unwrap_or(f64::INFINITY)));
        }
        slowest
    }

    /// One sentence for each thing that is wrong.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = self.account.faults();
        if self.account.queued > 0 {
            faults.push(format!("{} messages are still queued", self.account.queued));
        }
        faults.extend(self.record.troubles.iter().cloned());
        for Recovery { kind, seconds, alone, .. } in &self.recoveries {
            let within = if *alone { kind.recovers_within() } else { RECOVERS_WITHIN };
            let (name, with) = (kind.name(), if *alone { "" } else { " and others" });
            match seconds {
                Some(seconds) if *seconds <= within.as_secs_f64() => {}
                Some(seconds) => {
                    faults.push(format!("{seconds:.1} s from the heal of {name}{with} to an image, not {within:?}"));
                }
                None => faults.push(format!("no image after {name}{with}")),
            }
        }
        for pod in &self.unexplained {
            let (seen, caused) = (pod.seen, pod.caused);
            faults.push(format!("{} was restarted {seen} times, by faults {caused}: {}", pod.pod, pod.reason));
        }
        if (self.account.confirmed as f64) < self.hours * MESSAGES_PER_HOUR {
            faults.push(format!("{} messages in {} hours are too little load", self.account.confirmed, self.hours));
        }
        if self.hours >= SLOPE_AFTER_HOURS {
            for role in ["operator", "consumers"] {
                let slope = self.memory.slope_per_hour(role);
                if slope > SLOPE_PER_HOUR {
                    faults.push(format!("{role} grow by {slope:.1} MiB an hour"));
                }
            }
        }
        faults
    }

    /// The outcome for programs.
    pub fn json(&self) -> Value {
        let Account { attempted, confirmed, stored, parked, recovered, redelivered, duplicates, .. } = self.account;
        let by_kind: serde_json::Map<_, _> =
            self.faults_by_kind().into_iter().map(|(kind, count)| (kind.name().to_owned(), count.into())).collect();
        // JSON has no number for a recovery that did not come.
        let part = |of: fn(&Slowest) -> Option<f64>| -> Value {
            let values = self.slowest().into_iter().filter_map(|(kind, slowest)| Some((kind.name(), of(&slowest)?)));
            values
                .map(|(name, seconds)| (name.to_owned(), Value::from(seconds)))
                .collect::<serde_json::Map<_, _>>()
                .into()
        };
        let all = |slowest: &Slowest| match (slowest.alone, slowest.together) {
            (Some(alone), Some(together)) => Some(alone.max(together)),
            (alone, together) => alone.or(together),
        };
        json!({
            "seed": self.seed,
            "hours": self.hours,
            "lost": self.account.lost.len(),
            "unexpected": self.account.unexpected.len(),
            "early_ack": self.account.early_ack.len(),
            "wrong_pixels": self.account.wrong_pixels.len(),
            "wrongly_parked": self.account.wrongly_parked.len(),
            "duplicates": duplicates,
            "messages": confirmed,
            "messages_per_second": confirmed as f64 / (self.hours * 3600.0),
            "attempted": attempted,
            "stored": stored,
            "parked": parked,
            "recovered": recovered,
            "redelivered": redelivered,
            "faults": self.record.faults.len(),
            "faults_by_kind": by_kind,
            "max_recovery_s_by_kind": part(all),
            "max_recovery_alone_s_by_kind": part(|slowest| slowest.alone),
            "restarts": self.restarts,
            "unexplained_restarts": self.unexplained.len(),
            "operator_mib_per_hour": self.memory.slope_per_hour("operator"),
            "consumers_mib_per_hour": self.memory.slope_per_hour("consumers"),
            "operator_peak_mib": self.memory.most("operator"),
            "consumers_peak_mib": self.memory.most("consumers"),
            "memory_mib": self.memory.lives(),
            "wrong": self.faults(),
        })
    }
}

#[cfg(test)]
pub mod tests {
    use super::super::timeline::Happened;
    use super::*;

    pub fn outcome() -> Outcome {
        let recovery = |kind, seconds, alone| Recovery { kind, pipeline: 0, seconds: Some(seconds), alone };
        let happened = |kind| Happened { kind, pipeline: None, episode: 0, began: 1.0, healed: 2.0 };
        let record = Record {
            faults: [Kind::Paused, Kind::Paused, Kind::StoreHangs].map(happened).to_vec(),
            ..Record::default()
        };
        Outcome {
            seed: 7,
            hours: 1.0,
            account: Account { confirmed: 150_000, ..Account::default() },
            record,
            recoveries: vec![
                recovery(Kind::Paused, 2.0, true),
                recovery(Kind::Paused, 9.0, false),
                recovery(Kind::ConnectionClosed, 9.0, false),
                recovery(Kind::Paused, 1.0, true),
            ],
            memory: Memory::default(),
            unexplained: Vec::new(),
            restarts: 3,
        }
    }

    #[test]
    fn the_slowest_recovery_counts_alone_and_together() {
        let outcome = outcome();
        let expected = Slowest { alone: Some(2.0), together: Some(9.0) };
        assert_eq!(outcome.slowest()[&Kind::Paused], expected);
        assert_eq!(outcome.json()["max_recovery_s_by_kind"]["paused"], 9.0);
        assert_eq!(outcome.json()["faults_by_kind"]["paused"], 2);
    }

    #[test]
    fn a_soak_is_clean_only_without_loss_trouble_slowness_and_restarts() {
        assert_eq!(outcome().faults(), Vec::<String>::new());
        let wrong = |change: fn(&mut Outcome)| {
            let mut outcome = outcome();
            change(&mut outcome);
            outcome.faults().len()
        };
        assert_eq!(wrong(|outcome| outcome.account.lost.push("a".to_owned())), 1);
        assert_eq!(wrong(|outcome| outcome.account.queued = 1), 1);
        assert_eq!(wrong(|outcome| outcome.account.confirmed -= 1), 1);
        assert_eq!(wrong(|outcome| outcome.record.troubles.push("a".to_owned())), 1);
        assert_eq!(wrong(|outcome| outcome.recoveries[0].seconds = Some(30.5)), 1);
        assert_eq!(wrong(|outcome| outcome.recoveries[1].seconds = None), 1);
        assert_eq!(wrong(|outcome| outcome.unexplained.push(Restarts::default())), 1);
        let closed = |seconds| {
            let mut outcome = outcome();
            outcome.recoveries[0].kind = Kind::ConnectionClosed;
            outcome.recoveries[0].seconds = Some(seconds);
            outcome.faults().len()
        };
        assert_eq!((closed(4.9), closed(5.1)), (0, 1));
    }
}
