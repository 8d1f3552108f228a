//! `spec.consumer`: the consumer pods. Its doc comments are what `kubectl explain` shows. It must
//! hold no field by which a user could change the pods' image, privileges or commands.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::quantities::quantities_schema;

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
    /// cluster's API. Empty: `default`.
    #[schemars(length(max = 253))]
    pub service_account_name: String,
    /// Seconds between the order to stop and the end of a pod, in which it finishes what it holds.
    #[schemars(range(min = 10, max = 3600))]
    pub termination_grace_period_seconds: u16,
}

/// CPU and memory of a consumer pod. Each of the two maps is taken as a whole: giving `limits`
/// replaces the default limits and leaves the default requests.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(default)]
pub struct Resources {
    /// What the scheduler reserves. Default: 100m CPU, 128Mi memory.
    #[schemars(schema_with = "quantities_schema")]
    pub requests: BTreeMap<String, IntOrString>,
    /// What the pod may use at most. Default: 1Gi memory, CPU not limited.
    #[schemars(schema_with = "quantities_schema")]
    pub limits: BTreeMap<String, IntOrString>,
}

impl Default for ConsumerPods {
    fn default() -> Self {
        Self {
            concurrency: None,
            resources: Resources::default(),
            service_account_name: String::new(),
            termination_grace_period_seconds: 60,
        }
    }
}

impl Default for Resources {
    fn default() -> Self {
        let quantities = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), IntOrString::String((*value).to_owned()))).collect()
        };
        Self { requests: quantities(&[("cpu", "100m"), ("memory", "128Mi")]), limits: quantities(&[("memory", "1Gi")]) }
    }
}
