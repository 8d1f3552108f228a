//! Reads everything a decision needs: the watched objects, the queue's depth, what the pods say of
//! themselves. It must never decide, nor write anything anywhere; what could not be read is a value
//! here, not an error.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use futures::future::{join_all, try_join_all};
use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod, Secret};
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client, ResourceExt as _};

use super::answered::answered;
use super::brokers::Brokers;
use super::listed::Lists;
use super::observed::{Observed, ObservedPod, Trouble};
use crate::api::ImagePipeline;
use crate::api::failures::FailurePolicy;
use crate::api::names::{self, SecretRole};
use crate::broker_address::BrokerAddress;
use crate::pod_status::{Health, PodStatus};
use crate::queue::QueueDepth;
use crate::reason::Reason;

/// How long a pod may take to answer, and how much it may say.
const STATUS_TIMEOUT: Duration = Duration::from_secs(1);
const STATUS_LIMIT: usize = 64 * 1024;

/// How often it is looked whether Secrets have changed while a broker does not answer.
const LOOK_AT_SECRETS_EVERY: Duration = Duration::from_millis(250);

/// The keys of a Secret.
type Data = BTreeMap<String, ByteString>;

/// Where observations come from.
pub struct Sources {
    /// Reads the data of Secrets, which no store holds.
    pub client: Client,
    /// The consumer Deployments.
    pub deployments: Store<Deployment>,
    /// The consumer pods.
    pub pods: Store<Pod>,
    /// That Secrets exist, and in which version.
    pub secrets: Store<PartialObjectMeta<Secret>>,
    /// Sessions with brokers.
    pub brokers: Brokers,
    /// Asks pods.
    pub http: reqwest::Client,
    /// Whether the stores hold what the API server holds.
    pub lists: Lists,
}

impl Sources {
    /// Looks at everything that concerns one pipeline, all at the same time.
    pub async fn observe(&self, pipeline: &ImagePipeline) -> Observed {
        let namespace = pipeline.namespace().unwrap_or_default();
        let name = pipeline.name_any();
        let deployment = self.deployments.get(&ObjectRef::new(&names::deployment(&name)).within(&namespace));
        let pods = self
            .pods
            .state_filter(|pod| pod.namespace().as_deref() == Some(namespace.as_str()) && is_consumer_of(pod, &name));
        let asked = join_all(pods.iter().map(|pod| self.ask(pod)));
        let (depth, pods) = tokio::join!(self.depth(pipeline, &namespace), asked);
        let revision = |secret: &String| self.revision(&namespace, secret).unwrap_or_else(|| "absent".to_owned());
        let parked = self.parked(pipeline, &pods).await;
        let secrets = names::secrets(&pipeline.spec.source, &pipeline.spec.destination);
        Observed {
            deployment,
            spec: String::new(),
            written: None,
            depth,
            parked,
            foreign: 0,
            credentials: self.credentials(pipeline, &namespace),
            secrets: secrets.iter().map(|(_, secret)| revision(secret)).collect::<Vec<_>>().join("."),
            pods,
        }
    }

    /// A broker that hangs is not waited for once the Secrets say something else.
    async fn depth(&self, pipeline: &ImagePipeline, namespace: &str) -> Result<QueueDepth, Trouble> {
        let secrets = self.broker_secrets(pipeline);
        loop {
            let versions = self.versions(namespace, &secrets);
            tokio::select! {
                depth = self.depth_as_of(&versions, pipeline, namespace, &secrets) => return depth,
                () = self.changed(&versions, namespace, &secrets) => {}
            }
        }
    }

    async fn depth_as_of(
        &self,
        versions: &Result<String, Trouble>,
        pipeline: &ImagePipeline,
        namespace: &str,
        secrets: &[(SecretRole, String)],
    ) -> Result<QueueDepth, Trouble> {
        let source = &pipeline.spec.source.rabbitmq;
        let revision = match versions {
            Ok(versions) => versions,
            Err(missing) => {
                self.brokers.forget(&ObjectRef::from_obj(pipeline));
                return Err(missing.clone());
            }
        };
        let address = async {
            let data = try_join_all(secrets.iter().map(|(role, secret)| self.data(namespace, *role, secret))).await?;
            let data: HashMap<SecretRole, Data> = data.into_iter().collect();
            BrokerAddress::read(source, |role, key| Some(data.get(&role)?.get(key)?.0.clone()))
                .map_err(|invalid| Trouble::new(invalid.reason(), invalid.to_string()))
        };
        self.brokers.depth(ObjectRef::from_obj(pipeline), source, revision, address).await
    }

    /// Messages in the parking queue, which a consumer makes when it parks its first.
    async fn parked(&self, pipeline: &ImagePipeline, pods: &[ObservedPod]) -> Option<u32> {
        let (source, failures) = (&pipeline.spec.source, &pipeline.spec.failures);
        if failures.policy != FailurePolicy::Park {
            return None;
        }
        let queue = names::parking_queue(source, failures);
        let has_parked = |report: &PodStatus| report.parked > 0 || matches!(report.parking, Health::Available { .. });
        let expected = pods.iter().filter_map(|pod| pod.report.as_ref()).any(has_parked);
        self.brokers.parked(ObjectRef::from_obj(pipeline), &queue, expected).await
    }

    /// The versions of Secrets as one text, or which of them is missing.
    fn versions(&self, namespace: &str, secrets: &[(SecretRole, String)]) -> Result<String, Trouble> {
        let versions = secrets.iter().map(|(role, secret)| {
            self.revision(namespace, secret).ok_or_else(|| secret_not_found(secret, role.field()))
        });
        Ok(versions.collect::<Result<Vec<_>, _>>()?.join("."))
    }

    /// Waits until the versions are others than those.
    async fn changed(&self, versions: &Result<String, Trouble>, namespace: &str, secrets: &[(SecretRole, String)]) {
        let mut looks = tokio::time::interval(LOOK_AT_SECRETS_EVERY);
        while self.versions(namespace, secrets) == *versions {
            looks.tick().await;
        }
    }

    fn broker_secrets(&self, pipeline: &ImagePipeline) -> Vec<(SecretRole, String)> {
        let mut secrets = names::secrets(&pipeline.spec.source, &pipeline.spec.destination);
        secrets.retain(|(role, _)| !of_store(*role));
        secrets
    }

    async fn data(&self, namespace: &str, role: SecretRole, secret: &str) -> Result<(SecretRole, Data), Trouble> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        match answered(api.get_opt(secret)).await {
            Ok(Some(found)) => Ok((role, found.data.unwrap_or_default())),
            Ok(None) => Err(secret_not_found(secret, role.field())),
            Err(error) => {
                let message = format!("Secret {secret:?} of {} can't be read: {error}", role.field());
                Err(Trouble::new(Reason::SecretNotFound, message))
            }
        }
    }

    /// The store's Secrets are the consumers' to read; that one is missing can be seen from here,
    /// also while there is no consumer.
    fn credentials(&self, pipeline: &ImagePipeline, namespace: &str) -> Option<Trouble> {
        let secrets = names::secrets(&pipeline.spec.source, &pipeline.spec.destination);
        let missing =
            secrets.iter().find(|(role, secret)| of_store(*role) && self.revision(namespace, secret).is_none());
        missing.map(|(role, secret)| secret_not_found(secret, role.field()))
    }

    fn revision(&self, namespace: &str, secret: &str) -> Option<String> {
        self.secrets.get(&ObjectRef::new(secret).within(namespace))?.resource_version()
    }

    async fn ask(&self, pod: &Pod) -> ObservedPod {
        let condition = |kind: &str| {
            pod.status
                .iter()
                .flat_map(|status| status.conditions.iter().flatten())
                .find(|condition| condition.type_ == kind)
        };
        let report = match running_at(pod) {
            Some(address) => self.report(&address).await,
            None => None,
        };
        ObservedPod {
            name: pod.name_any(),
            ready: condition("Ready").is_some_and(|ready| ready.status == "True"),
            ending: pod.metadata.deletion_timestamp.is_some(),
            trouble: trouble_of(pod),
            report,
            secrets: pod.annotations().get(names::SECRETS_ANNOTATION).cloned(),
            spec: pod.annotations().get(names::SPEC_ANNOTATION).cloned(),
            deletion_cost: pod.annotations().get(names::DELETION_COST_ANNOTATION).cloned(),
        }
    }

    /// A pod is not trusted: its answer is bounded in time and size, and read as one known type.
    async fn report(&self, address: &str) -> Option<PodStatus> {
        let url = format!("http://{address}:{}/status", names::HTTP_PORT);
        let mut response = self.http.get(url).timeout(STATUS_TIMEOUT).send().await.ok()?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.ok()? {
            body.extend_from_slice(&chunk);
            if body.len() > STATUS_LIMIT {
                return None;
            }
        }
        serde_json::from_slice(&body).ok()
    }
}

fn of_store(role: SecretRole) -> bool {
    matches!(role, SecretRole::Store | SecretRole::StoreAuthority)
}

fn secret_not_found(secret: &str, field: &str) -> Trouble {
    let message =
        format!("Secret {secret:?} of {field} does not exist in this namespace; create it, or correct the field");
    Trouble::new(Reason::SecretNotFound, message)
}

/// Whether a pod comes from a ReplicaSet of the pipeline's Deployment, which gives it that name. Who
/// may create pods may write any label and any owner, but gains nothing by it: a pod is asked without
/// credentials, and one on its node's network, as ours never are, is not asked: that would be the node.
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

/// The pod's address, if its consumer runs; IPv6 in the brackets a URL needs.
fn running_at(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let running = status.container_statuses.iter().flatten().any(|container| {
        container.name == names::CONTAINER && container.state.as_ref().is_some_and(|state| state.running.is_some())
    });
    let ip = status.pod_ip.as_ref().filter(|_| running)?;
    Some(if ip.contains(':') { format!("[{ip}]") } else { ip.clone() })
}

/// Why Kubernetes says that a pod does not run.
fn trouble_of(pod: &Pod) -> Option<Trouble> {
    let status = pod.status.as_ref()?;
    let unscheduled = status.conditions.iter().flatten().find(|condition| {
        condition.type_ == "PodScheduled"
            && condition.status == "False"
            && condition.reason.as_deref() == Some("Unschedulable")
    });
    if let Some(condition) = unscheduled {
        let detail = condition.message.as_deref().unwrap_or("no node fits").trim_end_matches('.');
        let message = format!(
            "a consumer pod can't be scheduled: {detail}; give the cluster room or nodes that fit, or lower \
             consumer.resources.requests"
        );
        return Some(Trouble::new(Reason::Unschedulable, message));
    }
    let container = status.container_statuses.iter().flatten().find(|container| container.name == names::CONTAINER)?;
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let ended = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let detail = waiting.message.as_deref().unwrap_or_default();
    match waiting.reason.as_deref()? {
        "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" => {
            Some(Trouble::new(Reason::ImagePullFailed, format!("the consumer's image can't be pulled: {detail}")))
        }
        "CrashLoopBackOff" => Some(Trouble::new(Reason::ContainerFailing, crashes(pod, ended))),
        reason @ ("CreateContainerConfigError" | "CreateContainerError" | "RunContainerError") => {
            Some(Trouble::new(Reason::ContainerFailing, format!("the consumer can't be started ({reason}): {detail}")))
        }
        _ => None,
    }
}

/// How the consumer ended last, and what to do. Without the time until the next start, which the kubelet
/// tells and which differs at every look.
fn crashes(pod: &Pod, ended: Option<&ContainerStateTerminated>) -> String {
    let (name, namespace) = (pod.name_any(), pod.namespace().unwrap_or_default());
    let logs = format!("`kubectl logs --previous -n {namespace} {name}`");
    match ended.map(|ended| (ended.reason.as_deref().unwrap_or("Error"), ended.exit_code)) {
        Some(("OOMKilled", code)) => format!(
            "the consumer does not keep running: it took more memory than its limit (OOMKilled, exit code {code}); \
             raise consumer.resources.limits.memory, or lower consumer.concurrency or source.rabbitmq.prefetch"
        ),
        Some((reason, code)) => {
            format!("the consumer does not keep running: it ended with exit code {code} ({reason}); see why in {logs}")
        }
        None => format!("the consumer does not keep running; see why in {logs}"),
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
        let reason = |pod: &Pod| trouble_of(pod).map(|trouble| trouble.reason);
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
            trouble_of(&pod).unwrap().message
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
        let message = trouble_of(&unschedulable).unwrap().message;
        assert!(
            message.contains("Insufficient cpu; give") && message.ends_with("consumer.resources.requests"),
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
            ("another pipeline's", pod("others", ours, false)),
            ("of another Deployment", pod("tiles", ("ReplicaSet", "script-5d9", true), false)),
            ("of a job", pod("tiles", ("Job", "tiles-consumer-5d9", true), false)),
            ("not its controller", pod("tiles", ("ReplicaSet", "tiles-consumer-5d9", false), false)),
            ("on the node's network", pod("tiles", ours, true)),
            ("made by hand", Pod { metadata: Default::default(), ..pod("tiles", ours, false) }),
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
