//! Two operators: when the leader's pod is deleted, the other operator takes over.

use servers::cluster::{Namespace, kubectl, run};
use servers::messages::Messages;
use servers::pipeline::{NAMED_WITHIN, Pipeline};
use support::eventually::{LIMIT, equal, eventually};

const OPERATOR: &str = "image-pipeline-system";

fn operator(arguments: &[&str]) -> String {
    run(kubectl().args(["--namespace", OPERATOR]).args(arguments))
}

fn holder() -> String {
    operator(&["get", "lease", "image-pipeline", "--output=jsonpath={.spec.holderIdentity}"])
}

/// Runs two operators, and leaves one however the test ends.
struct Two;

impl Two {
    fn started() -> Self {
        operator(&["scale", "deployment", "image-pipeline", "--replicas=2"]);
        operator(&["rollout", "status", "deployment/image-pipeline", "--timeout=60s"]);
        Self
    }
}

impl Drop for Two {
    fn drop(&mut self) {
        operator(&["scale", "deployment", "image-pipeline", "--replicas=1"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_operator_goes_on_when_the_leader_is_taken_away() {
    let namespace = Namespace::with_parts("end-to-end");
    Messages::of(&namespace).await.declare("leader").await;
    let pipeline = Pipeline { namespace: &namespace, name: "leader" };
    let is = async |size: i64| {
        eventually(&format!("the size to be {size}"), NAMED_WITHIN, async || equal(pipeline.size(), Some(size))).await;
    };
    let two = Two::started();
    let s3 = "bucket: leader, credentialsSecret: {name: s3}";
    pipeline.apply("queue: leader, rabbitmqClusterReference: {name: rabbit}", s3, "");
    is(0).await;
    let first = holder();
    operator(&["get", "pod", &first]);

    operator(&["delete", "pod", &first, "--wait=false"]);
    eventually("the other operator to lead", NAMED_WITHIN, async || {
        let now = holder();
        if now.is_empty() || now == first { Err(now) } else { Ok(()) }
    })
    .await;
    namespace.kubectl(&["scale", "imgp", "leader", "--replicas=1"]);
    is(1).await;
    drop(two);
    namespace.kubectl(&["delete", "imgp", "leader", "--timeout=20s"]);
    eventually("the Deployment to be gone", LIMIT, async || equal(pipeline.size(), None)).await;
}
