//! The limit of open files. The operator has a connection to each pod that it polls often, and containerd under systemd
//! starts a container with a limit of 1,024.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit as far as this process may.
///
/// # Errors
/// The kernel refused.
pub fn raise_limit() -> std::io::Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}
