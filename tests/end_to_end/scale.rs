//! The size controlled by users: fixed and returned with kubectl, frozen, stopped, or set by a
//! HorizontalPodAutoscaler.

use servers::bucket::Storage;
use servers::cluster::Namespace;
use servers::messages::{self, Messages};
use servers::pipeline::{NAMED_WITHIN, Pipeline};
use support::eventually::{LIMIT, equal, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_scales_a_pipeline_and_hands_the_size_back() {
    let namespace = Namespace::with_parts("end-to-end");
    let (messages, storage) = (Messages::of(&namespace).await, Storage::of(&namespace));
    storage.create("scale").await;
    messages.declare("scale").await;
    let pipeline = Pipeline { namespace: &namespace, name: "scale" };
    let is = async |size: i64| {
        eventually(&format!("the size to be {size}"), NAMED_WITHIN, async || equal(pipeline.size(), Some(size))).await;
    };
    pipeline.apply(
        "queue: scale, rabbitmqClusterReference: {name: rabbit}",
        "bucket: scale, credentialsSecret: {name: s3}",
        "scaleDownAfter: 5s",
    );
    is(0).await;

    namespace.kubectl(&["scale", "imgp", "scale", "--replicas=2"]);
    is(2).await;
    pipeline.shows("ScalingActive", "False", "FixedSize", NAMED_WITHIN).await;
    pipeline.shows("ConsumersAvailable", "True", "ConsumersReady", LIMIT).await;
    let path = format!("/apis/greench.dev/v1alpha1/namespaces/{}/imagepipelines/scale/scale", namespace.name);
    eventually("the scale subresource to report the pods", NAMED_WITHIN, async || {
        let scale: serde_json::Value = serde_json::from_str(&namespace.kubectl(&["get", "--raw", &path])).unwrap();
        let selector = scale["status"]["selector"].as_str().unwrap_or_default().to_owned();
        let pods = namespace.kubectl(&["get", "pods", "--selector", &selector, "--output", "name"]);
        equal((scale["status"]["replicas"].as_i64(), pods.lines().count()), (Some(2), 2))
    })
    .await;

    namespace.kubectl(&["scale", "imgp", "scale", "--replicas=0"]);
    is(0).await;
    pipeline.shows("Ready", "True", "Stopped", NAMED_WITHIN).await;
    eventually("the pods to be gone, which could still take the message", LIMIT, async || {
        let pods = namespace.kubectl(&["get", "pods", "--selector", "app.kubernetes.io/instance=scale", "-o", "name"]);
        equal(pods.lines().count(), 0)
    })
    .await;
    messages.publish("scale", &messages::tile(3)).await;

    let patch = |patch: &str| namespace.kubectl(&["patch", "imgp", "scale", "--type=merge", "--patch", patch]);
    patch(r#"{"spec": {"paused": true, "replicas": null}}"#);
    // As in README.md. It also works when the size has already been returned.
    patch(r#"{"spec": {"replicas": null}}"#);
    pipeline.shows("ScalingActive", "False", "Paused", NAMED_WITHIN).await;
    assert_eq!(pipeline.size(), Some(0), "frozen, with a message waiting");
    patch(r#"{"spec": {"paused": false}}"#);
    is(1).await;
    eventually("the image", LIMIT, async || equal(storage.keys("scale").await.len(), 1)).await;
    eventually("the size to be 0 again", LIMIT, async || equal(pipeline.size(), Some(0))).await;

    namespace.kubectl(&["delete", "imgp", "scale", "--timeout=20s"]);
}

/// The cluster has no pod metrics. Without them the autoscaler only enforces its bounds, and its condition about
/// the metrics shows that it has found the pods.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_horizontal_pod_autoscaler_sets_the_size() {
    let namespace = Namespace::with_parts("end-to-end");
    let messages = Messages::of(&namespace).await;
    messages.declare("autoscaled").await;
    let pipeline = Pipeline { namespace: &namespace, name: "autoscaled" };
    pipeline.apply(
        "queue: autoscaled, rabbitmqClusterReference: {name: rabbit}",
        "bucket: autoscaled, credentialsSecret: {name: s3}",
        "",
    );
    namespace.kubectl(&["scale", "imgp", "autoscaled", "--replicas=1"]);
    let bounds = |least: u32, most: u32| {
        namespace.must_apply(&format!(
            "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {{name: autoscaled}}\nspec:\n  \
             scaleTargetRef: {{apiVersion: greench.dev/v1alpha1, kind: ImagePipeline, name: autoscaled}}\n  \
             minReplicas: {least}\n  maxReplicas: {most}\n  \
             metrics: [{{type: Resource, resource: {{name: cpu, target: {{type: Utilization, averageUtilization: 80}}}}}}]\n"
        ));
    };
    let is = async |size: i64| {
        eventually(&format!("the size to be {size}"), LIMIT, async || equal(pipeline.size(), Some(size))).await;
    };
    bounds(2, 4);
    is(2).await;
    let of_metrics = r#"jsonpath={.status.conditions[?(@.type=="ScalingActive")].reason}"#;
    eventually("the autoscaler to ask for the pods' metrics", LIMIT, async || {
        let reason = namespace.kubectl(&["get", "hpa", "autoscaled", "-o", of_metrics]);
        equal(reason.as_str(), "FailedGetResourceMetric")
    })
    .await;
    bounds(1, 1);
    is(1).await;
    namespace.kubectl(&["delete", "hpa", "autoscaled"]);
    namespace.kubectl(&["delete", "imgp", "autoscaled", "--timeout=20s"]);
}
