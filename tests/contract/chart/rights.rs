//! The rights that the chart grants: exactly these, to the operator's service account, in the cluster or in each
//! listed namespace.

use serde_json::{Value, json};

use super::{REPOSITORY, arguments, chart, container, kinds, render, rendered, yaml};

/// The operator's complete rights: group, resource, verbs.
const RIGHTS: [(&str, &str, &[&str]); 6] = [
    ("greench.dev", "imagepipelines", &["list", "watch"]),
    ("greench.dev", "imagepipelines/status", &["patch"]),
    ("apps", "deployments", &["list", "watch", "create", "patch"]),
    ("", "pods", &["list", "watch", "patch"]),
    ("", "secrets", &["get", "list", "watch"]),
    ("events.k8s.io", "events", &["create", "patch"]),
];

fn rights() -> Value {
    json!(
        RIGHTS.map(|(group, resource, verbs)| json!({ "apiGroups": [group], "resources": [resource], "verbs": verbs }))
    )
}

#[test]
fn the_rights_are_these_and_no_others() {
    assert_eq!(yaml(&chart("files/rules.yaml")), rights());
}

#[test]
fn the_rights_go_to_the_account_that_the_pod_runs_as() {
    let objects = render(&[REPOSITORY]);
    assert_eq!(
        kinds(&objects),
        [
            "ServiceAccount",
            "CustomResourceDefinition",
            "ClusterRole",
            "ClusterRoleBinding",
            "Role",
            "RoleBinding",
            "Service",
            "Deployment",
            "ValidatingAdmissionPolicy",
            "ValidatingAdmissionPolicy",
            "ValidatingAdmissionPolicyBinding",
            "ValidatingAdmissionPolicyBinding",
            "Pod"
        ]
    );
    let [account, _, role, binding, leader, leads, _, deployment, ..] = &objects[..] else { panic!("{objects:?}") };
    let name = &account["metadata"]["name"];
    assert_eq!(deployment["spec"]["template"]["spec"]["serviceAccountName"], *name);
    assert_eq!(role["rules"], rights());
    binds(binding, role, name);
    let (group, resource) = (["coordination.k8s.io"], ["leases"]);
    let leases = json!([
        { "apiGroups": group, "resources": resource, "verbs": ["create"] },
        { "apiGroups": group, "resources": resource, "resourceNames": ["image-pipeline"], "verbs": ["get", "update"] },
    ]);
    assert_eq!((&leader["metadata"]["namespace"], &leader["rules"]), (&json!("operators"), &leases));
    assert_eq!(leads["metadata"]["namespace"], "operators");
    binds(leads, leader, name);
}

/// With a list of namespaces, the same rights are granted in each of them, and none elsewhere.
#[test]
fn in_namespaces_the_rights_are_the_same_and_end_there() {
    let values = [REPOSITORY, "namespaces={north,south}"];
    let objects = render(&values);
    assert!(kinds(&objects).iter().all(|kind| !kind.starts_with("Cluster")), "{objects:?}");
    let of = |kind: &str| -> Vec<_> {
        let objects = objects.iter().filter(|object| object["kind"] == kind);
        objects.filter(|object| object["metadata"]["name"] == "image-pipeline").collect()
    };
    let (roles, bindings) = (of("Role"), of("RoleBinding"));
    assert_eq!((roles.len(), bindings.len()), (2, 2));
    let cluster_wide = rendered("ClusterRole", &[REPOSITORY]);
    for (index, namespace) in ["north", "south"].into_iter().enumerate() {
        let (role, binding) = (roles[index], bindings[index]);
        assert_eq!((&role["metadata"]["namespace"], &role["rules"]), (&json!(namespace), &cluster_wide["rules"]));
        assert_eq!(binding["metadata"]["namespace"], namespace);
        binds(binding, role, &objects[0]["metadata"]["name"]);
    }
    assert_eq!(arguments(&container(&values)).namespaces, ["north", "south"]);
}

/// Rights that would let an attacker who controls the operator gain further rights.
#[test]
fn no_role_reaches_further_rights() {
    for values in [&[REPOSITORY][..], &[REPOSITORY, "namespaces={north,south}"]] {
        let objects = render(values);
        let rules: Vec<_> = objects.iter().filter_map(|object| object["rules"].as_array()).flatten().collect();
        assert!(!rules.is_empty());
        for rule in rules {
            let has = |key: &str, item: &str| rule[key].as_array().unwrap().iter().any(|entry| entry == item);
            for key in ["apiGroups", "resources", "verbs"] {
                assert!(!has(key, "*"), "{rule}");
            }
            for verb in ["bind", "escalate", "impersonate", "delete", "deletecollection"] {
                assert!(!has("verbs", verb), "{rule}");
            }
            assert!(!has("apiGroups", "rbac.authorization.k8s.io"), "{rule}");
            for resource in ["pods/exec", "pods/attach", "pods/ephemeralcontainers", "serviceaccounts/token"] {
                assert!(!has("resources", resource), "{rule}");
            }
            let reads = |verb: &Value| ["get", "list", "watch"].iter().any(|read| verb == read);
            assert!(!has("resources", "secrets") || rule["verbs"].as_array().unwrap().iter().all(reads), "{rule}");
        }
    }
}

/// Checks that a binding gives the role, in the same namespace or in the cluster, to the operator's account.
fn binds(binding: &Value, role: &Value, account: &Value) {
    assert_eq!(binding["kind"], format!("{}Binding", role["kind"].as_str().unwrap()));
    assert_eq!(binding["subjects"], json!([{ "kind": "ServiceAccount", "name": account, "namespace": "operators" }]));
    let named =
        json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": role["kind"], "name": role["metadata"]["name"] });
    assert_eq!(binding["roleRef"], named);
}
