//! `image-pipeline run`: the same manifest on one host without Kubernetes, with Secrets as directories or in the
//! environment.

use std::path::Path;
use std::process::Command;

use crate::scene::Scene;
use servers::broker::{Broker, Version};
use servers::host::Host;
use support::eventually::{LIMIT, eventually};
use support::images::samples;
use support::port::Port;
use support::process::Process;

const PROGRAM: &str = env!("CARGO_BIN_EXE_image-pipeline");

async fn scene(name: &str, version: Version) -> (Scene, Host) {
    let scene = Scene::new(name, version).await;
    let broker = Broker::shared(version).await.address();
    let settings = &scene.settings;
    let host = Host::new(&broker, &settings.queue, &settings.endpoint, &scene.store.root(), &settings.bucket);
    (scene, host)
}

async fn ends_well(mut process: Process) {
    process.terminate();
    let code = eventually("the process to end", LIMIT, async || process.exit_code().ok_or("it runs".to_owned())).await;
    assert_eq!(code, 0, "{}", process.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_runs_on_one_host() {
    let (scene, host) = scene("run-files", Version::Four).await;
    host.edit("spec:\n", "spec:\n  scaling: {maxReplicas: 3}\n");
    let images = samples(12);
    scene.publish(&images).await;
    let process = host.run(Path::new(PROGRAM), &Port::reserve(), &[]);
    scene.stores(&images, LIMIT).await;
    assert!(process.log().contains("/spec/scaling"), "fields without effect are logged: {}", process.log());
    ends_well(process).await;
    scene.client.holds(&scene.settings.queue, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_may_come_from_the_environment() {
    let (scene, host) = scene("run-environment", Version::Three).await;
    std::fs::remove_dir_all(host.secret_directory("rabbit-default-user")).expect("a directory");
    host.edit(", credentialsSecret: {name: s3}", "");
    let images = samples(3);
    scene.publish(&images).await;
    let (broker, store) = (Broker::shared(Version::Three).await.address(), scene.store.root());
    let environment = [
        ("BROKER_HOST", broker.host),
        ("BROKER_PORT", broker.port.to_string()),
        ("BROKER_USERNAME", broker.username),
        ("BROKER_PASSWORD", broker.password),
        ("AWS_ACCESS_KEY_ID", store.access_key),
        ("AWS_SECRET_ACCESS_KEY", store.secret_key.clone()),
    ];
    let process = host.run(Path::new(PROGRAM), &Port::reserve(), &environment);
    scene.stores(&images, LIMIT).await;
    assert!(!process.log().contains(&store.secret_key), "{}", process.log());
    ends_well(process).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_misspelt_field_is_refused() {
    let (_scene, host) = scene("run-misspelt", Version::Three).await;
    host.edit("spec:\n", "spec:\n  scalling: {}\n");
    let mut command = Command::new(PROGRAM);
    host.arguments(&mut command, &Port::reserve());
    let output = command.output().expect("the program");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("unknown fields: spec.scalling"), "{said}");
}
