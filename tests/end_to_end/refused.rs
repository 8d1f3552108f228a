//! Causes that keep consumer pods from running in a real Kubernetes: the status names each one, and clears it once
//! the cause is fixed.

use servers::bucket::Storage;
use servers::cluster::Namespace;
use servers::messages::Messages;
use servers::pipeline::{NAMED_WITHIN, Pipeline};
use support::eventually::LIMIT;

const QUOTA: &str = "apiVersion: v1\nkind: ResourceQuota\nmetadata: {name: none}\nspec: {hard: {\"pods\": \"0\"}}\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_keeps_pods_from_running_is_named_and_mended() {
    let namespace = Namespace::with_parts("end-to-end");
    let (messages, storage) = (Messages::of(&namespace).await, Storage::of(&namespace));
    storage.create("refused").await;
    messages.declare("refused").await;
    let pipeline = Pipeline { namespace: &namespace, name: "refused" };
    let consumer = |patch: &str| {
        let patch = format!("{{\"spec\": {{\"consumer\": {patch}}}}}");
        namespace.kubectl(&["patch", "imgp", "refused", "--type=merge", "--patch", &patch]);
    };
    let runs = async || {
        pipeline.shows("ConsumersAvailable", "True", "ConsumersReady", LIMIT).await;
        pipeline.shows("Ready", "True", "Running", NAMED_WITHIN).await;
    };
    pipeline.apply(
        "queue: refused, rabbitmqClusterReference: {name: rabbit}",
        "bucket: refused, credentialsSecret: {name: s3}",
        "minReplicas: 1",
    );
    runs().await;

    consumer(r#"{"resources": {"requests": {"cpu": "1000"}}}"#);
    pipeline.shows("ConsumersAvailable", "False", "Unschedulable", NAMED_WITHIN).await;
    pipeline.shows("ScalingActive", "False", "GrowthHeld", NAMED_WITHIN).await;
    consumer(r#"{"resources": {"requests": {"cpu": "50m"}}}"#);
    runs().await;

    namespace.must_apply(QUOTA);
    consumer(r#"{"terminationGracePeriodSeconds": 59}"#);
    // The quota controller must count the pods before the quota refuses any.
    pipeline.shows("ConsumersAvailable", "False", "PodsRefused", LIMIT).await;
    namespace.kubectl(&["delete", "resourcequota", "none"]);
    consumer(r#"{"terminationGracePeriodSeconds": null}"#);
    runs().await;

    consumer(r#"{"serviceAccountName": "nobody"}"#);
    pipeline.shows("ConsumersAvailable", "False", "PodsRefused", NAMED_WITHIN).await;
    consumer(r#"{"serviceAccountName": ""}"#);
    runs().await;

    namespace.kubectl(&["delete", "imgp", "refused", "--timeout=60s"]);
}
