//! The operator's token in the hands of an attacker, on the oldest and on the newest Kubernetes: whatever the operator
//! does passes, and every rule of the chart's admission policies refuses what breaks it.

use std::fmt::Debug;
use std::path::{Path, PathBuf};

use axum::http::Request;
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
use kube::Api;

use crate::chart::{list, policies, rendered, repository};
use crate::control_plane::ControlPlane;
use crate::kubectl::Kubectl;
use servers::control_plane::{ApiServer, oldest_api_server, programs};
use support::eventually::{LIMIT, eventually};
use support::process::directory;

mod deployments;
mod pipelines;
mod pods;

/// Namespace of the pipelines.
const NAMESPACE: &str = "greench";

/// Lists, so that the rules about them exist.
const VALUES: [&str; 2] = ["consumers.serviceAccounts={tiles,other}", "consumers.priorityClasses={batch}"];

/// Requests that the roles refuse, each with its path.
const BEYOND_THE_ROLES: [(&str, &str); 11] = [
    ("POST", "/api/v1/namespaces/greench/pods"),
    ("POST", "/api/v1/namespaces/greench/pods/tiles-0/binding"),
    ("POST", "/api/v1/namespaces/greench/pods/tiles-0/exec?command=sh"),
    ("PATCH", "/api/v1/namespaces/greench/pods/tiles-0/ephemeralcontainers"),
    ("PATCH", "/api/v1/namespaces/greench/secrets/s3"),
    ("POST", "/api/v1/namespaces/greench/serviceaccounts/default/token"),
    ("PATCH", "/apis/apps/v1/namespaces/greench/deployments/tiles-consumer/scale"),
    ("DELETE", "/apis/apps/v1/namespaces/greench/deployments/tiles-consumer"),
    ("PATCH", "/apis/greench.dev/v1alpha1/namespaces/greench/imagepipelines/tiles"),
    ("POST", "/apis/rbac.authorization.k8s.io/v1/namespaces/greench/rolebindings"),
    ("DELETE", "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/image-pipeline.operators.pods"),
];

/// An API server with the chart, and two users of it.
struct Stage {
    admin: kube::Client,
    /// With a token of the operator's ServiceAccount.
    operator: kube::Client,
    chart: PathBuf,
}

impl Stage {
    async fn start(api_server: &ApiServer) -> Self {
        let kubectl = Kubectl { api_server, home: directory("policy") };
        kubectl.is_ready().await;
        kubectl.establishes(&repository("crds/imagepipelines.yaml"));
        for namespace in ["operators", NAMESPACE] {
            kubectl.makes_namespace(namespace);
        }
        let admin = api_server.client().await;
        pipelines::before_the_lists(&admin).await;
        let chart = rendered(&kubectl.version(), &VALUES);
        kubectl.applies(&chart, &[]);
        let token = kubectl.run(&["--namespace", "operators", "create", "token", "image-pipeline"]).expect("a token");
        let operator = api_server.client_as(|user| user.token = Some(token.trim().to_owned().into())).await;
        let stage = Self { admin, operator, chart };
        pods::make(&stage).await;
        eventually("the policies", LIMIT, async || {
            refusal(deployments::attempt(&stage).await)?;
            refusal(pods::attempt(&stage).await)?;
            refusal(pipelines::attempt(&stage).await)
        })
        .await;
        stage
    }

    /// Checks that each validation of a policy has one of these messages, so that none is without a case.
    fn each_validation_has_a_case(&self, policy: &str, messages: &[&str]) {
        let name = format!("image-pipeline.operators.{policy}");
        let found = policies(&self.chart).find(|found| found["metadata"]["name"] == name.as_str());
        let found = found.expect("the policy");
        let validations = found["spec"]["validations"].as_array().expect("validations");
        for validation in validations {
            let has = |key: &str| {
                let text = validation[key].as_str().unwrap_or_default();
                messages.iter().any(|message| text.contains(message))
            };
            assert!(has("message") || has("messageExpression"), "no case for {validation}");
        }
    }
}

/// The message with which an admission policy refused a request.
fn refusal<T: Debug>(answer: Result<T, kube::Error>) -> Result<String, String> {
    match answer {
        Err(kube::Error::Api(status)) if status.code == 403 && status.message.contains("ValidatingAdmissionPolicy") => {
            Ok(status.message.clone())
        }
        other => Err(format!("not refused by a policy: {other:?}")),
    }
}

/// Checks that a policy refused a request with a message that contains `rule`.
fn must_be_refused<T: Debug>(what: &str, answer: Result<T, kube::Error>, rule: &str) {
    let message = refusal(answer).unwrap_or_else(|answer| panic!("{what}: {answer}"));
    assert!(message.contains(rule), "{what}: {message}");
}

async fn roles_refuse(stage: &Stage) {
    for (method, path) in BEYOND_THE_ROLES {
        let request = Request::builder().method(method).uri(path).header("Content-Type", "application/json");
        let answer = stage.operator.request_text(request.body(b"{}".to_vec()).expect("a request")).await;
        let Err(kube::Error::Api(status)) = answer else { panic!("{method} {path}: {answer:?}") };
        assert!(status.code == 403 && status.message.contains("cannot"), "{method} {path}: {}", status.message);
    }
}

async fn a_stolen_token_is_refused(program: &Path) {
    let api_server = ApiServer::start(program, &[]);
    let stage = Stage::start(&api_server).await;
    deployments::what_the_operator_writes_passes(&stage).await;
    deployments::each_rule_refuses(&stage).await;
    deployments::owners_are_kept(&stage).await;
    pods::each_rule_refuses(&stage).await;
    pipelines::each_rule_refuses(&stage).await;
    roles_refuse(&stage).await;
}

#[tokio::test]
async fn the_oldest_kubernetes_refuses_a_stolen_token() {
    a_stolen_token_is_refused(&oldest_api_server()).await;
}

#[tokio::test]
async fn the_newest_kubernetes_refuses_a_stolen_token() {
    a_stolen_token_is_refused(&programs().join("kube-apiserver")).await;
}

/// A field that does not exist is otherwise found only when the expression is evaluated.
#[tokio::test]
async fn the_expressions_name_only_fields_that_exist() {
    let plane = ControlPlane::shared().await;
    let kubectl = Kubectl { api_server: &plane.api_server, home: directory("types") };
    // Under other names and without bindings, so that the rules about the lists limit no scene.
    let chart = rendered(&kubectl.version(), &VALUES);
    let policies: Vec<_> = policies(&chart)
        .map(|mut policy| {
            policy["metadata"]["name"] = format!("types.{}", policy["metadata"]["name"].as_str().unwrap()).into();
            policy
        })
        .collect();
    kubectl.applies(&list(&policies), &[]);
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(plane.client().await);
    let count = eventually("the types of the expressions", LIMIT, async || {
        let policies = policies.list(&Default::default()).await.map_err(|error| error.to_string())?;
        for policy in &policies {
            let status = policy.status.as_ref().filter(|status| status.type_checking.is_some());
            let Some(status) = status.filter(|status| status.observed_generation == policy.metadata.generation) else {
                return Err(format!("{:?} has not been checked", policy.metadata.name));
            };
            let warnings = status.type_checking.as_ref().and_then(|types| types.expression_warnings.as_ref());
            assert!(warnings.is_none_or(Vec::is_empty), "{:?}: {warnings:#?}", policy.metadata.name);
        }
        Ok(policies.items.len())
    })
    .await;
    assert_eq!(count, 5);
}
