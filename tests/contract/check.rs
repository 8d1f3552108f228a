//! `image-pipeline check` by name, for all cases in which the API server refuses: the message names the object and
//! the next step.

use std::path::Path;
use std::process::Output;

use image_pipeline::controller::{ConsumerImage, build};
use serde_json::{Value, json};

use servers::named::{NAMESPACE, check, check_with};
use support::api_server::ApiServer;

const PROGRAM: &str = env!("CARGO_BIN_EXE_image-pipeline");

fn pipeline(spec: &Value) -> Value {
    json!({
        "apiVersion": "greench.dev/v1alpha1", "kind": "ImagePipeline",
        "metadata": { "name": "tiles", "namespace": NAMESPACE }, "spec": spec,
    })
}

/// The Deployment that the operator writes for a pipeline.
fn deployment(pipeline: &Value) -> Value {
    let pipeline = serde_json::from_value(pipeline.clone()).unwrap();
    let image =
        ConsumerImage { image: "image:1".to_owned(), pull_policy: "IfNotPresent".to_owned(), pull_secrets: vec![] };
    json!(build::deployment(&pipeline, 1, &build::Template::new(&pipeline, image)))
}

/// Checks that the command failed with this message, before any check ran.
fn says(output: &Output, expected: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(expected), "{expected:?} is not in {said}");
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), &b""[..]), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_an_api_server_does_not_give_is_named() {
    let spec = json!({
        "source": { "rabbitmq": { "queue": "tiles", "rabbitmqClusterReference": { "name": "rabbit" } } },
        "destination": { "s3": { "bucket": "tiles" } },
    });
    let (server, _) = ApiServer::start(vec![pipeline(&spec)], vec![], vec![]).await;
    let said = |arguments: &[&str], expected: &str| says(&check(PROGRAM, &server.uri, arguments), expected);
    said(&["nobody"], "there is no ImagePipeline \"nobody\" in namespace \"forest\"");
    said(&["tiles", "-n", "meadow"], "there is no ImagePipeline \"tiles\" in namespace \"meadow\"");
    said(&["tiles"], "there is no Deployment \"tiles-consumer\" to take the consumers' image from");
    server.forbid("/deployments/");
    said(&["tiles"], "does not let this user read Deployments in namespace \"forest\"");
    server.allow();
    server.put("deployments", deployment(&pipeline(&spec)));
    server.forbid("/jobs");
    said(&["tiles"], "does not let this user create Jobs in namespace \"forest\"");
    server.forbid("/imagepipelines/");
    said(&["tiles"], "does not let this user read ImagePipeline \"tiles\" in namespace \"forest\"");
    server.allow();
    server.put("imagepipelines", pipeline(&json!({ "source": {} })));
    said(&["tiles"], "can't parse ImagePipeline \"tiles\" in namespace \"forest\": Missing field rabbitmq");
}

#[test]
fn an_api_server_that_is_not_there_is_named() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = check(PROGRAM, &format!("http://{free}").parse().unwrap(), &["tiles"]);
    says(&output, &format!("no usable response from the API server at http://{free}/"));
    says(&output, "Connection refused");
    says(&check_with(PROGRAM, Path::new("/nonexistent"), &["tiles"]), "no cluster: set KUBECONFIG");
}
