//! Resource limits that a decoder process sets for itself, before it reads the body and before it decodes the image.

use std::fs;
use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Limits the process's memory, in bytes.
///
/// `RLIMIT_DATA` counts the heap and private writable mappings. `RLIMIT_AS` would also count the program, its
/// libraries and reserved address space, which vary by build and C library.
pub fn memory(bytes: u64) -> io::Result<()> {
    lower(Resource::Data, bytes)
}

/// Limits the CPU time, in seconds since the process started. This stops an endless loop even if the consumer, which
/// enforces the deadline, has ended.
pub fn seconds(seconds: u64) -> io::Result<()> {
    lower(Resource::Cpu, seconds)
}

/// Disables core dumps, which would contain the image, and makes this process the first that the kernel kills when
/// the pod runs out of memory.
pub fn expendable() -> io::Result<()> {
    lower(Resource::Core, 0)?;
    // Some sandboxes lack this file. The memory limit applies without it.
    drop(fs::write("/proc/self/oom_score_adj", "1000"));
    Ok(())
}

/// Sets the soft limit, at most to the hard limit.
fn lower(resource: Resource, limit: u64) -> io::Result<()> {
    let maximum = getrlimit(resource).maximum;
    let current = Some(maximum.map_or(limit, |maximum| maximum.min(limit)));
    Ok(setrlimit(resource, Rlimit { current, maximum })?)
}
