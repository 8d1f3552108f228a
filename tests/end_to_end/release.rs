//! Upgrades, tests, rolls back, uninstalls and reinstalls the release while images arrive. The consumers continue
//! meanwhile, and the users' resources stay.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use servers::bucket::Storage;
use servers::cluster::{Namespace, kubectl, own_kubeconfig, run};
use servers::messages::{self, Messages};
use servers::pipeline::Pipeline;
use support::eventually::{LIMIT, equal, eventually};

const OPERATOR: &str = "image-pipeline-system";
const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/image-pipeline");

/// Interval between two published images.
const EVERY: Duration = Duration::from_millis(50);

fn helm(arguments: &[&str]) -> String {
    let mut command = Command::new("helm");
    if let Some(path) = own_kubeconfig() {
        // These variables would make helm use another cluster.
        let others = std::env::vars_os().map(|(name, _)| name);
        for name in others.filter(|name| name.to_string_lossy().starts_with("HELM_KUBE")) {
            command.env_remove(name);
        }
        command.env("KUBECONFIG", path);
    }
    run(command.args(["--namespace", OPERATOR]).args(arguments))
}

/// The values of the release. They are installed again however the test ends.
struct Values(tempfile::NamedTempFile);

impl Values {
    fn of_the_release() -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, helm(&["get", "values", "image-pipeline", "--output=yaml"])).unwrap();
        Self(file)
    }

    fn install(&self, set: &[&str]) {
        let values = self.0.path().to_str().unwrap();
        let install = ["upgrade", "--install", "image-pipeline", CHART, "--wait", "--timeout=60s", "--values", values];
        helm(&[&install[..], set].concat());
    }
}

impl Drop for Values {
    fn drop(&mut self) {
        self.install(&[]);
    }
}

/// The annotations of the operator's pods.
fn annotations() -> Value {
    let operator =
        run(kubectl().args(["--namespace", OPERATOR, "get", "deployment", "image-pipeline", "--output=json"]));
    serde_json::from_str::<Value>(&operator).unwrap()["spec"]["template"]["metadata"]["annotations"].clone()
}

/// Runs a blocking step while other tasks continue.
async fn meanwhile<T: Send + 'static>(step: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(step).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_are_stored_whatever_is_done_to_the_release() {
    let namespace = Namespace::with_parts("end-to-end");
    let (messages, storage) = (Messages::of(&namespace).await, Storage::of(&namespace));
    storage.create("release").await;
    messages.declare("release").await;
    let pipeline = Pipeline { namespace: &namespace, name: "release" };
    pipeline.apply(
        "queue: release, rabbitmqClusterReference: {name: rabbit}",
        "bucket: release, credentialsSecret: {name: s3}",
        "minReplicas: 1, maxReplicas: 2",
    );
    pipeline.shows("ConsumersAvailable", "True", "ConsumersReady", LIMIT).await;

    let stop = CancellationToken::new();
    let devices = async {
        let (mut pace, mut published) = (tokio::time::interval(EVERY), 0);
        while !stop.is_cancelled() {
            pace.tick().await;
            messages.publish("release", &messages::tile(published)).await;
            published += 1;
        }
        published
    };
    let administrator = async {
        let values = meanwhile(Values::of_the_release).await;
        let values = meanwhile(move || {
            values.install(&["--set=podAnnotations.turn=second"]);
            assert_eq!(annotations()["turn"], "second");
            helm(&["test", "image-pipeline"]);
            helm(&["rollback", "image-pipeline", "--wait", "--timeout=60s"]);
            assert_eq!(annotations()["turn"], Value::Null);
            helm(&["uninstall", "image-pipeline", "--wait", "--timeout=60s"]);
            values
        })
        .await;
        let (before, pods) = (storage.keys("release").await.len(), pipeline.pods());
        eventually("more images, without an operator", LIMIT, async || {
            let now = storage.keys("release").await.len();
            if now > before + 20 { Ok(()) } else { Err(format!("{now}, and {before} before")) }
        })
        .await;
        assert_eq!(pipeline.pods(), pods, "the consumers must survive the uninstall");
        meanwhile(move || drop(values)).await;
        namespace.kubectl(&["patch", "imgp", "release", "--type=merge", "--patch", r#"{"spec": {"paused": true}}"#]);
        pipeline.shows("ScalingActive", "False", "Paused", LIMIT).await;
        stop.cancel();
    };
    let (published, ()) = tokio::join!(devices, administrator);

    eventually("every image", LIMIT, async || equal(storage.keys("release").await.len(), published as usize)).await;
    assert_eq!(messages.parked("release.parked").await, 0);
    namespace.kubectl(&["delete", "imgp", "release", "--timeout=60s"]);
}
