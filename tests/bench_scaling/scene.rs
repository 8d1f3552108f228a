//! The scene of the benchmark: the tests' own cluster with RabbitMQ, S3 and the operator, the namespaces, and the
//! pipelines in them.

use std::time::Duration;

use image_pipeline::api::{ImagePipeline, names};
use image_pipeline::pod_status::PodStatus;
use k8s_openapi::api::core::v1::{Namespace as KubernetesNamespace, Pod, ResourceQuota, Secret};
use kube::api::{ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::broker::Broker;
use super::follow::Statuses;
use super::operator::Operator;
use servers::bucket::Storage;
use servers::cluster::{self, Namespace};

/// Bucket of every pipeline.
pub const BUCKET: &str = "bench-scaling";

/// Limit for steps without a target. It is generous because a loaded machine is slow.
pub const LIMIT: Duration = Duration::from_secs(120);

pub struct Scene {
    pub client: Client,
    /// Namespace of RabbitMQ and S3.
    pub parts: Namespace,
    pub broker: Broker,
    pub storage: Storage,
    pub operator: Operator,
    /// The statuses of all pipelines.
    pub statuses: Statuses,
}

impl Scene {
    /// Starts RabbitMQ and S3 in a namespace with this name.
    pub async fn new(namespace: &str) -> Self {
        let client = cluster::client().await;
        let pipelines: Api<ImagePipeline> = Api::all(client.clone());
        let there = pipelines.list(&ListParams::default()).await.expect("a list").items.len();
        assert_eq!(there, 0, "this cluster has ImagePipelines whose work would be measured: run `make down` first");
        let parts = Namespace::with_parts(namespace);
        let (broker, storage) = (Broker::of(&parts).await, Storage::of(&parts));
        storage.ensure(BUCKET).await;
        let (operator, statuses) = (Operator::find(&client).await, Statuses::all(&client));
        Self { client, parts, broker, storage, operator, statuses }
    }

    /// Creates a namespace with the Secrets of RabbitMQ and S3 and a quota of zero pods. Deployments show their
    /// sizes there without the load of pods.
    pub async fn without_pods(&self, namespace: &str) {
        let metadata = ObjectMeta { name: Some(namespace.to_owned()), ..ObjectMeta::default() };
        let made = KubernetesNamespace { metadata, ..KubernetesNamespace::default() };
        Api::all(self.client.clone()).create(&PostParams::default(), &made).await.expect("a namespace");
        let quota = json!({ "metadata": { "name": "no-pods" }, "spec": { "hard": { "pods": "0" } } });
        let quota: ResourceQuota = serde_json::from_value(quota).expect("a quota");
        self.api(namespace).create(&PostParams::default(), &quota).await.expect("a quota");
        for secret in ["rabbit-default-user", "s3"] {
            let mut secret: Secret = self.api(&self.parts.name).get(secret).await.expect("a Secret");
            secret.metadata = ObjectMeta { name: secret.metadata.name, ..ObjectMeta::default() };
            self.api(namespace).create(&PostParams::default(), &secret).await.expect("a Secret");
        }
    }

    /// Creates a Secret.
    pub async fn secret(&self, namespace: &str, name: &str, data: Value) {
        let secret = json!({ "metadata": { "name": name }, "stringData": data });
        let secret: Secret = serde_json::from_value(secret).expect("a Secret");
        self.api(namespace).create(&PostParams::default(), &secret).await.expect("a new Secret");
    }

    /// Creates a pipeline.
    pub async fn pipeline(&self, namespace: &str, name: &str, queue: &str, scaling: Value, more: Value) {
        let mut pipeline = json!({
            "apiVersion": "greench.dev/v1alpha1",
            "kind": "ImagePipeline",
            "metadata": { "name": name },
            "spec": {
                "source": { "rabbitmq": { "queue": queue, "rabbitmqClusterReference": { "name": "rabbit" } } },
                "destination": { "s3": {
                    "bucket": BUCKET,
                    "prefix": format!("{name}/"),
                    "endpoint": format!("http://s3.{}.svc:7070", self.parts.name),
                    "forcePathStyle": true,
                    "credentialsSecret": { "name": "s3" },
                } },
                "scaling": scaling,
            },
        });
        let spec = pipeline["spec"].as_object_mut().expect("a spec");
        spec.extend(more.as_object().expect("fields of the spec").clone());
        let pipeline: ImagePipeline = serde_json::from_value(pipeline).expect("an ImagePipeline");
        self.api(namespace).create(&PostParams::default(), &pipeline).await.expect("a new ImagePipeline");
    }

    /// Changes a pipeline's spec; `null` removes a field.
    pub async fn change(&self, namespace: &str, pipeline: &str, spec: Value) {
        let api: Api<ImagePipeline> = self.api(namespace);
        let patch = Patch::Merge(json!({ "spec": spec }));
        api.patch(pipeline, &PatchParams::default(), &patch).await.expect("a change");
    }

    /// The `/status` of a pipeline's pods, as the operator reads it.
    pub async fn reports(&self, namespace: &str, pipeline: &str) -> Vec<PodStatus> {
        let api: Api<Pod> = self.api(namespace);
        let pods = api.list(&ListParams::default().labels(&names::selector(pipeline))).await.expect("pods");
        let addresses = pods.items.into_iter().filter_map(|pod| pod.status?.pod_ip);
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(2)).build().expect("a client");
        let report = async |address: String| {
            let answer = http.get(format!("http://{address}:{}/status", names::HTTP_PORT)).send().await.ok()?;
            answer.json().await.ok()
        };
        let reports = futures::future::join_all(addresses.map(report)).await;
        reports.into_iter().flatten().collect()
    }

    fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), namespace)
    }
}
