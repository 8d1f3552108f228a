//! The admission policies: whom they limit, and that they allow what the code writes. tests/crash/policy.rs evaluates
//! them.

use image_pipeline::api::names;
use image_pipeline::controller::build::MEMORY;
use serde_json::{Value, json};

use super::{REPOSITORY, arguments, container, render, rendered, template};

const POLICY: &str = "ValidatingAdmissionPolicy";
const BINDING: &str = "ValidatingAdmissionPolicyBinding";
const LISTS: [&str; 2] = ["consumers.serviceAccounts={default,tiles}", "consumers.priorityClasses={batch}"];

fn of_kind(kind: &str, values: &[&str]) -> Vec<Value> {
    render(values).into_iter().filter(|object| object["kind"] == kind).collect()
}

/// The policy whose name ends with `resource`.
fn policy(resource: &str, values: &[&str]) -> Value {
    let name = format!("image-pipeline.operators.{resource}");
    let values = [&[REPOSITORY], values].concat();
    of_kind(POLICY, &values).into_iter().find(|policy| policy["metadata"]["name"] == name.as_str()).expect(resource)
}

fn resources(policy: &Value) -> &Value {
    &policy["spec"]["matchConstraints"]["resourceRules"]
}

#[test]
fn the_operators_account_is_limited_and_no_other_user() {
    let account = template(&[REPOSITORY])["spec"]["serviceAccountName"].clone();
    let user = format!("request.userInfo.username == 'system:serviceaccount:operators:{}'", account.as_str().unwrap());
    for (resource, group, operations) in
        [("deployments", "apps", json!(["CREATE", "UPDATE"])), ("pods", "", json!(["UPDATE"]))]
    {
        let policy = policy(resource, &[]);
        let rule = json!([{
            "apiGroups": [group], "apiVersions": ["v1"], "operations": operations, "resources": [resource],
        }]);
        assert_eq!(resources(&policy), &rule);
        assert_eq!(policy["spec"]["matchConditions"], json!([{ "name": "operator", "expression": user }]));
        // The API server looks up a parameter before the match conditions: a missing one would refuse other users.
        assert_eq!(policy["spec"]["paramKind"], Value::Null);
    }
}

#[test]
fn every_policy_is_bound_and_refuses() {
    let values = [&[REPOSITORY], &LISTS[..]].concat();
    let (policies, bindings) = (of_kind(POLICY, &values), of_kind(BINDING, &values));
    let names = |objects: &[Value], pointer: &str| -> Vec<_> {
        objects.iter().map(|object| object.pointer(pointer).cloned().unwrap()).collect()
    };
    assert_eq!(policies.len(), 3);
    assert_eq!(names(&policies, "/metadata/name"), names(&bindings, "/spec/policyName"));
    for binding in bindings {
        assert_eq!(binding["spec"]["validationActions"], json!(["Deny"]));
        assert_eq!(binding["spec"]["matchResources"], Value::Null);
    }
    for policy in policies {
        assert_eq!(policy["spec"]["failurePolicy"], "Fail");
        for validation in policy["spec"]["validations"].as_array().unwrap() {
            assert_eq!(validation["reason"], "Forbidden", "{validation}");
            assert!(validation["message"].is_string(), "{validation}");
        }
    }
}

/// Two releases of one name, each limited to a namespace of its own, may be in one cluster.
#[test]
fn the_namespace_of_the_release_is_in_the_names() {
    for object in [POLICY, BINDING].iter().flat_map(|kind| of_kind(kind, &[REPOSITORY])) {
        assert!(object["metadata"]["name"].as_str().unwrap().starts_with("image-pipeline.operators."), "{object}");
    }
}

#[test]
fn what_the_code_writes_is_allowed() {
    let deployments = policy("deployments", &[])["spec"].to_string();
    let contains = |text: &str| assert!(deployments.contains(text), "{text} in {deployments}");
    let image = arguments(&container(&[REPOSITORY])).consumer_image;
    contains(&format!("c.image == '{image}'"));
    contains(&format!("c.name == '{}'", names::CONTAINER));
    contains(&format!("m.mountPath == '{}/' + m.name", names::SECRETS_MOUNT));
    contains(&format!("--listen=[::]:{}", names::HTTP_PORT));
    contains(&format!("k == '{}'", names::SPEC_ANNOTATION));
    for (name, value) in MEMORY {
        contains(&format!("{{'name': '{name}', 'value': '{value}'}}"));
    }
    for (label, value) in names::labels("") {
        let value = if label == names::INSTANCE_LABEL { "string(o.name)".to_owned() } else { format!("'{value}'") };
        contains(&format!("'{label}': {value}"));
    }
    let pods = policy("pods", &[])["spec"].to_string();
    let own = format!("['{}', '{}']", names::SECRETS_ANNOTATION, names::DELETION_COST_ANNOTATION);
    assert!(pods.contains(&own), "{own} in {pods}");
    for label in names::CONSUMER_SELECTOR.split(',') {
        let (key, value) = label.split_once('=').unwrap();
        assert!(pods.contains(&format!("[?'{key}'].orValue('') == '{value}'")), "{label} in {pods}");
    }
}

#[test]
fn lists_are_checked_where_a_user_names_and_where_the_operator_writes() {
    assert!(
        of_kind(POLICY, &[REPOSITORY]).iter().all(|policy| resources(policy)[0]["apiGroups"] != json!(["greench.dev"]))
    );
    let values = [&LISTS[..], &["namespaces={north}"]].concat();
    let [deployments, consumers] =
        ["deployments", "consumers"].map(|resource| policy(resource, &values)["spec"].clone());
    for spec in [&deployments, &consumers] {
        for list in [r#"in ["default","tiles"]"#, r#""batch"]"#] {
            let expressions =
                spec["validations"].as_array().unwrap().iter().map(|rule| rule["expression"].as_str().unwrap());
            assert_eq!(expressions.filter(|expression| expression.contains(list)).count(), 1, "{list} in {spec}");
        }
    }
    assert_eq!(consumers["matchConditions"], Value::Null, "all users");
    let rule = json!([{
        "apiGroups": ["greench.dev"], "apiVersions": ["v1alpha1"], "operations": ["CREATE", "UPDATE"],
        "resources": ["imagepipelines"],
    }]);
    assert_eq!(consumers["matchConstraints"]["resourceRules"], rule);
    let north = json!([{ "key": "kubernetes.io/metadata.name", "operator": "In", "values": ["north"] }]);
    assert_eq!(consumers["matchConstraints"]["namespaceSelector"]["matchExpressions"], north);
    assert_eq!(policy("consumers", &LISTS)["spec"]["matchConstraints"]["namespaceSelector"], Value::Null);
}

/// The lists hold without the limits of the operator, too.
#[test]
fn without_the_limits_of_the_operator_the_lists_stay() {
    let off = [REPOSITORY, "admissionPolicy.enabled=false"];
    assert_eq!(of_kind(POLICY, &off).len() + of_kind(BINDING, &off).len(), 0);
    let only = rendered(POLICY, &[&off[..], &LISTS].concat());
    assert_eq!(only["metadata"]["name"], "image-pipeline.operators.consumers");
}
