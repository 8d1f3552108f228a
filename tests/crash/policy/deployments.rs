//! Deployments that an attacker writes with the operator's token. Each differs in one place from a Deployment of the
//! operator.

use image_pipeline::api::{ImagePipeline, names};
use image_pipeline::controller::ConsumerImage;
use image_pipeline::controller::build::{self, Template};
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::{NAMESPACE, Stage, must_be_refused, refusal};
use crate::chart::IMAGE;
use servers::objects;

mod cases;

use cases::{CASES, OWNER_RULES, OWNERS};

/// The Deployment that the operator writes for a pipeline with these changes of the spec.
fn deployment(name: &str, changes: &Value) -> Value {
    let pipeline = objects::pipeline(NAMESPACE, name, changes);
    let pipeline: ImagePipeline = serde_json::from_value(pipeline).expect("a pipeline");
    let (image, pull_policy) = (IMAGE.to_owned(), "IfNotPresent".to_owned());
    let template =
        Template::new(&pipeline, ConsumerImage { image, pull_policy, pull_secrets: vec!["east".to_owned()] });
    serde_json::to_value(build::deployment(&pipeline, 1, &template)).expect("JSON")
}

/// A pipeline that names what the lists allow.
fn good(name: &str) -> Value {
    let consumer = json!({ "serviceAccountName": "tiles", "priorityClassName": "batch" });
    deployment(
        name,
        &json!({ "consumer": consumer, "destination": { "s3": { "credentialsSecret": { "name": "s3" } } } }),
    )
}

/// Sets the value at a JSON pointer, removes it for `null`, or appends it to a list at `-`.
fn set(object: &mut Value, pointer: &str, value: &str) {
    let value: Value = serde_json::from_str(value).unwrap_or_else(|error| panic!("{value}: {error}"));
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    match object.pointer_mut(parent).unwrap_or_else(|| panic!("no {parent}")) {
        Value::Array(items) if key == "-" => items.push(value),
        Value::Array(items) => items[key.parse::<usize>().expect("an index")] = value,
        Value::Object(fields) if value.is_null() => drop(fields.remove(key)),
        Value::Object(fields) => drop(fields.insert(key.to_owned(), value)),
        other => panic!("{pointer} in {other}"),
    }
}

fn changed(object: &Value, changes: &[(&str, &str)]) -> Value {
    let mut object = object.clone();
    changes.iter().for_each(|(pointer, value)| set(&mut object, pointer, value));
    object
}

/// Applies a Deployment as the operator does.
async fn apply(client: &kube::Client, object: &Value, dry_run: bool) -> Result<Deployment, kube::Error> {
    let api: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
    let parameters = PatchParams { dry_run, ..PatchParams::apply(names::FIELD_MANAGER).force() };
    api.patch(object["metadata"]["name"].as_str().expect("a name"), &parameters, &Patch::Apply(object)).await
}

async fn must_pass(what: &str, client: &kube::Client, object: &Value) {
    if let Err(error) = apply(client, object, false).await {
        panic!("{what}: {error:?}");
    }
}

/// A Deployment that the policy refuses.
pub async fn attempt(stage: &Stage) -> Result<Deployment, kube::Error> {
    apply(&stage.operator, &changed(&good("attempt"), CASES[0].changes), true).await
}

pub async fn what_the_operator_writes_passes(stage: &Stage) {
    let tls = json!({ "caSecret": { "name": "ca" }, "clientCertSecret": { "name": "client" } });
    let rabbitmq =
        json!({ "tls": tls, "credentialsSecret": { "name": "reader" }, "queue": "-odd $(HOSTNAME) 'queue'-" });
    for mut changes in [
        json!({}),
        json!({ "destination": { "s3": { "identity": "Instance", "tls": { "caSecret": { "name": "ca" } } } } }),
        json!({ "source": { "rabbitmq": rabbitmq } }),
        json!({ "consumer": {
            "priorityClassName": "batch", "nodeSelector": { "pool": "images" }, "terminationGracePeriodSeconds": 3600,
            "tolerations": [{ "key": "pool", "operator": "Exists" }],
            "topologySpreadConstraints": [{ "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule" }],
        } }),
        json!({}),
    ] {
        changes["consumer"]["serviceAccountName"] = "tiles".into();
        let object = deployment("tiles", &changes);
        must_pass(&changes.to_string(), &stage.operator, &object).await;
        must_pass("another size", &stage.operator, &changed(&object, &[("/spec/replicas", "7")])).await;
    }
}

/// Also checks that what somebody else has put into a Deployment does not keep the operator from scaling it.
pub async fn each_rule_refuses(stage: &Stage) {
    for (index, case) in CASES.iter().enumerate() {
        let what = format!("{:?}", case.changes);
        let present = good(&format!("p{index}"));
        let wanted = changed(&present, case.changes);
        must_be_refused(&what, apply(&stage.operator, &wanted, true).await, case.rule);
        must_pass(&what, &stage.operator, &present).await;
        must_be_refused(&what, apply(&stage.operator, &wanted, false).await, case.rule);
        must_pass(&what, &stage.admin, &wanted).await;
        must_pass(&what, &stage.operator, &changed(&wanted, &[("/spec/replicas", "2")])).await;
    }
    let rules: Vec<_> = CASES.iter().map(|case| case.rule).chain(OWNER_RULES).collect();
    stage.each_validation_has_a_case("deployments", &rules);
    let image = refusal(attempt(stage).await).expect("refused");
    assert!(image.contains("the image must be image:1; found attacker:1"), "{image}");
}

pub async fn owners_are_kept(stage: &Stage) {
    let [owner, change] = OWNER_RULES;
    for changes in OWNERS {
        let what = format!("{changes:?}");
        must_be_refused(&what, apply(&stage.operator, &changed(&good("owned"), changes), true).await, owner);
    }
    must_pass("owned", &stage.operator, &good("owned")).await;
    let other = changed(&good("owned"), &[("/metadata/ownerReferences/0/uid", r#""another""#)]);
    must_be_refused("another owner", apply(&stage.operator, &other, true).await, change);

    let free = changed(&good("free"), &[("/metadata/ownerReferences", "null")]);
    must_pass("no owner", &stage.admin, &free).await;
    must_be_refused("a Deployment of nobody", apply(&stage.operator, &good("free"), true).await, change);
}
