//! Resident memory of operator and consumers during the soak, and its growth. Each process is measured against its
//! own age, so a kill does not hide growth. Reads /proc, not the processes' own metrics.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::processes::{self, Role};

/// Interval between two readings.
const EVERY: Duration = Duration::from_secs(5);

/// Age in seconds from which readings count as steady: the process has what its work needs, and has seen some
/// faults.
const GROWN_UP: f64 = 300.0;

const MIB: f64 = (1 << 20) as f64;

/// Age of the process in seconds, and MiB.
pub type Reading = (f64, f64);

/// Readings of every process, by role.
#[derive(Clone, Debug, Default)]
pub struct Memory(pub BTreeMap<&'static str, BTreeMap<u32, Vec<Reading>>>);

impl Memory {
    /// Reads into `shared` until it is canceled.
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

    /// MiB per hour that processes of this role gain, by least squares over all of them; 0 if none is old enough.
    pub fn slope_per_hour(&self, role: &str) -> f64 {
        let of_role = self.0.get(role).into_iter().flat_map(BTreeMap::values);
        slope(of_role.map(|readings| old(readings)).collect::<Vec<_>>().as_slice()) * 3600.0
    }

    /// One object for each process: role, seconds observed, and first, last and highest MiB.
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

    /// Highest MiB of any process of this role.
    pub fn most(&self, role: &str) -> f64 {
        let of_role = self.0.get(role).into_iter().flat_map(BTreeMap::values).flatten();
        of_role.fold(0.0, |most, (_, mib)| most.max(*mib))
    }
}

fn old(readings: &[Reading]) -> Vec<Reading> {
    readings.iter().copied().filter(|(age, _)| *age >= GROWN_UP).collect()
}

/// The common slope of all lines, each with its own intercept.
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
        // The higher line belongs to the younger process: one line through all points would fall.
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
