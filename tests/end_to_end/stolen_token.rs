//! The operator's identity in the hands of an attacker, in a real Kubernetes: it starts nothing but consumers, and
//! changes no pod of others. tests/crash/policy.rs has a case for every rule.

use axum::http::Request;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use crate::rights::OPERATOR;
use servers::cluster::{Namespace, client};

/// Sends a request as the operator, and checks that an admission policy refuses it.
async fn refused(client: &kube::Client, method: &str, path: &str, body: &Value) {
    let merge = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let request = Request::builder().method(method).uri(path).header("Content-Type", merge);
    let request = request.header("Impersonate-User", OPERATOR).body(body.to_string().into_bytes()).unwrap();
    let Err(kube::Error::Api(status)) = client.request_text(request).await else { panic!("{method} {path} passed") };
    assert!(status.code == 403 && status.message.contains("ValidatingAdmissionPolicy"), "{}", status.message);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stolen_token_of_the_operator_runs_no_other_program_and_changes_no_other_pod() {
    let namespace = Namespace::with_parts("end-to-end");
    let client = client().await;
    let labels = json!({ "app": "attacker" });
    let pods = json!({
        "serviceAccountName": "default",
        "containers": [{ "name": "consumer", "image": "attacker:1" }],
        "volumes": [{ "name": "host", "hostPath": { "path": "/" } }],
    });
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "attacker" },
        "spec": { "selector": { "matchLabels": labels }, "template": { "metadata": { "labels": labels }, "spec": pods } },
    });
    for namespace in [&*namespace.name, "kube-system"] {
        let path = format!("/apis/apps/v1/namespaces/{namespace}/deployments");
        refused(&client, "POST", &path, &deployment).await;
    }
    let others: Api<Pod> = Api::namespaced(client.clone(), &namespace.name);
    let others = others.list(&Default::default()).await.unwrap();
    let pod =
        others.iter().find(|pod| pod.labels().get("app.kubernetes.io/component").is_none_or(|of| of != "consumer"));
    let pod = format!("/api/v1/namespaces/{}/pods/{}", namespace.name, pod.unwrap().name_any());
    refused(&client, "PATCH", &pod, &json!({ "metadata": { "labels": { "app": "attacker" } } })).await;
    refused(&client, "PATCH", &pod, &json!({ "metadata": { "annotations": { "greench.dev/secrets": "1" } } })).await;
}
