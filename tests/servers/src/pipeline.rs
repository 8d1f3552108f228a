//! One ImagePipeline in the cluster as its user sees it: applied, awaited and described through the API server
//! only.

use std::time::Duration;

use serde_json::Value;

use super::cluster::Namespace;
use support::eventually::eventually;

/// The promised time in which the status names a fault, and in which it clears it.
pub const NAMED_WITHIN: Duration = Duration::from_secs(10);

/// A pipeline by name.
pub struct Pipeline<'a> {
    pub namespace: &'a Namespace,
    pub name: &'static str,
}

impl Pipeline<'_> {
    /// Applies the pipeline with these `source.rabbitmq`, `destination.s3` and `scaling`, in YAML flow style.
    pub fn apply(&self, rabbitmq: &str, s3: &str, scaling: &str) {
        self.namespace.must_apply(&self.manifest(rabbitmq, s3, scaling));
    }

    pub fn manifest(&self, rabbitmq: &str, s3: &str, scaling: &str) -> String {
        let Self { namespace, name } = self;
        let endpoint = format!("http://s3.{}.svc:7070", namespace.name);
        format!(
            "apiVersion: greench.dev/v1alpha1\nkind: ImagePipeline\nmetadata: {{name: {name}}}\nspec:\n  \
             source: {{rabbitmq: {{{rabbitmq}}}}}\n  \
             destination: {{s3: {{endpoint: {endpoint:?}, forcePathStyle: true, {s3}}}}}\n  \
             scaling: {{{scaling}}}\n  \
             consumer: {{resources: {{requests: {{cpu: 50m, memory: 64Mi}}}}}}\n"
        )
    }

    /// Status and reason of a condition.
    pub fn condition(&self, kind: &str) -> Option<(String, String)> {
        let object = self.get("imgp", self.name);
        let condition =
            object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)?.clone();
        Some((condition["status"].as_str()?.to_owned(), condition["reason"].as_str()?.to_owned()))
    }

    /// Waits until a condition has this status and reason.
    pub async fn shows(&self, kind: &str, status: &str, reason: &str, limit: Duration) {
        eventually(&format!("{kind}={status}/{reason} of {}", self.name), limit, async || {
            let found = self.condition(kind);
            let wanted = Some((status.to_owned(), reason.to_owned()));
            if found == wanted { Ok(()) } else { Err(format!("{found:?}\n{}", self.describe())) }
        })
        .await;
    }

    /// Output of `kubectl describe`.
    pub fn describe(&self) -> String {
        self.namespace.kubectl(&["describe", "imgp", self.name])
    }

    /// Size in the Deployment's spec; `None` if there is no Deployment.
    pub fn size(&self) -> Option<i64> {
        self.get("deployment", &format!("{}-consumer", self.name))["spec"]["replicas"].as_i64()
    }

    /// The Deployment's generation, which counts its changes.
    pub fn generation(&self) -> Option<i64> {
        self.get("deployment", &format!("{}-consumer", self.name))["metadata"]["generation"].as_i64()
    }

    /// Names and restarts of the consumer pods.
    pub fn pods(&self) -> Vec<(String, i64)> {
        let selector = format!("app.kubernetes.io/instance={}", self.name);
        let list: Value =
            serde_json::from_str(&self.namespace.kubectl(&["get", "pods", "-l", &selector, "-o", "json"])).unwrap();
        let pod = |pod: &Value| {
            let restarts = pod["status"]["containerStatuses"][0]["restartCount"].as_i64().unwrap_or(0);
            (pod["metadata"]["name"].as_str().unwrap().to_owned(), restarts)
        };
        list["items"].as_array().unwrap().iter().map(pod).collect()
    }

    pub fn get(&self, kind: &str, name: &str) -> Value {
        let found = self.namespace.kubectl(&["get", kind, name, "--ignore-not-found", "-o", "json"]);
        if found.is_empty() { Value::Null } else { serde_json::from_str(&found).unwrap() }
    }
}
