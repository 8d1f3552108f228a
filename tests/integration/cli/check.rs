//! `image-pipeline check` against a real RabbitMQ and a real S3 server. A failed check has the reason that the
//! pipeline's status would show.

use std::process::{Command, Output};

use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use serde_json::Value;

use crate::consumer::store_answers;
use crate::recorder::Recorder;
use crate::scene::Scene;
use accounting::store_faults::{Fault, Faults};
use servers::broker::{Broker, Version};
use servers::host::Host;
use servers::plainly::plainly;

const ALL: [&str; 4] = ["broker", "queue", "parking", "store"];

fn check(host: &Host) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_image-pipeline"));
    command.env_clear().arg("check").arg("--file").arg(host.manifest()).args(["--output", "json"]);
    command.arg("--secrets").arg(host.secrets()).output().expect("the program")
}

fn findings(output: &Output) -> Vec<Value> {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

fn checks(output: &Output) -> Vec<String> {
    findings(output).iter().map(|finding| text(&finding["check"])).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Check and reason of every failed finding.
fn failed(output: &Output) -> Vec<(String, String)> {
    let failed = findings(output).into_iter().filter(|finding| finding["passed"] == false);
    let failed: Vec<_> = failed.map(|finding| (text(&finding["check"]), text(&finding["reason"]))).collect();
    assert_eq!(output.status.success(), failed.is_empty(), "{:#?}", findings(output));
    failed
}

fn one(check: &str, reason: &str) -> Vec<(String, String)> {
    vec![(check.to_owned(), reason.to_owned())]
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_manifest_needs_is_tried() {
    let scene = Scene::new("check", Version::Four).await;
    let (broker, settings) = (Broker::shared(Version::Four).await.address(), &scene.settings);
    let store = scene.store.root();
    let host = || Host::new(&broker, &settings.queue, &settings.endpoint, &store, &settings.bucket);
    let output = check(&host());
    assert_eq!(checks(&output), ALL);
    assert_eq!(failed(&output), []);
    assert_eq!(scene.store.objects(&settings.bucket).len(), 0, "what was stored is deleted");

    let broken = |from: &str, to: &str| {
        let host = host();
        host.edit(from, to);
        failed(&check(&host))
    };
    assert_eq!(broken("queue: check", "queue: nowhere"), one("queue", "QueueNotFound"));
    let plain = plainly(&broker).await;
    let channel = plain.create_channel().await.expect("a channel");
    let options = QueueDeclareOptions { auto_delete: true, ..QueueDeclareOptions::durable() };
    channel.queue_declare("check-goes".into(), options, FieldTable::default()).await.expect("a queue");
    assert_eq!(broken("queue: check", "queue: check-goes"), one("queue", "QueueTemporary"));
    assert_eq!(broken("bucket: check", "bucket: nowhere"), one("store", "BucketNotFound"));
    assert_eq!(broken("name: rabbit", "name: nobody"), one("broker", "SecretNotFound"));
    assert_eq!(broken("{name: s3}", "{name: nobody}"), one("store", "SecretNotFound"));
    assert_eq!(broken("vhost: \"/\"", "vhost: nowhere"), one("broker", "VhostNotFound"));
    let wrong = host();
    std::fs::write(wrong.secret_directory("s3").join("AWS_SECRET_ACCESS_KEY"), "wrong").expect("a file");
    std::fs::write(wrong.secret_directory("rabbit-default-user").join("password"), "wrong-password").expect("a file");
    let expected = [one("broker", "AuthenticationFailed"), one("store", "CredentialsInvalid")].concat();
    let output = check(&wrong);
    assert_eq!(failed(&output), expected);
    assert!(!said(&output).contains("wrong-password"));
}

/// The sample meets every bucket policy that images meet: key prefix and extension, content type, metadata,
/// precondition.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_images_pass_is_passed() {
    let (scene, tap) = store_answers::scene("check-policies", Version::Four, Fault::None).await;
    let (broker, settings) = (Broker::shared(Version::Four).await.address(), &scene.settings);
    let host = Host::new(&broker, &settings.queue, &settings.endpoint, &scene.store.root(), &settings.bucket);
    host.edit("{bucket:", "{keyTemplate: \"raw/{name}\", onConflict: Fail, bucket:");
    for demanded in [
        "if-none-match: *",
        ".png?",
        "content-type: image/png",
        "/check-policies/raw/",
        "x-amz-meta-image-pipeline-digest",
    ] {
        tap.set(Faults::from(Fault::DENIED).for_uploads_without(demanded));
        let output = check(&host);
        assert_eq!(failed(&output), [], "{demanded}");
        assert_eq!((tap.met(), scene.store.objects(&settings.bucket).len()), (0, 0), "{demanded}");
    }
    tap.set(Faults::from(Fault::DENIED).for_uploads_without("/check-policies/elsewhere/"));
    assert_eq!(failed(&check(&host)), one("store", "AccessDenied"));
    tap.set(Faults::from(Fault::DENIED).only_for("HEAD "));
    let output = check(&host);
    assert_eq!(failed(&output), one("store", "AccessDenied"));
    assert!(said(&output).contains("s3:GetObject"), "{}", said(&output));

    // The credentials may lack the right to delete objects.
    tap.set(Faults::from(Fault::DENIED).only_for("DELETE "));
    let output = check(&host);
    assert_eq!(failed(&output), []);
    assert!(said(&output).contains("could not be deleted"), "{}", said(&output));
    let left = scene.store.objects(&settings.bucket);
    let (key, png) = left.first_key_value().expect("an object");
    assert!(key.starts_with("raw/image-pipeline-check-") && key.ends_with(".png"), "{key}");
    assert_eq!(image::guess_format(png).expect("an image"), image::ImageFormat::Png);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_no_store_fails_and_so_does_one_that_ignores_conditions() {
    let scene = Scene::new("check-no-store", Version::Four).await;
    let (broker, settings) = (Broker::shared(Version::Four).await.address(), &scene.settings);
    let host = |url: &str| Host::new(&broker, &settings.queue, url, &scene.store.root(), &settings.bucket);
    let page = Recorder::start(|_| "<html>Sign in</html>");
    let output = check(&host(&page.url()));
    assert_eq!(failed(&output), one("store", "StorageRefused"));
    assert!(said(&output).contains("not like S3"), "{}", said(&output));

    let (ignoring, objects) = store_answers::ignoring();
    let host = host(&ignoring.url());
    assert_eq!(failed(&check(&host)), [], "Overwrite needs no condition");
    host.edit("{bucket:", "{onConflict: Fail, bucket:");
    let output = check(&host);
    assert_eq!(failed(&output), one("store", "StorageRefused"));
    assert!(said(&output).contains("ignores If-None-Match"), "{}", said(&output));
    assert_eq!(objects.lock().unwrap().len(), 0);
}
