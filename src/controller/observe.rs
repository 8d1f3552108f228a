//! Reads the input of a reconcile: the watched objects, the queue depth and the pods' `/status`. A failed read is a
//! value of [`Observation`], not an error.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::future::{join_all, try_join_all};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client, Resource as _, ResourceExt as _};
use reqwest::header::CONNECTION;

use super::build::Template;
use super::cause::Cause;
use super::connections::Connections;
use super::foreign_consumers;
use super::index::Index;
use super::initial_lists::Lists;
use super::live::{LiveDeployment, LivePod};
use super::memory::PipelineMemory;
use super::observation::{Observation, ObservedPod};
use super::queue_reads::QueueReads;
use super::requests;
use super::rollouts;
use crate::api::ImagePipeline;
use crate::api::failures::FailurePolicy;
use crate::api::names::{self, SecretRole};
use crate::pod_status::{Health, PodStatus};
use crate::rabbitmq::QueueDepth;
use crate::rabbitmq::address::BrokerAddress;
use crate::reason::Reason;

/// Limits of a pod's `/status` response: time and bytes.
const STATUS_TIMEOUT: Duration = Duration::from_secs(1);
const STATUS_LIMIT: usize = 64 * 1024;

/// How long a connection to a pod is kept for the next poll. A consumer closes it after ten seconds without a request,
/// and a request at that moment would fail. Where polls are further apart, none is kept.
pub const KEPT_FOR: Duration = Duration::from_secs(5);

/// How often the Secrets are checked for a change while RabbitMQ has not answered.
const LOOK_AT_SECRETS_EVERY: Duration = Duration::from_millis(250);

/// The data of a Secret, by key.
type Data = BTreeMap<String, ByteString>;

/// The sources of observations.
pub struct Sources {
    /// Reads the data of Secrets: the stores hold only their metadata.
    pub client: Client,
    pub deployments: Store<LiveDeployment>,
    pub pods: Pods,
    /// Existence and resource version of Secrets.
    pub secrets: Store<PartialObjectMeta<Secret>>,
    pub connections: Arc<Connections>,
    /// For the pods' `/status`.
    pub http: reqwest::Client,
    /// Whether the stores have received their first lists.
    pub lists: Lists,
}

/// All pods with the labels of consumers.
pub struct Pods {
    pub store: Store<LivePod>,
    /// Pods by the pipeline whose consumers they are.
    pub by_pipeline: Index,
}

impl Pods {
    /// The consumer pods of a pipeline.
    fn of(&self, namespace: &str, pipeline: &str) -> Vec<Arc<LivePod>> {
        let pods = self.by_pipeline.naming(namespace, pipeline);
        pods.iter().filter_map(|pod| self.store.get(&ObjectRef::new(pod).within(namespace))).collect()
    }
}

impl Sources {
    /// Observes one pipeline. The queue depth and all pods are read at the same time.
    pub async fn observe(
        &self,
        pipeline: &ImagePipeline,
        template: &Template,
        memory: &mut PipelineMemory,
    ) -> Observation {
        let namespace = pipeline.namespace().unwrap_or_default();
        let name = pipeline.name_any();
        let deployment = self.deployment(pipeline);
        let pods = self.pods.of(&namespace, &name);
        let every = pipeline.spec.scaling.poll_interval.into();
        let asked = join_all(pods.iter().map(|pod| self.ask(pod, every)));
        let (depth, pods) = tokio::join!(self.depth(pipeline, &namespace, &mut memory.queues), asked);
        let revision = |secret: &String| self.revision(&namespace, secret).unwrap_or_else(|| "absent".to_owned());
        let parked = self.parked(pipeline, &pods, &mut memory.queues).await;
        let secrets = names::secrets(&pipeline.spec.source, &pipeline.spec.destination);
        let at = Timestamp::now();
        Observation {
            at,
            spec: template.digest().to_owned(),
            hold: template.hold(),
            written: memory.applies.unseen_size(deployment.as_deref()),
            foreign: foreign_consumers::observe(&mut memory.foreign, pipeline, &depth, &pods, at),
            deployment,
            depth,
            parked,
            credentials: self.credentials(pipeline, &namespace),
            secrets: secrets.iter().map(|(_, secret)| revision(secret)).collect::<Vec<_>>().join("."),
            pods,
        }
        .without_depth_of_stream()
    }

    /// The Deployment with the pipeline's Deployment name, whatever its owner.
    pub fn deployment(&self, pipeline: &ImagePipeline) -> Option<Arc<LiveDeployment>> {
        let key = ObjectRef::new(&names::deployment(&pipeline.name_any()));
        self.deployments.get(&key.within(&pipeline.namespace().unwrap_or_default()))
    }

    /// The pipelines whose rollouts have begun.
    pub fn rolling_out(&self) -> impl Iterator<Item = ObjectRef<ImagePipeline>> {
        let begun = self.deployments.state().into_iter().filter(|live| rollouts::has_earlier_pods(live));
        begun.filter_map(|live| {
            let name = live.labels().get(names::INSTANCE_LABEL)?;
            Some(ObjectRef::new(name).within(live.meta().namespace.as_deref()?))
        })
    }

    /// Starts again when a Secret changes, so that a fixed Secret does not wait for a broker that never answers.
    async fn depth(
        &self,
        pipeline: &ImagePipeline,
        namespace: &str,
        queues: &mut QueueReads,
    ) -> Result<QueueDepth, Cause> {
        let secrets = self.broker_secrets(pipeline);
        loop {
            let versions = self.versions(namespace, &secrets);
            tokio::select! {
                depth = self.depth_as_of(&versions, pipeline, (namespace, &secrets), queues) => return depth,
                () = self.changed(&versions, namespace, &secrets) => {}
            }
        }
    }

    async fn depth_as_of(
        &self,
        versions: &Result<String, Cause>,
        pipeline: &ImagePipeline,
        (namespace, secrets): (&str, &[(SecretRole, String)]),
        queues: &mut QueueReads,
    ) -> Result<QueueDepth, Cause> {
        let source = &pipeline.spec.source.rabbitmq;
        let revision = match versions {
            Ok(versions) => versions,
            Err(missing) => {
                queues.close();
                return Err(missing.clone());
            }
        };
        let address = async {
            let data = try_join_all(secrets.iter().map(|(role, secret)| self.data(namespace, *role, secret))).await?;
            let data: HashMap<SecretRole, Data> = data.into_iter().collect();
            BrokerAddress::read(source, |role, key| Some(data.get(&role)?.get(key)?.0.clone()))
                .map_err(|invalid| Cause::new(invalid.reason(), invalid.to_string()))
        };
        queues.depth((&self.connections, namespace), source, revision, address).await
    }

    /// The number of messages in the parking queue. A consumer declares that queue when it parks its first message.
    async fn parked(&self, pipeline: &ImagePipeline, pods: &[ObservedPod], queues: &mut QueueReads) -> Option<u32> {
        let (source, failures) = (&pipeline.spec.source, &pipeline.spec.failures);
        if failures.policy != FailurePolicy::Park {
            return None;
        }
        let queue = names::parking_queue(source, failures);
        let has_parked = |report: &PodStatus| report.parked > 0 || matches!(report.parking, Health::Available { .. });
        let expected = pods.iter().filter_map(|pod| pod.report.as_ref()).any(has_parked);
        queues.parked(&queue, expected).await
    }

    /// The resource versions of the Secrets, joined by dots, or the error for the first missing Secret.
    fn versions(&self, namespace: &str, secrets: &[(SecretRole, String)]) -> Result<String, Cause> {
        let versions = secrets.iter().map(|(role, secret)| {
            self.revision(namespace, secret).ok_or_else(|| secret_not_found(secret, role.field()))
        });
        Ok(versions.collect::<Result<Vec<_>, _>>()?.join("."))
    }

    /// Waits until the versions differ from `versions`.
    async fn changed(&self, versions: &Result<String, Cause>, namespace: &str, secrets: &[(SecretRole, String)]) {
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

    async fn data(&self, namespace: &str, role: SecretRole, secret: &str) -> Result<(SecretRole, Data), Cause> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        match requests::read(api.get_opt(secret)).await {
            Ok(Some(found)) => Ok((role, found.data.unwrap_or_default())),
            Ok(None) => Err(secret_not_found(secret, role.field())),
            Err(error) => {
                let message = format!("Secret {secret:?} of {} can't be read: {error}", role.field());
                Err(Cause::new(Reason::SecretNotFound, message))
            }
        }
    }

    /// The fault if a Secret for S3 is missing. Only consumers read the data of these Secrets, but a missing Secret is
    /// reported even while no consumer runs.
    fn credentials(&self, pipeline: &ImagePipeline, namespace: &str) -> Option<Cause> {
        let secrets = names::secrets(&pipeline.spec.source, &pipeline.spec.destination);
        let missing =
            secrets.iter().find(|(role, secret)| of_store(*role) && self.revision(namespace, secret).is_none());
        missing.map(|(role, secret)| secret_not_found(secret, role.field()))
    }

    fn revision(&self, namespace: &str, secret: &str) -> Option<String> {
        self.secrets.get(&ObjectRef::new(secret).within(namespace))?.resource_version()
    }

    async fn ask(&self, pod: &LivePod, every: Duration) -> ObservedPod {
        let report = match &pod.address {
            Some(address) => self.report(address, every).await,
            None => None,
        };
        ObservedPod {
            name: pod.name_any(),
            ready: pod.is_ready,
            running: pod.address.is_some(),
            ending: pod.meta().deletion_timestamp.is_some(),
            cause: pod.cause.clone(),
            report,
            secrets: pod.secrets.clone(),
            spec: pod.spec.clone(),
            deletion_cost: pod.deletion_cost.clone(),
        }
    }

    /// Pods are not trusted: the response is limited in time and size, and parsed as one known type.
    async fn report(&self, address: &str, every: Duration) -> Option<PodStatus> {
        let url = format!("http://{address}:{}/status", names::HTTP_PORT);
        let mut request = self.http.get(url).timeout(STATUS_TIMEOUT);
        if every >= KEPT_FOR {
            request = request.header(CONNECTION, "close");
        }
        let mut response = request.send().await.ok()?;
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

fn secret_not_found(secret: &str, field: &str) -> Cause {
    let message =
        format!("Secret {secret:?} of {field} does not exist in this namespace; create it, or correct the field");
    Cause::new(Reason::SecretNotFound, message)
}
