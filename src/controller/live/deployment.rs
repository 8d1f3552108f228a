//! The Deployment of a pipeline as the API server holds it. Pure.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus};
use k8s_openapi::api::core::v1::PodSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt as _;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{kept, shortened};
use crate::api::names;

/// The largest `spec` that is kept, as JSON in bytes. A larger one is none that the operator wrote.
const SPEC_BYTES: usize = 64 << 10;

/// The longest message that is kept, in bytes.
const MESSAGE_BYTES: usize = 1 << 10;

/// A Deployment with the labels of consumers.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "Deployment")]
pub struct LiveDeployment {
    /// With the labels, annotations and owner that the operator writes.
    pub(super) metadata: ObjectMeta,
    pub replicas: i32,
    /// `None`: its controller has not seen it.
    pub status: Option<LiveStatus>,
    /// As JSON, because it is rarely read, and as text takes a fifth of the memory; `None`: too large.
    spec: Option<Box<str>>,
}

/// The status, without what nobody reads.
#[derive(Clone, Debug)]
pub struct LiveStatus {
    pub observed_generation: Option<i64>,
    pub replicas: i32,
    pub ready: i32,
    /// Pods of the current template.
    pub updated: i32,
    pub available: i32,
    /// Why Kubernetes can't create pods.
    pub replica_failure: Option<String>,
}

impl From<Deployment> for LiveDeployment {
    fn from(Deployment { metadata, spec, status }: Deployment) -> Self {
        let replicas = spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        let spec = spec.and_then(|mut spec| {
            if let Some(template) = &mut spec.template.metadata {
                *template = kept(std::mem::take(template));
            }
            serde_json::to_string(&spec).ok().filter(|json| json.len() <= SPEC_BYTES)
        });
        let spec = spec.map(String::into_boxed_str);
        Self { metadata: kept(metadata), replicas, status: status.map(LiveStatus::from), spec }
    }
}

impl From<DeploymentStatus> for LiveStatus {
    fn from(status: DeploymentStatus) -> Self {
        let failure = |kind: &str, value: &str| kind == "ReplicaFailure" && value == "True";
        let conditions = status.conditions.unwrap_or_default();
        let failure = conditions.into_iter().find(|condition| failure(&condition.type_, &condition.status));
        let replica_failure = failure.map(|condition| {
            shortened(condition.message.unwrap_or_else(|| "no detail given".to_owned()), MESSAGE_BYTES)
        });
        Self {
            observed_generation: status.observed_generation,
            replicas: status.replicas.unwrap_or(0),
            ready: status.ready_replicas.unwrap_or(0),
            updated: status.updated_replicas.unwrap_or(0),
            available: status.available_replicas.unwrap_or(0),
            replica_failure,
        }
    }
}

impl LiveDeployment {
    /// The digest of its pod template, as the operator wrote it.
    pub fn digest(&self) -> Option<&str> {
        self.annotations().get(names::SPEC_ANNOTATION).map(String::as_str)
    }

    /// The object as JSON, without what the operator never writes.
    pub fn json(&self) -> Value {
        let spec: Value = self.spec.as_ref().and_then(|spec| serde_json::from_str(spec).ok()).unwrap_or_default();
        json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": self.metadata, "spec": spec })
    }

    /// The specification of its pods.
    pub fn pods(&self) -> Option<PodSpec> {
        let mut spec: Value = serde_json::from_str(self.spec.as_ref()?).ok()?;
        serde_json::from_value(spec.pointer_mut("/template/spec")?.take()).ok()
    }
}
