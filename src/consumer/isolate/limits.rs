//! The limits that a decoder process sets on itself. They bind whatever the image makes it do.

use std::fs;
use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Bytes of memory that the process may have.
///
/// `RLIMIT_DATA` counts what can fill memory: the heap, and private writable mappings. `RLIMIT_AS` would count the
/// program, its libraries and reserved addresses as well, which differ by build and C library.
pub fn memory(bytes: u64) -> io::Result<()> {
    lower(Resource::Data, bytes)
}

/// Seconds of processor time, counted from the start of the process. This limit ends an endless loop when no
/// consumer is left to end it.
pub fn seconds(seconds: u64) -> io::Result<()> {
    lower(Resource::Cpu, seconds)
}

/// No dump, which would contain the image; and where the kernel must end a process of the pod, this one.
pub fn expendable() -> io::Result<()> {
    lower(Resource::Core, 0)?;
    // A sandbox without this file is no reason not to decode: the limit of memory holds without it.
    drop(fs::write("/proc/self/oom_score_adj", "1000"));
    Ok(())
}

/// Sets a soft limit, within the hard one.
fn lower(resource: Resource, limit: u64) -> io::Result<()> {
    let maximum = getrlimit(resource).maximum;
    let current = Some(maximum.map_or(limit, |maximum| maximum.min(limit)));
    Ok(setrlimit(resource, Rlimit { current, maximum })?)
}
