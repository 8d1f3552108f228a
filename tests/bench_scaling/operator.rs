//! Resources and writes of the operator: memory and CPU time of its process from /proc, and its API writes from the
//! audit log. The operator's own reports are not used.

use std::collections::BTreeMap;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt as _};
use serde_json::Value;

use support::usage;

const NAMESPACE: &str = "image-pipeline-system";
const SELECTOR: &str = "app.kubernetes.io/name=image-pipeline,app.kubernetes.io/component=operator";
/// The kernel's name of the process.
const COMMAND: &str = "image-pipeline\n";

/// The processes of the operator's pods on this machine.
pub struct Operator {
    processes: Vec<u32>,
    user: String,
    audit: PathBuf,
}

/// A position in the audit log.
#[derive(Clone, Copy, Debug)]
pub struct Mark(u64);

impl Operator {
    /// Finds the installed operator.
    pub async fn find(client: &Client) -> Self {
        let api: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
        let pods = api.list(&ListParams::default().labels(SELECTOR)).await.expect("the operator's pods").items;
        let account = pods.first().and_then(|pod| pod.spec.as_ref()?.service_account_name.clone());
        let processes: Vec<u32> = pods.iter().flat_map(|pod| processes_of(&pod.uid().expect("a uid"))).collect();
        assert!(!processes.is_empty(), "no process of the operator's on this machine: make bench-scaling installs it");
        let directory = std::env::var_os("CLUSTER_DIR").expect("CLUSTER_DIR is set by make: run `make bench-scaling`");
        let user = format!("system:serviceaccount:{NAMESPACE}:{}", account.expect("a service account"));
        Self { processes, user, audit: PathBuf::from(directory).join("audit.log") }
    }

    /// A process whose requests, as this user, are in the log `audit`.
    pub fn of(process: u32, user: &str, audit: PathBuf) -> Self {
        Self { processes: vec![process], user: user.to_owned(), audit }
    }

    /// Resident bytes of the largest process.
    pub fn rss(&self) -> f64 {
        self.processes.iter().map(|process| usage::rss(*process)).max().expect("a process") as f64
    }

    /// Peak resident bytes of any process.
    pub fn peak_rss(&self) -> f64 {
        self.processes.iter().map(|process| usage::peak_rss(*process)).max().expect("a process") as f64
    }

    /// Waits for `time` without changes. Returns the CPU use of the busiest process in percent of one core, and the
    /// writes.
    pub async fn idle(&self, time: Duration) -> (f64, BTreeMap<String, usize>) {
        let (began, mark) = (Instant::now(), self.mark());
        let used: Vec<Duration> = self.processes.iter().map(|process| usage::cpu(*process)).collect();
        tokio::time::sleep(time).await;
        let part = |(process, before): (&u32, &Duration)| (usage::cpu(*process) - *before).as_secs_f64();
        let most = self.processes.iter().zip(&used).map(part).fold(0.0, f64::max);
        (most / began.elapsed().as_secs_f64() * 100.0, self.writes_since(mark))
    }

    /// The current end of the audit log.
    pub fn mark(&self) -> Mark {
        Mark(std::fs::metadata(&self.audit).expect("the audit log").len())
    }

    /// Number of the operator's writes since then, without Leases, by verb and resource.
    pub fn writes_since(&self, Mark(start): Mark) -> BTreeMap<String, usize> {
        let mut log = std::fs::File::open(&self.audit).expect("the audit log");
        log.seek(SeekFrom::Start(start)).expect("the earlier end");
        let mut text = String::new();
        log.read_to_string(&mut text).expect("text");
        let mut writes = BTreeMap::new();
        for what in text.lines().filter_map(|line| write(line, &self.user)) {
            *writes.entry(what).or_default() += 1;
        }
        writes
    }

    /// Waits until it has written nothing for `time`.
    pub async fn still(&self, time: Duration, limit: Duration) {
        let began = Instant::now();
        while !self.idle(time).await.1.is_empty() {
            assert!(began.elapsed() < limit, "the operator has not stopped writing within {limit:?}");
        }
    }
}

/// The write of this user in a line of the audit log.
fn write(line: &str, user: &str) -> Option<String> {
    // The last line may be incomplete.
    let entry: Value = serde_json::from_str(line).ok()?;
    let (verb, object) = (entry["verb"].as_str()?, &entry["objectRef"]);
    let resource = object["resource"].as_str()?;
    let writes = ["create", "update", "patch", "delete", "deletecollection"].contains(&verb);
    (writes && entry["user"]["username"] == user && resource != "leases").then(|| {
        let part = object["subresource"].as_str().map(|part| format!("/{part}")).unwrap_or_default();
        format!("{verb} {resource}{part}")
    })
}

/// Processes of a pod, by the control group that the kubelet names after its uid.
fn processes_of(uid: &str) -> Vec<u32> {
    let group = format!("/pod{uid}/");
    let numbers =
        std::fs::read_dir("/proc").expect("/proc").filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    numbers
        .filter(|process| {
            // A process that ends meanwhile does not match.
            let read = |file: &str| std::fs::read_to_string(format!("/proc/{process}/{file}")).unwrap_or_default();
            read("cgroup").contains(&group) && read("comm") == COMMAND
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_told_from_reads_leases_and_other_users() {
        let line = |user: &str, verb: &str, resource: &str, part: &str| {
            let object = serde_json::json!({ "resource": resource, "subresource": part });
            let object = if part.is_empty() { serde_json::json!({ "resource": resource }) } else { object };
            serde_json::json!({ "verb": verb, "user": { "username": user }, "objectRef": object }).to_string()
        };
        let cases = [
            (line("us", "patch", "imagepipelines", "status"), Some("patch imagepipelines/status")),
            (line("us", "create", "events", ""), Some("create events")),
            (line("us", "list", "pods", ""), None),
            (line("us", "update", "leases", ""), None),
            (line("kubelet", "patch", "pods", "status"), None),
            ("{\"verb\": \"pa".to_owned(), None),
        ];
        for (line, expected) in cases {
            assert_eq!(write(&line, "us").as_deref(), expected, "{line}");
        }
    }
}
