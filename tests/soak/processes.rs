//! The product's processes as /proc of this machine shows them. Signals and limits go only to processes of the
//! tests' cluster.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use support::eventually::eventually;

/// The kernel's name of the product's process.
const COMMAND: &str = "image-pipeline\n";

/// Control group of the whole cluster, as named in tests/cluster/paths.
const CLUSTER: &str = "/image-pipeline-cluster/";

/// The role of one of the product's processes.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Role {
    /// Consumer of the pipeline with this name.
    Consumer(String),
    Operator,
}

/// A process in a pod.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Process {
    /// Process id on this machine.
    pub id: u32,
    /// Uid of the pod.
    pub pod: String,
    pub role: Role,
}

/// All processes of the product in the cluster.
pub fn all() -> Vec<Process> {
    let ids =
        std::fs::read_dir("/proc").expect("/proc").filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    ids.filter_map(process).collect()
}

/// Consumer processes of a pipeline.
pub fn consumers(pipeline: &str) -> Vec<Process> {
    all().into_iter().filter(|process| process.role == Role::Consumer(pipeline.to_owned())).collect()
}

pub fn operators() -> Vec<Process> {
    all().into_iter().filter(|process| process.role == Role::Operator).collect()
}

/// Ids of a pod's processes with this name.
pub fn named(pod: &str, name: &str) -> Vec<u32> {
    let ids =
        std::fs::read_dir("/proc").expect("/proc").filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let is = |id: &u32| pod_of(&read(*id, "cgroup")).as_deref() == Some(pod) && read(*id, "comm").trim_end() == name;
    ids.filter(is).collect()
}

/// Sends a signal, named without SIG. Does nothing if the process has ended.
pub fn signal(id: u32, signal: &str) {
    assert!(read(id, "cgroup").contains(CLUSTER) || !exists(id), "process {id} is not in the tests' cluster");
    Command::new("kill").args(["-s", signal, &id.to_string()]).output().expect("kill");
}

/// Waits for the end of a process.
pub async fn gone(id: u32, limit: Duration) {
    eventually(&format!("process {id} to be gone"), limit, async || {
        if exists(id) { Err("it still runs".to_owned()) } else { Ok(()) }
    })
    .await;
}

/// Whether the process exists and has not ended.
pub fn exists(id: u32) -> bool {
    resident(id).is_some()
}

/// Resident bytes of a process; `None` for a zombie.
pub fn resident(id: u32) -> Option<u64> {
    of_status(id, "VmRSS:")
}

fn of_status(id: u32, line: &str) -> Option<u64> {
    Some(first_of_status(id, line)?.parse::<u64>().ok()? * 1024)
}

/// First word of a line in the process's status.
fn first_of_status(id: u32, line: &str) -> Option<String> {
    let status = read(id, "status");
    let rest = status.lines().find_map(|its| its.strip_prefix(line))?;
    rest.split_whitespace().next().map(str::to_owned)
}

/// Bytes of mapped data, stacks included.
pub fn data(id: u32) -> Option<u64> {
    of_status(id, "VmData:")
}

/// Whether the process has a data limit.
pub fn is_bounded(id: u32) -> bool {
    let limits = read(id, "limits");
    limits.lines().any(|line| line.starts_with("Max data size") && !line.contains("unlimited"))
}

/// Limits the data of a process, and of its future child processes, for the rest of their lives. Runs as the
/// process's own user, who may lower the limit but not raise it again.
pub fn bound_data(id: u32, bytes: u64) {
    assert!(read(id, "cgroup").contains(CLUSTER) || !exists(id), "process {id} is not in the tests' cluster");
    let [Some(user), Some(group)] = ["Uid:", "Gid:"].map(|line| first_of_status(id, line)) else { return };
    let mut command = Command::new("setpriv");
    command.args([format!("--reuid={user}"), format!("--regid={group}"), "--clear-groups".to_owned()]);
    command.args(["prlimit".to_owned(), format!("--pid={id}"), format!("--data={bytes}:{bytes}")]);
    let output = command.output().expect("setpriv");
    assert!(output.status.success() || !exists(id), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Process id of a part of the cluster, by the name that tests/cluster/process recorded.
pub fn part(name: &str) -> u32 {
    let recorded = cluster_directory().join("pid").join(name);
    std::fs::read_to_string(recorded).expect("a process id").trim().parse().expect("a number")
}

/// Directory of the cluster's files.
pub fn cluster_directory() -> PathBuf {
    PathBuf::from(std::env::var_os("CLUSTER_DIR").expect("CLUSTER_DIR is set by make: run `make soak`"))
}

/// The file with the memory limit of the process's control group.
pub fn memory_limit(id: u32) -> Option<PathBuf> {
    let groups = read(id, "cgroup");
    let of = |line: &str| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let path = path.trim_start_matches('/');
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|one| one == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => return None,
        };
        Some(Path::new(root).join(path).join(file)).filter(|file| file.exists())
    };
    groups.lines().find_map(of)
}

fn process(id: u32) -> Option<Process> {
    if read(id, "comm") != COMMAND {
        return None;
    }
    let (pod, command) = (pod_of(&read(id, "cgroup"))?, read(id, "cmdline"));
    Some(Process { id, pod, role: role(&command)? })
}

/// A pod's uid, from the control groups of one of its processes.
fn pod_of(groups: &str) -> Option<String> {
    let line = groups.lines().find(|line| line.contains(CLUSTER) && line.contains("/pod"))?;
    Some(line.split_once("/pod")?.1.split('/').next()?.to_owned())
}

/// From a command line whose words end with NUL.
fn role(command: &str) -> Option<Role> {
    let mut words = command.split('\0').skip(1);
    match words.next()? {
        "controller" => Some(Role::Operator),
        "consumer" => {
            let pipeline = words.find_map(|word| word.strip_prefix("--pipeline-name="))?;
            Some(Role::Consumer(pipeline.to_owned()))
        }
        _ => None,
    }
}

/// A file of the process in /proc; empty if the process has ended.
fn read(id: u32, file: &str) -> String {
    let content = std::fs::read(format!("/proc/{id}/{file}")).unwrap_or_default();
    String::from_utf8_lossy(&content).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_control_group_and_its_command_line() {
        let groups = "5:memory:/image-pipeline-cluster/kubepods/burstable/pod0f-1/abc\n0::/\n";
        assert_eq!(pod_of(groups).as_deref(), Some("0f-1"));
        assert_eq!(pod_of("5:memory:/kubepods/pod0f-1/abc\n"), None, "another cluster's");
        assert_eq!(pod_of("5:memory:/image-pipeline-cluster/parts\n"), None);
        let consumer = "/image-pipeline\0consumer\0--pipeline-namespace=a\0--pipeline-name=b\0";
        assert_eq!(role(consumer), Some(Role::Consumer("b".to_owned())));
        assert_eq!(role("/image-pipeline\0controller\0--listen=x\0"), Some(Role::Operator));
        assert_eq!(role("image-pipeline\0publish\0"), None);
    }
}
