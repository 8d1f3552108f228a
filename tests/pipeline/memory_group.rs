//! A control group with a memory limit, as a pod has one, of either version. It must never outlive the processes in
//! it for long, nor be entered by another than the one that is tested.

use std::fs::read_to_string;
use std::path::{Path, PathBuf};

/// The group; dropped, it is removed.
pub struct MemoryGroup {
    directory: PathBuf,
    version_1: bool,
}

impl MemoryGroup {
    /// With a limit that counts swap too where the kernel tells it apart.
    pub fn new(name: &str, bytes: usize) -> Self {
        let version_1 = Path::new("/sys/fs/cgroup/memory").is_dir();
        let root = if version_1 { "/sys/fs/cgroup/memory" } else { "/sys/fs/cgroup" };
        let directory = Path::new(root).join(format!("image-pipeline-{name}-{}", std::process::id()));
        std::fs::create_dir(&directory).expect("a control group, which takes root");
        let limit = if version_1 { "memory.limit_in_bytes" } else { "memory.max" };
        // The kernel takes no other file in its place, as `process::write` would put there.
        std::fs::write(directory.join(limit), bytes.to_string()).expect("a limit");
        Self { directory, version_1 }
    }

    /// Where it is.
    pub fn directory(&self) -> PathBuf {
        self.directory.clone()
    }

    /// Bytes that were used at the most, files that were read included.
    pub fn peak(&self) -> u64 {
        let peak = if self.version_1 { "memory.max_usage_in_bytes" } else { "memory.peak" };
        let peak = read_to_string(self.directory.join(peak)).expect("counted");
        peak.trim().parse().expect("a number")
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // The kernel removes no group with a process in it: what is left is empty, and of no weight.
        drop(std::fs::remove_dir(&self.directory));
    }
}
