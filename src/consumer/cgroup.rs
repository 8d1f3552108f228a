//! Reads the CPU and memory limits of this process's control group, version 1 or 2. `None`: no limit found.

use std::fs::read_to_string;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Cgroup version 1 reports "no limit" as a number near 2^63.
const UNLIMITED: u64 = 1 << 60;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Number of processors, rounded up.
    pub processors: Option<u64>,
    /// In bytes.
    pub memory: Option<u64>,
}

pub fn limits() -> Limits {
    let membership = read_to_string("/proc/self/cgroup").unwrap_or_default();
    read(Path::new("/sys/fs/cgroup"), &membership)
}

fn read(root: &Path, membership: &str) -> Limits {
    let unified = groups(root, "", membership);
    let cpu = groups(root, "cpu", membership);
    let memory = groups(root, "memory", membership);
    let counts = unified.iter().filter_map(|group| {
        let text = read_to_string(group.join("cpu.max")).ok()?;
        let (quota, period) = text.trim().split_once(' ')?;
        processors(quota.parse().ok()?, period.parse().ok()?)
    });
    let counts = counts.chain(cpu.iter().filter_map(|group| {
        processors(number(&group.join("cpu.cfs_quota_us"))?, number(&group.join("cpu.cfs_period_us"))?)
    }));
    let bytes = unified.iter().filter_map(|group| number(&group.join("memory.max")));
    let bytes = bytes.chain(memory.iter().filter_map(|group| number(&group.join("memory.limit_in_bytes"))));
    Limits { processors: counts.min(), memory: bytes.filter(|bytes| *bytes < UNLIMITED).min() }
}

/// The directories of the process's control group and of its ancestors, whose limits apply as well. In a container
/// often only the root exists.
fn groups(root: &Path, controller: &str, membership: &str) -> Vec<PathBuf> {
    let path = membership.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        fields.next()?.split(',').any(|name| name == controller).then(|| fields.next()).flatten()
    });
    let root = root.join(controller);
    let path = path.unwrap_or_default().trim_start_matches('/');
    Path::new(path).ancestors().map(|group| root.join(group)).collect()
}

fn processors(quota: u64, period: u64) -> Option<u64> {
    (period > 0 && quota > 0).then(|| quota.div_ceil(period))
}

fn number<T: FromStr>(file: &Path) -> Option<T> {
    read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn limits_of(files: &[(&str, &str)], membership: &str) -> (Option<u64>, Option<u64>) {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        let Limits { processors, memory } = read(root.path(), membership);
        (processors, memory)
    }

    #[test]
    fn reads_both_versions() {
        let gib = 1 << 30;
        for (files, membership, expected) in [
            (&[("cpu.max", "150000 100000\n"), ("memory.max", "1073741824\n")][..], "0::/\n", (Some(2), Some(gib))),
            (&[("cpu.max", "max 100000\n"), ("memory.max", "max\n")], "0::/\n", (None, None)),
            (&[("a/b/memory.max", "max\n"), ("a/memory.max", "1073741824\n")], "0::/a/b\n", (None, Some(gib))),
            (&[("cpu.max", "50000 100000\n")], "0::/not/visible/here\n", (Some(1), None)),
            (
                &[
                    ("cpu/pod/cpu.cfs_quota_us", "250000\n"),
                    ("cpu/pod/cpu.cfs_period_us", "100000\n"),
                    ("memory/pod/memory.limit_in_bytes", "1073741824\n"),
                    ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
                ],
                "4:memory:/pod\n3:cpu,cpuacct:/pod\n0::/\n",
                (Some(3), Some(gib)),
            ),
            (
                &[("cpu/cpu.cfs_quota_us", "-1\n"), ("cpu/cpu.cfs_period_us", "100000\n")],
                "3:cpu,cpuacct:/elsewhere\n",
                (None, None),
            ),
            (&[], "", (None, None)),
        ] {
            assert_eq!(limits_of(files, membership), expected, "{files:?}");
        }
    }
}
