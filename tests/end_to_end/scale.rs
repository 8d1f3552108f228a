//! The size in the user's hands: fixed and handed back with kubectl alone, frozen, stopped.

use super::bucket::Storage;
use super::cluster::Namespace;
use super::eventually::{LIMIT, equal, eventually};
use super::messages::{self, Messages};
use super::pipeline::{NAMED_WITHIN, Pipeline};

#[tokio::test]
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
    eventually("the scale subresource to tell of the pods", NAMED_WITHIN, async || {
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

    let patch = |patch: &str| namespace.kubectl(&["patch", "imgp", "scale", "--type=json", "--patch", patch]);
    patch(r#"[{"op": "replace", "path": "/spec/paused", "value": true}, {"op": "remove", "path": "/spec/replicas"}]"#);
    pipeline.shows("ScalingActive", "False", "Paused", NAMED_WITHIN).await;
    assert_eq!(pipeline.size(), Some(0), "frozen, with a message waiting");
    patch(r#"[{"op": "replace", "path": "/spec/paused", "value": false}]"#);
    is(1).await;
    eventually("the image", LIMIT, async || equal(storage.keys("scale").await.len(), 1)).await;
    eventually("the size to be 0 again", LIMIT, async || equal(pipeline.size(), Some(0))).await;

    namespace.kubectl(&["delete", "imgp", "scale", "--timeout=20s"]);
}
