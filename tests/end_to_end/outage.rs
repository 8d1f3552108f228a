//! An API server that does not answer for a minute: images are stored as fast as before, and afterwards the same
//! pods continue untouched.

use std::process::Command;
use std::time::{Duration, Instant};

use servers::bucket::Storage;
use servers::cluster::{Namespace, own_kubeconfig, run};
use servers::messages::{self, Messages};
use servers::pipeline::{NAMED_WITHIN, Pipeline};
use support::eventually::{LIMIT, equal, eventually};

/// Longer than an operator leads without renewing its Lease.
const AWAY: Duration = Duration::from_secs(60);

/// Stops the API server of the tests' own cluster while this value lives.
struct Stopped(String);

impl Stopped {
    /// Returns `None` if the cluster is not the tests' own.
    fn api_server() -> Option<Self> {
        let process = own_kubeconfig()?.with_file_name("pid").join("kube-apiserver");
        let process = std::fs::read_to_string(process).expect("the API server's process").trim().to_owned();
        run(Command::new("kill").args(["-STOP", &process]));
        Some(Self(process))
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        run(Command::new("kill").args(["-CONT", &self.0]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_are_stored_while_the_api_server_is_away() {
    let namespace = Namespace::with_parts("end-to-end");
    let (messages, storage) = (Messages::of(&namespace).await, Storage::of(&namespace));
    storage.create("away").await;
    messages.declare("away").await;
    let pipeline = Pipeline { namespace: &namespace, name: "away" };
    pipeline.apply(
        "queue: away, rabbitmqClusterReference: {name: rabbit}",
        "bucket: away, credentialsSecret: {name: s3}",
        "minReplicas: 2, maxReplicas: 2",
    );
    pipeline.shows("ConsumersAvailable", "True", "ConsumersReady", LIMIT).await;
    eventually("both pods", LIMIT, async || equal(pipeline.pods().len(), 2)).await;
    let stored = async |tiles: std::ops::Range<u32>| {
        let (began, last) = (Instant::now(), tiles.end);
        for tile in tiles {
            messages.publish("away", &messages::tile(tile)).await;
        }
        eventually("the images", LIMIT, async || equal(storage.keys("away").await.len(), last as usize)).await;
        began.elapsed()
    };
    let before = (stored(0..60).await, pipeline.pods(), pipeline.generation());

    let Some(stopped) = Stopped::api_server() else {
        println!("CLUSTER=current: its API server is left alone");
        return;
    };
    let since = Instant::now();
    let took = stored(60..120).await;
    assert!(took < before.0 * 2 + Duration::from_secs(1), "{took:?}, and {:?} before", before.0);
    // The length of the outage is part of the test, so this is no wait for a condition.
    tokio::time::sleep(AWAY.saturating_sub(since.elapsed())).await;
    stored(120..121).await;
    drop(stopped);

    // A change in the spec shows that the operator is back.
    namespace.kubectl(&["patch", "imgp", "away", "--type=merge", "--patch", r#"{"spec": {"paused": true}}"#]);
    pipeline.shows("ScalingActive", "False", "Paused", LIMIT).await;
    pipeline.shows("Ready", "True", "Running", NAMED_WITHIN).await;
    assert_eq!((pipeline.pods(), pipeline.generation()), (before.1, before.2), "pods, and the Deployment, untouched");
    namespace.kubectl(&["delete", "imgp", "away", "--timeout=60s"]);
}
