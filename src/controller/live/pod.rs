//! What Kubernetes reports about a pod: its owner, its address, why it does not run. Pure.

use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt as _;
use serde::Deserialize;

use super::{ANNOTATION_BYTES, identity, shortened};
use crate::api::names;
use crate::controller::cause::Cause;
use crate::reason::Reason;

/// The longest message that is kept, in bytes.
const MESSAGE_BYTES: usize = 2 << 10;

/// A pod with the labels of a consumer.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "Pod")]
pub struct LivePod {
    /// Only what identifies the object and its version.
    pub(super) metadata: ObjectMeta,
    /// The pipeline whose consumer the pod is; `None`: it only has the labels of one.
    pub pipeline: Option<String>,
    /// As [`running_at`].
    pub address: Option<String>,
    /// The condition `Ready`.
    pub is_ready: bool,
    /// As [`cause_of`].
    pub cause: Option<Cause>,
    /// The annotation with the Secrets' versions.
    pub secrets: Option<String>,
    /// The annotation with the digest of its pod template.
    pub spec: Option<String>,
    /// The annotation `pod-deletion-cost`.
    pub deletion_cost: Option<String>,
}

impl From<Pod> for LivePod {
    fn from(pod: Pod) -> Self {
        let named = pod.labels().get(names::INSTANCE_LABEL).cloned();
        let conditions = || pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let annotation =
            |name: &str| pod.annotations().get(name).filter(|text| text.len() <= ANNOTATION_BYTES).cloned();
        let cause = cause_of(&pod);
        Self {
            pipeline: named.filter(|pipeline| is_consumer_of(&pod, pipeline)),
            address: running_at(&pod),
            is_ready: conditions().any(|condition| condition.type_ == "Ready" && condition.status == "True"),
            cause: cause.map(|cause| Cause { message: shortened(cause.message, MESSAGE_BYTES), ..cause }),
            secrets: annotation(names::SECRETS_ANNOTATION),
            spec: annotation(names::SPEC_ANNOTATION),
            deletion_cost: annotation(names::DELETION_COST_ANNOTATION),
            metadata: identity(&pod.metadata),
        }
    }
}

/// Whether a pod belongs to a ReplicaSet of the pipeline's Deployment, by the ReplicaSet's name. A user who may create
/// pods can forge labels and owner, but gains nothing: the request to a pod carries no credentials. Pods on the host
/// network, which consumers never use, do not count: a request to their address would reach the node.
fn is_consumer_of(pod: &Pod, pipeline: &str) -> bool {
    let Some(hash) = pod.labels().get(names::POD_TEMPLATE_HASH_LABEL) else { return false };
    let replica_set = format!("{}-{hash}", names::deployment(pipeline));
    let owned = pod
        .owner_references()
        .iter()
        .any(|owner| owner.controller == Some(true) && owner.kind == "ReplicaSet" && owner.name == replica_set);
    let on_node = pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true);
    owned && !on_node && pod.labels().get(names::INSTANCE_LABEL).is_some_and(|of| of == pipeline)
}

/// The pod's IP address if its consumer container runs; IPv6 in brackets, as in a URL.
fn running_at(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let running = status.container_statuses.iter().flatten().any(|container| {
        container.name == names::CONTAINER && container.state.as_ref().is_some_and(|state| state.running.is_some())
    });
    let ip = status.pod_ip.as_ref().filter(|_| running)?;
    Some(if ip.contains(':') { format!("[{ip}]") } else { ip.clone() })
}

/// Why the pod does not run, as Kubernetes reports it.
fn cause_of(pod: &Pod) -> Option<Cause> {
    let status = pod.status.as_ref()?;
    let unscheduled = status.conditions.iter().flatten().find(|condition| {
        condition.type_ == "PodScheduled"
            && condition.status == "False"
            && condition.reason.as_deref() == Some("Unschedulable")
    });
    if let Some(condition) = unscheduled {
        let detail = condition.message.as_deref().unwrap_or("no node fits").trim_end_matches('.');
        let message = format!(
            "a consumer pod can't be scheduled: {detail}; add nodes that fit, or lower \
             consumer.resources.requests"
        );
        return Some(Cause::new(Reason::Unschedulable, message));
    }
    let container = status.container_statuses.iter().flatten().find(|container| container.name == names::CONTAINER)?;
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let ended = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let detail = waiting.message.as_deref().unwrap_or_default();
    match waiting.reason.as_deref()? {
        "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" => {
            Some(Cause::new(Reason::ImagePullFailed, format!("the consumer image can't be pulled: {detail}")))
        }
        "CrashLoopBackOff" => Some(Cause::new(Reason::ContainerFailing, crashes(pod, ended))),
        reason @ ("CreateContainerConfigError" | "CreateContainerError" | "RunContainerError") => {
            Some(Cause::new(Reason::ContainerFailing, format!("the consumer can't be started ({reason}): {detail}")))
        }
        _ => None,
    }
}

/// How the consumer ended last, and what to do. Without the kubelet's message: its backoff time changes at every poll,
/// and each text would be a new event.
fn crashes(pod: &Pod, ended: Option<&ContainerStateTerminated>) -> String {
    let (name, namespace) = (pod.name_any(), pod.namespace().unwrap_or_default());
    let logs = format!("`kubectl logs --previous -n {namespace} {name}`");
    match ended.map(|ended| (ended.reason.as_deref().unwrap_or("Error"), ended.exit_code)) {
        Some(("OOMKilled", code)) => format!(
            "the consumer keeps crashing: it exceeded its memory limit (OOMKilled, exit code {code}); raise \
             consumer.resources.limits.memory, or lower consumer.concurrency or source.rabbitmq.prefetch"
        ),
        Some((reason, code)) => {
            format!("the consumer keeps crashing: it ended with exit code {code} ({reason}); for the cause see {logs}")
        }
        None => format!("the consumer keeps crashing; for the cause see {logs}"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn pod(status: serde_json::Value) -> Pod {
        serde_json::from_value(serde_json::json!({ "metadata": { "name": "p" }, "status": status })).unwrap()
    }

    #[test]
    fn kubernetes_own_words_become_reasons() {
        let waiting = |reason: &str| {
            pod(serde_json::json!({ "containerStatuses": [{
                "name": "consumer", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": { "waiting": { "reason": reason, "message": "m" } },
            }] }))
        };
        let unschedulable = pod(serde_json::json!({ "conditions": [
            { "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes" },
        ] }));
        let reason = |pod: &Pod| cause_of(pod).map(|cause| cause.reason);
        assert_eq!(reason(&waiting("ImagePullBackOff")), Some(Reason::ImagePullFailed));
        assert_eq!(reason(&waiting("CrashLoopBackOff")), Some(Reason::ContainerFailing));
        assert_eq!(reason(&waiting("ContainerCreating")), None);
        assert_eq!(reason(&unschedulable), Some(Reason::Unschedulable));
    }

    #[test]
    fn a_pod_that_does_not_run_says_how_it_ended_and_what_to_do() {
        let crashing = |ended: serde_json::Value| {
            let mut pod = pod(serde_json::json!({ "containerStatuses": [{
                "name": "consumer", "image": "", "imageID": "", "ready": false, "restartCount": 3, "lastState": ended,
                "state": { "waiting": { "reason": "CrashLoopBackOff", "message": "back-off 40s restarting" } },
            }] }));
            pod.metadata.namespace = Some("greench".to_owned());
            cause_of(&pod).unwrap().message
        };
        let message = crashing(serde_json::json!({ "terminated": { "exitCode": 101, "reason": "Error" } }));
        assert!(message.contains("exit code 101 (Error)"), "{message}");
        assert!(message.contains("`kubectl logs --previous -n greench p`") && !message.contains("40s"), "{message}");
        let message = crashing(serde_json::json!({ "terminated": { "exitCode": 137, "reason": "OOMKilled" } }));
        assert!(message.contains("OOMKilled") && message.contains("consumer.resources.limits.memory"), "{message}");
        assert!(crashing(serde_json::json!({})).contains("kubectl logs --previous"));
        let unschedulable = pod(serde_json::json!({ "conditions": [
            { "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes: Insufficient cpu." },
        ] }));
        let message = cause_of(&unschedulable).unwrap().message;
        assert!(
            message.contains("Insufficient cpu; add nodes") && message.ends_with("consumer.resources.requests"),
            "{message}"
        );
    }

    #[test]
    fn only_pods_of_the_pipelines_own_deployment_are_its_consumers() {
        let pod = |instance: &str, owner: (&str, &str, bool), host_network: bool| -> Pod {
            let (kind, name, controller) = owner;
            serde_json::from_value(serde_json::json!({
                "metadata": {
                    "name": "p",
                    "labels": { names::INSTANCE_LABEL: instance, names::POD_TEMPLATE_HASH_LABEL: "5d9" },
                    "ownerReferences": [
                        { "apiVersion": "apps/v1", "kind": kind, "name": name, "uid": "1", "controller": controller },
                    ],
                },
                "spec": { "containers": [], "hostNetwork": host_network },
            }))
            .unwrap()
        };
        let ours = ("ReplicaSet", "tiles-consumer-5d9", true);
        assert!(is_consumer_of(&pod("tiles", ours, false), "tiles"));
        for (why, not) in [
            ("another pipeline", pod("others", ours, false)),
            ("another Deployment", pod("tiles", ("ReplicaSet", "script-5d9", true), false)),
            ("a Job", pod("tiles", ("Job", "tiles-consumer-5d9", true), false)),
            ("not the controller", pod("tiles", ("ReplicaSet", "tiles-consumer-5d9", false), false)),
            ("on the host network", pod("tiles", ours, true)),
            ("no owner", Pod { metadata: Default::default(), ..pod("tiles", ours, false) }),
        ] {
            assert!(!is_consumer_of(&not, "tiles"), "{why}");
        }
    }

    #[test]
    fn only_a_running_consumer_is_asked() {
        let running = |state: &str, ip: &str| {
            pod(serde_json::json!({ "podIP": ip, "containerStatuses": [{
                "name": "consumer", "image": "", "imageID": "", "ready": true, "restartCount": 0, "state": { state: {} },
            }] }))
        };
        assert_eq!(running_at(&running("running", "10.0.0.7")).as_deref(), Some("10.0.0.7"));
        assert_eq!(running_at(&running("running", "fd00::7")).as_deref(), Some("[fd00::7]"));
        assert_eq!(running_at(&running("waiting", "10.0.0.7")), None);
    }
}
