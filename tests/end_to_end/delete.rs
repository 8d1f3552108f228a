//! Deleting a pipeline waits for nothing outside Kubernetes: neither the operator nor RabbitMQ.

use servers::cluster::{Namespace, kubectl, run};
use servers::messages::Messages;
use servers::pipeline::Pipeline;
use support::eventually::{LIMIT, eventually};

const S3: &str = "bucket: forest, credentialsSecret: {name: s3}";
const OPERATOR: &str = "image-pipeline-system";

/// Stops the operator, and starts it again however the test ends.
struct Stopped;

impl Stopped {
    fn now() -> Self {
        scale_operator(0);
        run(kubectl().args(["--namespace", OPERATOR, "wait", "--for=delete", "pod", "--all", "--timeout=60s"]));
        Self
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        scale_operator(1);
    }
}

fn scale_operator(replicas: u8) {
    let replicas = format!("--replicas={replicas}");
    run(kubectl().args(["--namespace", OPERATOR, "scale", "deployment", "--all", &replicas]));
}

async fn running(pipeline: &Pipeline<'_>) {
    pipeline.apply("queue: delete, rabbitmqClusterReference: {name: rabbit}", S3, "minReplicas: 1");
    pipeline.shows("ConsumersAvailable", "True", "ConsumersReady", LIMIT).await;
}

async fn nothing_is_left(pipeline: &Pipeline<'_>) {
    eventually("the Deployment and its pods to be gone", LIMIT, async || match (pipeline.size(), pipeline.pods()) {
        (None, pods) if pods.is_empty() => Ok(()),
        left => Err(format!("{left:?}")),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn completes_with_the_operator_stopped_and_with_the_broker_gone() {
    let namespace = Namespace::with_parts("end-to-end");
    Messages::of(&namespace).await.declare("delete").await;
    let pipeline = Pipeline { namespace: &namespace, name: "delete" };

    running(&pipeline).await;
    let stopped = Stopped::now();
    namespace.kubectl(&["delete", "imgp", "delete", "--timeout=20s"]);
    nothing_is_left(&pipeline).await;
    drop(stopped);

    running(&pipeline).await;
    namespace.kubectl(&["scale", "statefulset", "rabbit", "--replicas=0"]);
    pipeline.shows("BrokerReachable", "False", "BrokerUnreachable", LIMIT).await;
    namespace.kubectl(&["delete", "imgp", "delete", "--timeout=20s"]);
    nothing_is_left(&pipeline).await;
    namespace.kubectl(&["scale", "statefulset", "rabbit", "--replicas=1"]);
    namespace.kubectl(&["rollout", "status", "statefulset/rabbit", "--timeout=60s"]);
}
