//! `image-pipeline check` against a real broker and a real store: what is well is said, what is wrong has
//! the reason that the status would give.

use std::process::{Command, Output};

use serde_json::Value;

use crate::broker::{Broker, Version};
use crate::host::Host;
use crate::scene::Scene;

fn check(host: &Host) -> (Output, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_image-pipeline"));
    command.env_clear().arg("check").arg("--file").arg(host.manifest()).args(["--output", "json"]);
    let output = command.arg("--secrets").arg(host.secrets()).output().expect("the program");
    let findings = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output, findings)
}

/// The reasons of what failed.
fn failed(host: &Host) -> Vec<(String, String)> {
    let (output, findings) = check(host);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let failed = findings.as_array().expect("an array").iter().filter(|finding| finding["passed"] == false);
    let failed: Vec<_> = failed.map(|finding| (text(&finding["check"]), text(&finding["reason"]))).collect();
    assert_eq!(output.status.success(), failed.is_empty(), "{findings:#}");
    failed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_manifest_needs_is_tried() {
    let scene = Scene::new("check", Version::Four).await;
    let (broker, settings) = (Broker::shared(Version::Four).await.address(), &scene.settings);
    let store = scene.store.root();
    let host = || Host::new(&broker, &settings.queue, &settings.endpoint, &store, &settings.bucket);
    let (output, findings) = check(&host());
    let checks: Vec<_> = findings.as_array().expect("an array").iter().map(|finding| &finding["check"]).collect();
    assert_eq!(checks, ["broker", "queue", "parking", "store"], "{findings:#}");
    assert!(output.status.success(), "{findings:#}");
    assert!(scene.store.objects(&settings.bucket).contains_key(".image-pipeline-probe"));

    let broken = |from: &str, to: &str| {
        let host = host();
        host.edit(from, to);
        failed(&host)
    };
    let one = |check: &str, reason: &str| vec![(check.to_owned(), reason.to_owned())];
    assert_eq!(broken("queue: check", "queue: nowhere"), one("queue", "QueueNotFound"));
    assert_eq!(broken("bucket: check", "bucket: nowhere"), one("store", "BucketNotFound"));
    assert_eq!(broken("name: rabbit", "name: nobody"), one("broker", "SecretNotFound"));
    assert_eq!(broken("vhost: \"/\"", "vhost: nowhere"), one("broker", "VhostNotFound"));
    let wrong = host();
    std::fs::write(wrong.secret_directory("s3").join("AWS_SECRET_ACCESS_KEY"), "wrong").expect("a file");
    std::fs::write(wrong.secret_directory("rabbit-default-user").join("password"), "wrong-password").expect("a file");
    let expected = [one("broker", "AuthenticationFailed"), one("store", "CredentialsInvalid")].concat();
    assert_eq!(failed(&wrong), expected);
    let said = check(&wrong).0;
    assert!(!String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).contains("wrong-password"));
}
