//! CPU time and memory of a process and of the machine, from Linux's /proc.

use std::time::Duration;

/// Ticks per second in /proc, the same on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU time of the whole machine so far, in ticks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Machine {
    idle: f64,
    total: f64,
}

impl Machine {
    /// The current times.
    pub fn now() -> Self {
        Self::parse(&read("/proc/stat")).expect("the first line of /proc/stat")
    }

    /// Share of the CPU time since `before`, from 0 to 1, that was idle.
    pub fn idle_since(self, before: Self) -> f64 {
        (self.idle - before.idle) / (self.total - before.total).max(1.0)
    }

    fn parse(text: &str) -> Option<Self> {
        let times: Vec<f64> =
            text.lines().next()?.split_whitespace().skip(1).map_while(|word| word.parse().ok()).collect();
        // user, nice, system, idle, iowait, irq, softirq, steal. The fields after these are already part of user.
        let idle = times.get(3)? + times.get(4)?;
        Some(Self { idle, total: times.iter().take(8).sum() })
    }
}

/// User and system time of a process so far, all threads included.
pub fn cpu(process: u32) -> Duration {
    let (_, cpu) = stat(&read(&format!("/proc/{process}/stat"))).expect("a line of /proc/PID/stat");
    cpu
}

/// Whether a process is stopped, for example by SIGSTOP.
pub fn is_stopped(process: u32) -> bool {
    stat(&read(&format!("/proc/{process}/stat"))).is_some_and(|(state, _)| state == "T")
}

/// Resident bytes of a process.
pub fn rss(process: u32) -> u64 {
    status(process, "VmRSS:")
}

/// Peak resident bytes of a process.
pub fn peak_rss(process: u32) -> u64 {
    status(process, "VmHWM:")
}

fn stat(line: &str) -> Option<(&str, Duration)> {
    // The process name before it may contain any characters, parentheses and spaces included.
    let fields: Vec<&str> = line.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |field: usize| fields.get(field)?.parse::<f64>().ok();
    Some((fields.first()?, Duration::from_secs_f64((ticks(11)? + ticks(12)?) / TICKS_PER_SECOND)))
}

fn status(process: u32, key: &str) -> u64 {
    let text = read(&format!("/proc/{process}/status"));
    let kibibytes =
        text.lines().find_map(|line| line.strip_prefix(key)?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kibibytes.unwrap_or_else(|| panic!("no {key} in\n{text}")) * 1024
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let line = "42 (a) b (c) S 1 42 42 0 -1 4194304 100 0 0 0 250 50 7 7 20 0 5 0 100 1000 10";
        assert_eq!(stat(line), Some(("S", Duration::from_secs(3))));
        assert_eq!(stat("42 (cut"), None);
    }

    #[test]
    fn waiting_for_a_disk_is_idle_and_guests_count_once() {
        let before = Machine::parse("cpu  100 0 100 800 0 0 0 0 50 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n").unwrap();
        let after = Machine::parse("cpu  150 0 120 820 10 0 0 0 90 0\n").unwrap();
        assert_eq!(after.idle_since(before), 0.3);
    }

    #[test]
    fn this_very_process_can_be_read() {
        let process = std::process::id();
        // Not compared with each other: the process grows meanwhile because of tests in parallel.
        assert!(rss(process) > 0 && peak_rss(process) > 0 && !is_stopped(process));
        assert!(cpu(process) < Duration::from_secs(3600));
    }
}
