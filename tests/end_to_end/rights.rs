//! Compares the operator's API requests during the other tests with its roles: no request was refused, also by no
//! admission policy, and every right was used. It reads the audit log of the tests' own cluster, so it runs last, and
//! never on another cluster.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};

use serde_json::Value;

use servers::cluster::{kubectl, run};

pub const OPERATOR: &str = "system:serviceaccount:image-pipeline-system:image-pipeline";

/// Group, resource and verb.
type Right = (String, String, String);

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Every right in the roles of the release.
fn granted() -> BTreeSet<Right> {
    let selector = "--selector=app.kubernetes.io/instance=image-pipeline";
    let roles = run(kubectl().args(["get", "clusterroles,roles", "--all-namespaces", selector, "--output=json"]));
    let roles: Value = serde_json::from_str(&roles).unwrap();
    let each = |rule: &Value, key: &str| rule[key].as_array().cloned().unwrap_or_default();
    let mut granted = BTreeSet::new();
    for rule in roles["items"].as_array().unwrap().iter().flat_map(|role| each(role, "rules")) {
        for group in each(&rule, "apiGroups") {
            for resource in each(&rule, "resources") {
                granted.extend(each(&rule, "verbs").iter().map(|verb| (text(&group), text(&resource), text(verb))));
            }
        }
    }
    granted
}

/// The operator's requests in the audit log. Requests while the release is uninstalled are left out: the operator
/// that is stopping has no rights then.
fn requests() -> Vec<Value> {
    let directory = std::env::var("CLUSTER_DIR").expect("CLUSTER_DIR is set by make: run `make end-to-end`");
    let log = std::fs::File::open(format!("{directory}/audit.log")).expect("an audit log");
    let events = BufReader::new(log).lines().map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let mut removed = false;
    let installed = events.filter(|event| {
        let object = &event["objectRef"];
        if object["resource"] == "deployments" && object["namespace"] == "image-pipeline-system" {
            match event["verb"].as_str() {
                Some("delete") => removed = true,
                Some("create") => removed = false,
                _ => {}
            }
        }
        !removed
    });
    installed.filter(|event| event["user"]["username"] == OPERATOR).collect()
}

/// The rights that a request needs. An apply that creates its object needs the verb `create`, too.
fn needed(request: &Value) -> Vec<Right> {
    let object = &request["objectRef"];
    let resource = [&object["resource"], &object["subresource"]].map(text);
    let resource = resource.iter().filter(|part| !part.is_empty()).cloned().collect::<Vec<_>>().join("/");
    let made = request["verb"] == "patch" && request["responseStatus"]["code"] == 201;
    let verbs = [Some(text(&request["verb"])), made.then(|| "create".to_owned())];
    verbs.into_iter().flatten().map(|verb| (text(&object["apiGroup"]), resource.clone(), verb)).collect()
}

#[test]
#[ignore = "looks back at the other tests: `make end-to-end` runs it after them"]
fn the_operator_used_all_of_its_rights_and_was_refused_nothing() {
    let requests = requests();
    let decision = |request: &Value| text(&request["annotations"]["authorization.k8s.io/decision"]);
    let refused: Vec<_> = requests.iter().filter(|request| decision(request) != "allow").collect();
    assert!(refused.is_empty(), "{refused:#?}");
    let message = |request: &Value| text(&request["responseStatus"]["message"]);
    let by_policy = |request: &&Value| message(request).contains("ValidatingAdmissionPolicy");
    let refused: Vec<_> = requests.iter().filter(by_policy).collect();
    assert!(refused.is_empty(), "refused by an admission policy: {refused:#?}");
    let (used, granted): (BTreeSet<_>, _) = (requests.iter().flat_map(needed).collect(), granted());
    let unused: Vec<_> = granted.difference(&used).collect();
    let beyond: Vec<_> = used.difference(&granted).collect();
    assert!(
        unused.is_empty() && beyond.is_empty() && !granted.is_empty(),
        "granted and never used: {unused:#?}\nused and no longer granted: {beyond:#?}\n\
         (`make down` first where an operator of another version ran in this cluster)"
    );
    println!("{} requests, {} rights", requests.len(), granted.len());
}
