//! `spec.consumer`: the consumer pods. No field lets a user change the image, privileges or command of the pods
//! (tests/contract/crd.rs checks it).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Toleration, TopologySpreadConstraint};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::quantities::{Quantity, quantities_schema};

/// Settings of the consumer pods.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumerPods {
    /// Number of images that a pod processes in parallel. If absent, the CPU limit rounded up; without a CPU
    /// limit, the number of processors of the node, at most 4.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 256))]
    pub concurrency: Option<u16>,
    /// CPU and memory of a consumer pod. The CPU limit determines how many images a pod processes in
    /// parallel. The memory limit determines how many messages and how many bytes of decoded images it
    /// holds.
    pub resources: Resources,
    /// ServiceAccount of the consumer pods, in the namespace of the ImagePipeline. Set it to use workload
    /// identity, such as IRSA or EKS Pod Identity. The pods get no token for the Kubernetes API. If absent,
    /// `default`.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253))]
    pub service_account_name: String,
    /// Labels that a node must have to run consumer pods.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub node_selector: BTreeMap<String, String>,
    /// Node taints that the consumer pods tolerate, as in a PodSpec.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,
    /// How the consumer pods are spread over zones and nodes, as in a PodSpec. A constraint without
    /// `labelSelector` applies to the pods of this ImagePipeline.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// PriorityClass of the consumer pods. If empty, the default of the cluster applies.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253))]
    pub priority_class_name: String,
    /// Seconds that a pod has to finish its messages after it is asked to stop. Then Kubernetes kills it,
    /// and RabbitMQ returns the unacknowledged messages to the queue.
    #[schemars(range(min = 10, max = 3600))]
    pub termination_grace_period_seconds: u16,
}

/// CPU and memory of a consumer pod. Each of the two maps replaces its default as a whole: setting
/// `limits` replaces the default limits and keeps the default requests.
// The second rule lists resources by name: Kubernetes 1.30 and 1.31 estimate each quantity as 3 MB of text, so a rule
// over the whole map would exceed the CEL cost budget. Kubernetes checks requests and limits of other resources itself.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[x_kube(validation = Rule::new("!('memory' in self.limits) || quantity(string(self.limits['memory'])).compareTo(quantity('64Mi')) >= 0")
    .message("consumer.resources.limits.memory must be at least 64Mi: with less, images of ordinary size are parked as too large"))]
#[x_kube(validation = Rule::new("['cpu', 'memory', 'ephemeral-storage'].all(name, !(name in self.requests) || !(name in self.limits) || quantity(string(self.requests[name])).compareTo(quantity(string(self.limits[name]))) <= 0)")
    .message("consumer.resources.requests must not exceed consumer.resources.limits; the default requests are 100m CPU and 128Mi memory"))]
pub struct Resources {
    /// Resources that the scheduler reserves for a pod. Default: 100m CPU, 128Mi memory.
    #[serde(default = "default_requests")]
    #[schemars(schema_with = "quantities_schema")]
    pub requests: BTreeMap<String, Quantity>,
    /// Maximum resources of a pod; at least 64Mi of memory. Default: 1Gi memory, no CPU limit.
    #[serde(default = "default_limits")]
    #[schemars(schema_with = "quantities_schema")]
    pub limits: BTreeMap<String, Quantity>,
}

impl Default for ConsumerPods {
    fn default() -> Self {
        Self {
            concurrency: None,
            resources: Resources::default(),
            service_account_name: String::new(),
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
            topology_spread_constraints: Vec::new(),
            priority_class_name: String::new(),
            termination_grace_period_seconds: 60,
        }
    }
}

impl Default for Resources {
    fn default() -> Self {
        Self { requests: default_requests(), limits: default_limits() }
    }
}

fn default_requests() -> BTreeMap<String, Quantity> {
    quantities(&[("cpu", "100m"), ("memory", "128Mi")])
}

fn default_limits() -> BTreeMap<String, Quantity> {
    quantities(&[("memory", "1Gi")])
}

fn quantities(pairs: &[(&str, &str)]) -> BTreeMap<String, Quantity> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), Quantity::Text((*value).to_owned()))).collect()
}
