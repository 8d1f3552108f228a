//! Container restarts reported by the API server, compared with the restarts that faults caused. Each fault names
//! the container it ends; a restart at the time of a fault does not count as caused by it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use futures::TryStreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};

/// Restarts of one pod.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Restarts {
    /// Namespace and name.
    pub pod: String,
    /// Restarts that the API server reports.
    pub seen: i32,
    /// Highest number of restarts that the faults caused.
    pub caused: i32,
    /// Reason of the last container's end.
    pub reason: String,
}

/// All pods, by uid.
#[derive(Clone, Debug, Default)]
pub struct Pods(Arc<Mutex<BTreeMap<String, Restarts>>>);

impl Pods {
    /// Follows the pods of a namespace until it is canceled.
    pub async fn follow(&self, client: Client, namespace: &str) {
        let api: Api<Pod> = Api::namespaced(client, namespace);
        let mut pods = std::pin::pin!(watcher(api, watcher::Config::default()).default_backoff().applied_objects());
        loop {
            // An absent API server is one of the faults.
            if let Ok(Some(pod)) = pods.try_next().await {
                self.note(&pod);
            }
        }
    }

    /// Records that a fault ends a container of this pod.
    pub fn cause(&self, uid: &str) {
        self.0.lock().unwrap().entry(uid.to_owned()).or_default().caused += 1;
    }

    /// Number of times that faults ended a container of this pod.
    pub fn caused(&self, uid: &str) -> i32 {
        self.0.lock().unwrap().get(uid).map_or(0, |restarts| restarts.caused)
    }

    /// Pods with more restarts than the faults caused.
    pub fn unexplained(&self) -> Vec<Restarts> {
        self.0.lock().unwrap().values().filter(|pod| pod.seen > pod.caused).cloned().collect()
    }

    /// Number of all observed restarts.
    pub fn total(&self) -> i32 {
        self.0.lock().unwrap().values().map(|pod| pod.seen).sum()
    }

    fn note(&self, pod: &Pod) {
        let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
        let (mut seen, mut reason) = (0, String::new());
        for status in statuses {
            seen += status.restart_count;
            let ended = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
            if let Some(ended) = ended {
                let why = ended.reason.as_deref().unwrap_or("no reason");
                reason = format!("{} ended with {}, {why}", status.name, ended.exit_code);
            }
        }
        let mut pods = self.0.lock().unwrap();
        let entry = pods.entry(pod.uid().unwrap_or_default()).or_default();
        entry.pod = format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
        entry.seen = entry.seen.max(seen);
        entry.reason = reason;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(uid: &str, restarts: i32) -> Pod {
        let ended = json!({ "terminated": { "exitCode": 137, "reason": "OOMKilled" } });
        let status = json!({
            "name": "consumer", "restartCount": restarts, "lastState": ended,
            "image": "", "imageID": "", "ready": true,
        });
        let metadata = json!({ "name": "a", "namespace": "b", "uid": uid });
        serde_json::from_value(json!({ "metadata": metadata, "status": { "containerStatuses": [status] } })).unwrap()
    }

    #[test]
    fn a_restart_is_explained_by_a_fault_at_its_own_pod_alone() {
        let pods = Pods::default();
        pods.cause("one");
        pods.note(&pod("one", 1));
        pods.note(&pod("other", 0));
        assert_eq!((pods.unexplained(), pods.total()), (vec![], 1));
        pods.note(&pod("one", 2));
        pods.note(&pod("other", 1));
        let names: Vec<i32> = pods.unexplained().iter().map(|pod| pod.seen - pod.caused).collect();
        assert_eq!(names, [1, 1]);
        assert_eq!(pods.unexplained()[0].reason, "consumer ended with 137, OOMKilled");
    }
}
