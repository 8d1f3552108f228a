//! An upgrade of the operator replaces the pods of a few pipelines at a time. The API server in memory holds the
//! Deployments, and the test plays the Kubernetes that replaces their pods.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use image_pipeline::controller::Settings;
use serde_json::{Value, json};

use servers::broker::{Broker, Version};
use servers::client::Client;
use servers::objects;
use servers::operator::{self, until};
use support::api_server::ApiServer;

const FOREST: &str = "forest";

/// A pipeline of two pods. Its bucket's Secret has its name.
fn pipeline(name: &str, vhost: &str) -> Value {
    let changes = json!({
        "source": { "rabbitmq": { "vhost": vhost, "rabbitmqClusterReference": objects::connection_secret("broker") } },
        "destination": { "s3": { "credentialsSecret": { "name": name } } },
        "scaling": { "minReplicas": 2, "pollInterval": "500ms" },
    });
    objects::pipeline(FOREST, name, &changes)
}

fn store_secret(name: &str) -> Value {
    objects::secret(FOREST, name, &[("AWS_ACCESS_KEY_ID", "k"), ("AWS_SECRET_ACCESS_KEY", "s")])
}

/// An API server with these pipelines, whose queue is empty.
async fn forest(tenant: &str, names: &[String]) -> (ApiServer, kube::Client) {
    let address = Broker::shared(Version::Three).await.tenant(tenant);
    let device = Client::connect(&address).await.expect("a connection");
    device.declare("tiles", Version::Three.queue_type()).await;
    let port = address.port.to_string();
    let keys = [("host", "127.0.0.1"), ("port", &*port), ("username", tenant), ("password", tenant)];
    let secrets = names.iter().map(|name| store_secret(name));
    let secrets = secrets.chain([objects::secret(FOREST, "broker", &keys)]).collect();
    let pipelines = names.iter().map(|name| pipeline(name, tenant)).collect();
    ApiServer::start(pipelines, secrets, vec![]).await
}

fn version(number: u32, at_once: usize) -> Settings {
    let mut settings = operator::settings(&[]);
    settings.image.image = format!("image:{number}");
    Settings { rollouts_at_once: at_once, ..settings }
}

async fn operate(settings: Settings, client: kube::Client, happens: impl Future<Output = ()>) {
    operator::run(settings, client, Default::default(), happens).await;
}

fn image(deployment: &Value) -> &str {
    deployment["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap_or_default()
}

/// The pipelines whose pods have an image.
fn at(server: &ApiServer, number: u32) -> BTreeSet<String> {
    let deployments = server.list("deployments");
    let of_image = deployments.iter().filter(|deployment| image(deployment) == format!("image:{number}"));
    of_image.map(|deployment| deployment["metadata"]["name"].as_str().unwrap().replace("-consumer", "")).collect()
}

fn is_available(deployment: &Value) -> bool {
    deployment["status"]["observedGeneration"] == deployment["metadata"]["generation"]
}

/// Makes all pods of a Deployment new and available.
fn finish(server: &ApiServer, mut deployment: Value) {
    let size = deployment["spec"]["replicas"].clone();
    deployment["status"] = json!({
        "observedGeneration": deployment["metadata"]["generation"], "replicas": size, "updatedReplicas": size,
        "availableReplicas": size,
    });
    server.put("deployments", deployment);
}

fn finish_all(server: &ApiServer) {
    let waiting = server.list("deployments").into_iter().filter(|deployment| !is_available(deployment));
    waiting.for_each(|deployment| finish(server, deployment));
}

/// Runs the first version until every pipeline has its pods.
async fn install(server: &ApiServer, client: kube::Client, names: &[String]) {
    operate(version(1, 10), client, async {
        until("pods for all", || {
            finish_all(server);
            at(server, 1).len() == names.len() && server.list("deployments").iter().all(is_available)
        })
        .await;
        // The status is what the next operator knows of the pipelines' health.
        until("all statuses", || names.iter().all(|name| server.status(name)["observedGeneration"] == 1)).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_pipelines_are_upgraded_ten_at_a_time() {
    let names: Vec<_> = (0..200).map(|number| format!("tiles-{number}")).collect();
    let (server, client) = forest("rollouts-many", &names).await;
    install(&server, client.clone(), &names).await;
    let most = Cell::new(0);
    operate(version(2, 10), client.clone(), async {
        until("ten rollouts", || at(&server, 2).len() == 10).await;
        until("the new version everywhere", || {
            let replacing: Vec<_> = server.list("deployments").into_iter().filter(|one| !is_available(one)).collect();
            most.set(most.get().max(replacing.len()));
            replacing.into_iter().take(5).for_each(|deployment| finish(&server, deployment));
            at(&server, 2).len() == 200
        })
        .await;
    })
    .await;
    assert_eq!(most.get(), 10);
    operator::has_leave_for(&server.transcript());

    // A version that changes nothing replaces nothing.
    finish_all(&server);
    let writes = || server.writes().iter().filter(|write| write.contains("/deployments/")).count();
    let before = writes();
    let reads =
        |server: &ApiServer| server.transcript().iter().filter(|read| read.ends_with("/secrets/broker")).count();
    let known = reads(&server);
    operate(version(2, 10), client, until("a read of the broker's Secret", || reads(&server) > known)).await;
    assert_eq!(writes(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_rollout_begins_while_an_upgraded_pipeline_fails() {
    let names = ["a", "b", "c"].map(str::to_owned);
    let (server, client) = forest("rollouts-failing", &names).await;
    install(&server, client.clone(), &names).await;
    operate(version(2, 1), client, async {
        until("the first rollout", || at(&server, 2).len() == 1).await;
        let first = at(&server, 2).pop_first().unwrap();
        server.delete("secrets", &store_secret(&first));
        until("its failure", || server.condition(&first, "StorageAvailable").starts_with("False SecretNotFound")).await;
        finish_all(&server);
        let others: Vec<_> = names.iter().filter(|name| **name != first).collect();
        // A change of the size is made although the pods stay as they are, and shows that the operator was there.
        for (generation, size) in [(2, 3), (3, 4), (4, 5)] {
            for name in &others {
                let mut resized = objects::of_generation(generation, pipeline(name, "rollouts-failing"));
                resized["spec"]["replicas"] = json!(size);
                server.put("imagepipelines", resized);
            }
            until("the size of the others", || {
                let deployments = server.list("deployments");
                deployments.iter().filter(|deployment| deployment["spec"]["replicas"] == size).count() == 2
            })
            .await;
            assert_eq!(at(&server, 2), BTreeSet::from([first.clone()]), "none begins meanwhile");
        }
        server.put("secrets", store_secret(&first));
        until("the other rollouts", || {
            finish_all(&server);
            at(&server, 2).len() == 3
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pinned_pipeline_keeps_its_image_and_a_change_of_the_spec_does_not_wait() {
    let names = ["pinned", "changed", "last"].map(str::to_owned);
    let (server, client) = forest("rollouts-pinned", &names).await;
    install(&server, client.clone(), &names).await;
    let changed = |name: &str, generation| {
        let mut changed = objects::of_generation(generation, pipeline(name, "rollouts-pinned"));
        changed["spec"]["image"] = json!({ "maxPixels": 1_000_000 + generation });
        changed
    };
    let pinned = |generation| {
        let mut pinned = changed("pinned", generation);
        pinned["metadata"]["annotations"] = json!({ "greench.dev/pin-image": "true" });
        pinned
    };
    let mut unchanged = pipeline("pinned", "rollouts-pinned");
    unchanged["metadata"]["annotations"] = json!({ "greench.dev/pin-image": "true" });
    server.put("imagepipelines", unchanged);
    let has = |name: &str, text: &str| {
        server.list("deployments").iter().any(|deployment| {
            deployment["metadata"]["name"] == format!("{name}-consumer") && deployment.to_string().contains(text)
        })
    };
    let first = RefCell::new(String::new());
    operate(version(2, 1), client.clone(), async {
        until("the first rollout", || at(&server, 2).len() == 1).await;
        *first.borrow_mut() = at(&server, 2).pop_first().unwrap();
        let other = if *first.borrow() == "last" { "changed" } else { "last" };
        server.put("imagepipelines", changed(other, 2));
        until("the change", || has(other, "1000002")).await;
        assert_eq!(at(&server, 2), ["changed", "last"].map(str::to_owned).into());
        finish_all(&server);
        server.put("imagepipelines", pinned(2));
        until("the change of the pinned pipeline", || has("pinned", "1000002")).await;
        assert!(at(&server, 1).contains("pinned"), "with its earlier image");
        server.put("imagepipelines", changed("pinned", 3));
        until("the new image without the pin", || at(&server, 2).len() == 3).await;
    })
    .await;
}
