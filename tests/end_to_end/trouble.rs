//! Typical mistakes: the status names each one, and recovers without a restart once it is fixed.

use std::process::Command;

use servers::bucket::Storage;
use servers::cluster::{Namespace, own_kubeconfig};
use servers::messages::{self, Messages};
use servers::pipeline::{NAMED_WITHIN, Pipeline};
use support::eventually::{LIMIT, eventually};

const GOOD_S3: &str = "bucket: forest, credentialsSecret: {name: s3-user}";

/// Runs `image-pipeline check` in a pod like a consumer's. Returns whether it succeeded, and its output.
fn check(pipeline: &Pipeline<'_>) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_image-pipeline"));
    command.args(["check", pipeline.name, "--namespace", &pipeline.namespace.name]);
    command.envs(own_kubeconfig().map(|path| ("KUBECONFIG", path)));
    let output = command.output().expect("the program");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn a_wrong_manifest_is_refused_and_names_the_field() {
    let namespace = Namespace::with_parts("end-to-end");
    let pipeline = Pipeline { namespace: &namespace, name: "wrong" };
    let reference = "queue: q, rabbitmqClusterReference: {name: rabbit}";
    let cases = [
        (reference, "bucket: forest", "minReplicas: 5, maxReplicas: 4", "scaling.minReplicas"),
        ("queue: q, rabbitmqClusterReference: {}", "bucket: forest", "", "source.rabbitmq.rabbitmqClusterReference"),
        (reference, "bucket: forest, prefix: /x", "", "destination.s3.prefix"),
        (reference, "bucket: forest", "pollInterval: 1ms", "scaling.pollInterval"),
        (reference, "bucket: forest", "pollInterval: soon", "spec.scaling.pollInterval"),
        (reference, "bucket: UPPER", "", "spec.destination.s3.bucket"),
        (reference, "bucket: forest", "messagesPerReplica: 0", "spec.scaling.messagesPerReplica"),
    ];
    for (rabbitmq, s3, scaling, field) in cases {
        let output = namespace.apply(&pipeline.manifest(rabbitmq, s3, scaling));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(field), "{field}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_trouble_is_named_and_mended_without_a_restart() {
    let namespace = Namespace::with_parts("end-to-end");
    let (messages, storage) = (Messages::of(&namespace).await, Storage::of(&namespace));
    let pipeline = Pipeline { namespace: &namespace, name: "trouble" };
    let image = messages::tile(7);
    let password = namespace.secret("rabbit-default-user", "password");
    let user = namespace.secret("rabbit-default-user", "username");
    let broker_secret = |password: &str| {
        let data = format!("{{host: rabbit.{}.svc, username: {user:?}, password: {password:?}}}", namespace.name);
        namespace.must_apply(&format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: north}}\nstringData: {data}\n"));
    };
    let s3_secret = |access: &str, secret: &str| {
        let data = format!("{{AWS_ACCESS_KEY_ID: {access:?}, AWS_SECRET_ACCESS_KEY: {secret:?}}}");
        namespace
            .must_apply(&format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: s3-user}}\nstringData: {data}\n"));
    };

    pipeline.apply(
        "queue: trouble, rabbitmqClusterReference: {connectionSecret: {name: north}}",
        GOOD_S3,
        "minReplicas: 1",
    );
    pipeline.shows("BrokerReachable", "False", "SecretNotFound", NAMED_WITHIN).await;
    pipeline.shows("StorageAvailable", "False", "SecretNotFound", NAMED_WITHIN).await;
    pipeline.shows("Ready", "False", "SecretNotFound", NAMED_WITHIN).await;

    broker_secret("wrong");
    pipeline.shows("BrokerReachable", "False", "AuthenticationFailed", NAMED_WITHIN).await;

    broker_secret(&password);
    pipeline.shows("BrokerReachable", "True", "Connected", NAMED_WITHIN).await;
    pipeline.shows("QueueFound", "False", "QueueNotFound", NAMED_WITHIN).await;
    let (well, said) = check(&pipeline);
    assert!(!well && said.contains("\nFAILED queue    QueueNotFound: "), "{said}");
    assert_eq!(namespace.kubectl(&["get", "jobs", "--output=name"]), "", "the Job is deleted");
    assert!(said.contains("\nFAILED store    SecretNotFound: ") && said.contains("\"s3-user\""), "{said}");

    messages.declare("trouble").await;
    pipeline.shows("QueueFound", "True", "QueueFound", NAMED_WITHIN).await;
    pipeline.shows("ConsumersAvailable", "True", "ConsumersReady", LIMIT).await;
    let pods = pipeline.pods();

    storage.create_user("field", "field-secret");
    s3_secret("field", "not-the-secret");
    messages.publish("trouble", &image).await;
    pipeline.shows("StorageAvailable", "False", "CredentialsInvalid", NAMED_WITHIN).await;

    s3_secret("field", "field-secret");
    pipeline.shows("StorageAvailable", "False", "BucketNotFound", NAMED_WITHIN).await;

    storage.create("forest").await;
    pipeline.shows("StorageAvailable", "False", "AccessDenied", NAMED_WITHIN).await;
    let described = pipeline.describe();
    assert!(described.contains("s3:PutObject") && described.contains("forest"), "{described}");

    storage.give("forest", "field");
    pipeline.shows("StorageAvailable", "True", "StorageAvailable", NAMED_WITHIN).await;
    pipeline.shows("Ready", "True", "Running", NAMED_WITHIN).await;
    eventually("the held image", LIMIT, async || match storage.keys("forest").await.as_slice() {
        [key] if *key == messages::tiles(320).name(7) => Ok(()),
        keys => Err(format!("{keys:?}")),
    })
    .await;
    assert_eq!(pipeline.pods(), pods, "the pods must not have been replaced or restarted");
    let (well, said) = check(&pipeline);
    assert!(well && said.starts_with("ok     broker ") && !said.contains("FAILED"), "{said}");

    namespace.kubectl(&["delete", "imgp", "trouble", "--timeout=60s"]);
}
