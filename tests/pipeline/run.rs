//! The same manifest on one host, without Kubernetes: `image-pipeline run`, with Secrets as directories
//! or in the environment.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::broker::{Broker, Version};
use crate::eventually::{LIMIT, eventually};
use crate::images::samples;
use crate::port::Port;
use crate::process::{Process, directory};
use crate::scene::Scene;

/// A host's folder with a manifest and its Secrets, by name.
fn host(scene: &Scene) -> PathBuf {
    let (settings, host) = (&scene.settings, directory("host"));
    let (secrets, endpoint) = (host.join("secrets"), &settings.endpoint);
    std::fs::create_dir(&secrets).expect("a directory");
    symlink(settings.broker_secret(), secrets.join("rabbit-default-user")).expect("a link");
    symlink(settings.store_secret(), secrets.join("s3")).expect("a link");
    let manifest = format!(
        "apiVersion: greench.dev/v1alpha1\nkind: ImagePipeline\nmetadata: {{name: tiles}}\nspec:\n  source: {{rabbitmq: \
         {{queue: {}, vhost: {:?}, rabbitmqClusterReference: {{name: rabbit}}}}}}\n  destination: {{s3: {{bucket: {}, \
         endpoint: {endpoint:?}, forcePathStyle: true, credentialsSecret: {{name: s3}}}}}}\n  scaling: {{maxReplicas: 3}}\n",
        settings.queue, settings.vhost, settings.bucket
    );
    std::fs::write(host.join("pipeline.yaml"), manifest).expect("a file");
    host
}

fn run(host: &Path, listen: &Port, environment: &[(&str, String)]) -> Process {
    Process::start("image-pipeline run", host, |command| {
        command.arg(env!("CARGO_BIN_EXE_image-pipeline")).arg("run");
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.envs(environment.iter().cloned());
        command.arg("--file").arg(host.join("pipeline.yaml")).arg("--secrets").arg(host.join("secrets"));
        command.arg("--runtime").arg(host.join("run")).arg("--state").arg(host.join("state"));
        command.arg("--listen").arg(listen.address().to_string());
    })
}

async fn ends_well(mut process: Process) {
    process.terminate();
    let code = eventually("it to end", LIMIT, async || process.exit_code().ok_or("it runs".to_owned())).await;
    assert_eq!(code, 0, "{}", process.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_runs_on_one_host() {
    let scene = Scene::new("run-files", Version::Four).await;
    let (images, host, listen) = (samples(12), host(&scene), Port::reserve());
    scene.publish(&images).await;
    let process = run(&host, &listen, &[]);
    scene.stores(&images, LIMIT).await;
    assert!(process.log().contains("/spec/scaling"), "what has no meaning is said: {}", process.log());
    ends_well(process).await;
    scene.client.holds(&scene.settings.queue, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_may_come_from_the_environment() {
    let scene = Scene::new("run-environment", Version::Three).await;
    let (images, host, listen) = (samples(3), host(&scene), Port::reserve());
    std::fs::remove_file(host.join("secrets/rabbit-default-user")).expect("a link");
    let manifest = std::fs::read_to_string(host.join("pipeline.yaml")).expect("a file");
    let without = manifest.replace(", credentialsSecret: {name: s3}", "");
    std::fs::write(host.join("pipeline.yaml"), without).expect("a file");
    scene.publish(&images).await;
    let (broker, store) = (Broker::shared(Version::Three).await.address(), scene.store.root());
    let environment = [
        ("BROKER_HOST", broker.host.clone()),
        ("BROKER_PORT", broker.port.to_string()),
        ("BROKER_USERNAME", broker.username.clone()),
        ("BROKER_PASSWORD", broker.password.clone()),
        ("AWS_ACCESS_KEY_ID", store.access_key.clone()),
        ("AWS_SECRET_ACCESS_KEY", store.secret_key.clone()),
    ];
    let process = run(&host, &listen, &environment);
    scene.stores(&images, LIMIT).await;
    assert!(!process.log().contains(&broker.password) || broker.password == broker.username, "{}", process.log());
    ends_well(process).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_misspelt_field_is_refused() {
    let scene = Scene::new("run-misspelt", Version::Three).await;
    let host = host(&scene);
    let manifest = std::fs::read_to_string(host.join("pipeline.yaml")).expect("a file");
    std::fs::write(host.join("pipeline.yaml"), manifest.replace("scaling:", "scalling:")).expect("a file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_image-pipeline"));
    let output = command.arg("run").arg("--file").arg(host.join("pipeline.yaml")).output().expect("the program");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("fields that there are not: spec.scalling"), "{said}");
    tokio::time::timeout(Duration::from_secs(5), scene.client.holds(&scene.settings.queue, 0))
        .await
        .expect("an answer");
}
