//! What operator and consumers have resident over the soak, and whether it grows: each process
//! against its own age, so that one that was killed does not hide what it had gathered. It must never
//! ask the processes themselves.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::processes::{self, Role};

/// Between two readings.
const EVERY: Duration = Duration::from_secs(5);

/// A process has what it needs for its work, and has seen some faults, once it is as old as this.
const GROWN_UP: f64 = 300.0;

const MIB: f64 = (1 << 20) as f64;

/// One reading: the process's age in seconds, and MiB.
pub type Reading = (f64, f64);

/// The readings of every process, by what it does.
#[derive(Clone, Debug, Default)]
pub struct Memory(pub BTreeMap<&'static str, BTreeMap<u32, Vec<Reading>>>);

impl Memory {
    /// Reads until it is cancelled, into what is shared.
    pub async fn read(shared: &std::sync::Mutex<Self>) {
        let mut looks = tokio::time::interval(EVERY);
        let mut first: BTreeMap<u32, Instant> = BTreeMap::new();
        loop {
            looks.tick().await;
            let found = processes::all();
            let mut memory = shared.lock().unwrap();
            for process in found {
                let role = match process.role {
                    Role::Operator => "operator",
                    Role::Consumer(_) => "consumers",
                };
                let age = first.entry(process.id).or_insert_with(Instant::now).elapsed().as_secs_f64();
                if let Some(bytes) = processes::resident(process.id) {
                    let readings = memory.0.entry(role).or_default().entry(process.id).or_default();
                    readings.push((age, bytes as f64 / MIB));
                }
            }
        }
    }

    /// MiB that a process of this role gains in an hour, by least squares over all of them; 0 where
    /// none has grown old.
    pub fn slope_per_hour(&self, role: &str) -> f64 {
        let of_role = self.0.get(role).into_iter().flat_map(BTreeMap::values);
        slope(of_role.map(|readings| old(readings)).collect::<Vec<_>>().as_slice()) * 3600.0
    }

    /// Each process: its role, the seconds it was seen, and MiB at first, at last and at most.
    pub fn lives(&self) -> Vec<Value> {
        let of = |(role, processes): (&&str, &BTreeMap<u32, Vec<Reading>>)| {
            let life = |readings: &Vec<Reading>| {
                let (first, last) = (readings.first()?, readings.last()?);
                let most = readings.iter().fold(0.0_f64, |most, (_, mib)| most.max(*mib));
                Some(json!({ "role": role, "seconds": last.0, "first": first.1, "last": last.1, "most": most }))
            };
            processes.values().filter_map(life).collect::<Vec<_>>()
        };
        self.0.iter().flat_map(of).collect()
    }

    /// The most that any process of this role had.
    pub fn most(&self, role: &str) -> f64 {
        let of_role = self.0.get(role).into_iter().flat_map(BTreeMap::values).flatten();
        of_role.fold(0.0, |most, (_, mib)| most.max(*mib))
    }
}

fn old(readings: &[Reading]) -> Vec<Reading> {
    readings.iter().copied().filter(|(age, _)| *age >= GROWN_UP).collect()
}

/// The slope that all lines have in common, each with a height of its own.
fn slope(lines: &[Vec<Reading>]) -> f64 {
    let (mut up, mut along) = (0.0, 0.0);
    for line in lines {
        let count = line.len() as f64;
        let mean = |of: fn(&Reading) -> f64| line.iter().map(of).sum::<f64>() / count;
        let (at, height) = (mean(|reading| reading.0), mean(|reading| reading.1));
        for (x, y) in line {
            up += (x - at) * (y - height);
            along += (x - at) * (x - at);
        }
    }
    if along > 0.0 { up / along } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(start: f64, per_second: f64, ages: std::ops::Range<u32>) -> Vec<Reading> {
        ages.map(|age| (f64::from(age), start + per_second * f64::from(age))).collect()
    }

    #[test]
    fn the_slope_is_that_of_each_process_whatever_the_heights() {
        let lines = [line(10.0, 0.25, 0..40), line(90.0, 0.25, 10..20), Vec::new()];
        assert!((slope(&lines) - 0.25).abs() < 1e-9);
        // The higher one is the younger: one line through all would fall.
        let flat = [line(10.0, 0.0, 100..140), line(90.0, 0.0, 0..40)];
        assert!(slope(&flat).abs() < 1e-9);
        assert_eq!(slope(&[]), 0.0);
    }

    #[test]
    fn what_a_process_takes_in_its_first_minutes_is_not_growth() {
        let mut readings = line(0.0, 1.0, 0..300);
        readings.extend((300..600).map(|age| (f64::from(age), 300.0)));
        let memory = Memory([("operator", [(1, readings)].into())].into());
        assert_eq!(memory.slope_per_hour("operator"), 0.0);
        assert_eq!((memory.most("operator"), memory.most("consumers")), (300.0, 0.0));
    }
}
