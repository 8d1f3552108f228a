//! `spec.consumer`: the consumer pods. Its doc comments are what `kubectl explain` shows. It must
//! hold no field by which a user could change the pods' image, privileges or commands.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Toleration, TopologySpreadConstraint};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::quantities::{Quantity, quantities_schema};

/// The consumer pods themselves.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumerPods {
    /// Images that one pod works on at once. Absent: the CPU limit, rounded up; without one, the
    /// node's processors, at most 4.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 256))]
    pub concurrency: Option<u16>,
    /// CPU and memory of a consumer pod. The CPU limit decides how many images are worked on at
    /// once; the memory limit, how many messages and how many bytes of decoded images are held.
    pub resources: Resources,
    /// The ServiceAccount of the consumer pods, in the ImagePipeline's own namespace, for clouds
    /// that give it an identity (IRSA, EKS Pod Identity and the like). The pods get no token of the
    /// cluster's API. Absent: `default`.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253))]
    pub service_account_name: String,
    /// Labels that a node must have for consumer pods to run on it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub node_selector: BTreeMap<String, String>,
    /// Taints of nodes that consumer pods tolerate, as in a pod.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,
    /// How consumer pods spread over zones and nodes, as in a pod. A constraint without `labelSelector`
    /// counts the pods of this ImagePipeline.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// The PriorityClass of the consumer pods. Empty: the cluster's default.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253))]
    pub priority_class_name: String,
    /// Seconds between the order to stop and the end of a pod, in which it finishes what it holds.
    #[schemars(range(min = 10, max = 3600))]
    pub termination_grace_period_seconds: u16,
}

/// CPU and memory of a consumer pod. Each of the two maps is taken as a whole: giving `limits`
/// replaces the default limits and leaves the default requests.
// The second rule names resources, since API servers of 1.30 and 1.31 count each quantity as 3 MB of text: a rule that
// walks the whole map exceeds their cost budget. Kubernetes itself compares requests and limits of other resources.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[x_kube(validation = Rule::new("!('memory' in self.limits) || quantity(string(self.limits['memory'])).compareTo(quantity('64Mi')) >= 0")
    .message("consumer.resources.limits.memory must be at least 64Mi; with less, ordinary images count as too large and are parked"))]
#[x_kube(validation = Rule::new("['cpu', 'memory', 'ephemeral-storage'].all(name, !(name in self.requests) || !(name in self.limits) || quantity(string(self.requests[name])).compareTo(quantity(string(self.limits[name]))) <= 0)")
    .message("consumer.resources.requests asks for more than consumer.resources.limits allows; without requests of your own they are 100m CPU and 128Mi memory"))]
pub struct Resources {
    /// What the scheduler reserves. Default: 100m CPU, 128Mi memory.
    #[serde(default = "default_requests")]
    #[schemars(schema_with = "quantities_schema")]
    pub requests: BTreeMap<String, Quantity>,
    /// What the pod may use at most; of memory, 64Mi at least. Default: 1Gi memory, CPU not limited.
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
