//! A control group with a memory limit, as a pod has, for cgroup v1 and v2.

use std::fs::read_to_string;
use std::path::{Path, PathBuf};

/// Removes the group when dropped.
pub struct MemoryGroup {
    directory: PathBuf,
    version_1: bool,
}

impl MemoryGroup {
    /// Creates a group with this memory limit, in bytes.
    pub fn new(name: &str, bytes: usize) -> Self {
        let version_1 = Path::new("/sys/fs/cgroup/memory").is_dir();
        let root = if version_1 { "/sys/fs/cgroup/memory" } else { "/sys/fs/cgroup" };
        let directory = Path::new(root).join(format!("image-pipeline-{name}-{}", std::process::id()));
        std::fs::create_dir(&directory).expect("a control group, which takes root");
        let limit = if version_1 { "memory.limit_in_bytes" } else { "memory.max" };
        // The kernel does not let these files be replaced, as `process::write` would do.
        std::fs::write(directory.join(limit), bytes.to_string()).expect("a limit");
        Self { directory, version_1 }
    }

    pub fn directory(&self) -> PathBuf {
        self.directory.clone()
    }

    /// Peak memory use in bytes, page cache included.
    pub fn peak(&self) -> u64 {
        let peak = if self.version_1 { "memory.max_usage_in_bytes" } else { "memory.peak" };
        let peak = read_to_string(self.directory.join(peak)).expect("counted");
        peak.trim().parse().expect("a number")
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // Fails while a process is in the group. A group that is left behind is harmless.
        drop(std::fs::remove_dir(&self.directory));
    }
}
