//! The chart's contract: what it starts the operator with is what the operator takes, what it grants
//! is what the table here says, what it renders is a restricted pod. Rendering takes helm: $HELM, one
//! on the PATH, or the one that tests/cluster/build makes.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use clap::{CommandFactory, Parser};
use image_pipeline::controller;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};

/// The operator's command line as `main` parses it.
#[derive(Parser)]
enum Cli {
    Controller(controller::Args),
}

/// The rights of the operator, and no others: group, resource, verbs.
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

const REPOSITORY: &str = "image.repository=registry.example:5000/team/image-pipeline";

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn chart(path: &str) -> String {
    std::fs::read_to_string(root("charts/image-pipeline").join(path)).unwrap()
}

fn yaml(text: &str) -> Value {
    serde_yaml::from_str(text).unwrap()
}

// What needs no helm.

#[test]
fn the_versions_are_the_package_s() {
    let about = yaml(&chart("Chart.yaml"));
    assert_eq!(about["appVersion"], env!("CARGO_PKG_VERSION"));
    assert_eq!(about["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn every_value_is_described_and_in_the_schema() {
    let keys = |object: &Value| object.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let values = yaml(&chart("values.yaml"));
    let schema: Value = serde_json::from_str(&chart("values.schema.json")).unwrap();
    let mut known = keys(&schema["properties"]);
    known.retain(|key| key != "global");
    assert_eq!(keys(&values), known);
    assert_eq!(keys(&values["image"]), keys(&schema["properties"]["image"]["properties"]));

    let text = chart("values.yaml");
    let lines: Vec<_> = text.lines().collect();
    for key in keys(&values).iter().chain(&keys(&values["image"])).filter(|key| *key != "image") {
        let at = lines.iter().position(|line| line.trim_start().starts_with(&format!("{key}:"))).unwrap();
        assert!(lines[at - 1].trim_start().starts_with('#'), "{key} is not described in values.yaml");
    }
}

#[test]
fn every_flag_is_one_that_the_operator_takes() {
    let template = chart("templates/deployment.yaml");
    let given = template.lines().filter_map(|line| line.trim().strip_prefix("- --")?.split('=').next());
    let command = Cli::command();
    let controller = command.find_subcommand("controller").unwrap();
    let taken: Vec<_> = controller.get_arguments().filter_map(|argument| argument.get_long()).collect();
    let mut seen = 0;
    for flag in given {
        assert!(taken.contains(&flag), "templates/deployment.yaml gives --{flag}; the operator takes {taken:?}");
        seen += 1;
    }
    assert_eq!(seen, taken.len(), "a flag that the chart does not give: {taken:?}");
}

#[test]
fn the_rights_are_these_and_no_others() {
    assert_eq!(yaml(&chart("files/rules.yaml")), rights());
}

// What is rendered.

/// The helm there is: as named, on the PATH, or in the cache of the tests' cluster.
fn helm() -> OsString {
    let runs = |program: &OsString| Command::new(program).arg("version").output().is_ok_and(|ran| ran.status.success());
    let paths = Command::new(root("tests/cluster/paths")).output().unwrap();
    let built = String::from_utf8(paths.stdout).unwrap().lines().nth(1).map(|bin| Path::new(bin).join("helm").into());
    let places = [std::env::var_os("HELM"), Some("helm".into()), built];
    places.into_iter().flatten().find(runs).expect("no helm: install it, name it in HELM, or run tests/cluster/build")
}

fn run_helm(command: &[&str], values: &[&str]) -> Output {
    let set = values.iter().flat_map(|value| ["--set", value]);
    let chart = root("charts/image-pipeline");
    Command::new(helm()).args(command).arg(chart).args(["--kube-version", "1.30.0"]).args(set).output().unwrap()
}

/// What the chart makes of `values`, in order.
fn render(values: &[&str]) -> Vec<Value> {
    let output = run_helm(&["template", "image-pipeline", "--namespace", "operators"], values);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_yaml::Deserializer::from_slice(&output.stdout)
        .map(|document| serde::Deserialize::deserialize(document).unwrap())
        .filter(|document: &Value| !document.is_null())
        .collect()
}

fn rendered(kind: &str, values: &[&str]) -> Value {
    render(values).into_iter().find(|object| object["kind"] == kind).expect(kind)
}

fn container(values: &[&str]) -> Value {
    rendered("Deployment", values)["spec"]["template"]["spec"]["containers"][0].clone()
}

fn arguments(container: &Value) -> controller::Args {
    let line = container["args"].as_array().unwrap().iter().map(|argument| argument.as_str().unwrap());
    let Cli::Controller(args) = Cli::try_parse_from(std::iter::once("image-pipeline").chain(line)).unwrap();
    args
}

fn refusal(values: &[&str]) -> String {
    let output = run_helm(&["template", "image-pipeline"], values);
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn lint_is_clean() {
    for values in [&[][..], &[REPOSITORY]] {
        let output = run_helm(&["lint", "--strict"], values);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && !said.contains("[WARNING]") && !said.contains("[ERROR]"), "{said}");
    }
}

#[test]
fn what_is_missing_or_unknown_is_named() {
    let missing = refusal(&[]);
    for expected in ["image.repository is empty", "make image", "--set image.repository="] {
        assert!(missing.contains(expected), "{missing}");
    }
    let cases = [
        ("image.tga=1", "tga"),
        ("image.pullPolicy=Sometimes", "pullPolicy"),
        ("image.repository=registry.example/image-pipeline:v1", "repository"),
        ("image.digest=sha256:12", "digest"),
        ("resources.limits.memory=much", "memory"),
        ("replicas=0", "replicas"),
        ("logLevel=loud", "logLevel"),
        ("logLevel=", "logLevel"),
        ("namespaces={North}", "namespaces"),
        ("namespaces={north,north}", "namespaces"),
    ];
    for (value, named) in cases {
        let said = refusal(&[REPOSITORY, value]);
        assert!(said.contains(named), "{value}: {said}");
    }
}

#[test]
fn the_operator_takes_its_command_line() {
    let container = container(&[REPOSITORY]);
    let args = arguments(&container);
    assert_eq!(container["image"], concat!("registry.example:5000/team/image-pipeline:", env!("CARGO_PKG_VERSION")));
    assert_eq!(container["image"], args.consumer_image);
    assert_eq!(container["imagePullPolicy"], args.consumer_image_pull_policy);
    assert_eq!(args.consumer_image_pull_secrets, [""; 0]);
    assert_eq!(args.namespaces, [""; 0]);
    assert!(
        !args.allow_local_brokers
            && arguments(&self::container(&[REPOSITORY, "allowLocalBrokers=true"])).allow_local_brokers
    );
    assert_eq!(container["ports"], json!([{ "name": "http", "containerPort": args.listen.port() }]));
    for probe in ["livenessProbe", "readinessProbe"] {
        assert_eq!(container[probe]["httpGet"]["port"], "http");
    }
    let pod_name = json!({ "name": "POD_NAME", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } });
    assert_eq!(container["env"], json!([pod_name, { "name": "RUST_LOG", "value": "info" }]));
    let lease = [args.lease_namespace, Some(args.lease_name), args.identity];
    assert_eq!(lease, ["operators", "image-pipeline", "$(POD_NAME)"].map(|text| Some(text.to_owned())));
}

#[test]
fn consumers_are_pulled_as_the_operator_is() {
    let digest = format!("sha256:{}", "0".repeat(64));
    let pinned = format!("image.digest={digest}");
    let values = [REPOSITORY, "image.tag=v1", &pinned, "image.pullPolicy=Always", "image.pullSecrets={east,west}"];
    let pod = rendered("Deployment", &values)["spec"]["template"]["spec"].clone();
    let args = arguments(&pod["containers"][0]);
    assert_eq!(args.consumer_image, format!("registry.example:5000/team/image-pipeline@{digest}"));
    assert_eq!(pod["containers"][0]["image"], args.consumer_image);
    assert_eq!(args.consumer_image_pull_policy, "Always");
    assert_eq!(args.consumer_image_pull_secrets, ["east", "west"]);
    assert_eq!(pod["imagePullSecrets"], json!([{ "name": "east" }, { "name": "west" }]));
}

#[test]
fn the_pod_is_restricted() {
    let spec = rendered("Deployment", &[REPOSITORY])["spec"].clone();
    let pod = &spec["template"]["spec"];
    assert_eq!(
        pod["securityContext"],
        json!({ "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "seccompProfile": { "type": "RuntimeDefault" } })
    );
    assert_eq!(
        pod["containers"][0]["securityContext"],
        json!({ "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": { "drop": ["ALL"] } })
    );
    assert_eq!(pod["enableServiceLinks"], false);
    assert_eq!(
        pod["containers"][0]["resources"],
        json!({ "requests": { "cpu": "50m", "memory": "64Mi" }, "limits": { "memory": "256Mi" } })
    );
    let selector = spec["selector"]["matchLabels"].as_object().unwrap();
    assert!(selector.iter().all(|(label, value)| spec["template"]["metadata"]["labels"][label] == *value));
}

#[test]
fn several_operators_are_spread_and_not_all_evicted_at_once() {
    let one = rendered("Deployment", &[REPOSITORY])["spec"].clone();
    assert_eq!((&one["replicas"], &one["strategy"]), (&json!(1), &Value::Null));
    assert_eq!(one["template"]["spec"]["topologySpreadConstraints"], Value::Null);
    assert!(!kinds(&render(&[REPOSITORY])).contains(&"PodDisruptionBudget"));

    let two = [REPOSITORY, "replicas=2"];
    let spec = rendered("Deployment", &two)["spec"].clone();
    let budget = rendered("PodDisruptionBudget", &two)["spec"].clone();
    assert_eq!((&spec["replicas"], &budget["maxUnavailable"]), (&json!(2), &json!(1)));
    assert_eq!(budget["selector"], spec["selector"]);
    let spread = &spec["template"]["spec"]["topologySpreadConstraints"][0];
    assert_eq!(
        (&spread["topologyKey"], &spread["labelSelector"]),
        (&json!("kubernetes.io/hostname"), &spec["selector"])
    );
}

#[test]
fn the_settings_of_the_pod_reach_it() {
    let values = [
        REPOSITORY,
        "logLevel=info\\,image_pipeline=debug",
        "podAnnotations.team=north",
        "nodeSelector.disk=ssd",
        "tolerations[0].key=field",
        "tolerations[0].operator=Exists",
        "affinity.nodeAffinity.a=b",
    ];
    let template = rendered("Deployment", &values)["spec"]["template"].clone();
    let pod = &template["spec"];
    assert_eq!(template["metadata"]["annotations"], json!({ "team": "north" }));
    assert_eq!(pod["containers"][0]["env"][1]["value"], "info,image_pipeline=debug");
    assert_eq!(pod["nodeSelector"], json!({ "disk": "ssd" }));
    assert_eq!(pod["tolerations"], json!([{ "key": "field", "operator": "Exists" }]));
    assert_eq!(pod["affinity"], json!({ "nodeAffinity": { "a": "b" } }));
}

#[test]
fn the_resource_definition_is_installed_whole_and_outlives_the_release() {
    let mut crd = rendered("CustomResourceDefinition", &[REPOSITORY]);
    assert_eq!(crd["metadata"]["annotations"], json!({ "helm.sh/resource-policy": "keep" }));
    let metadata = crd["metadata"].as_object_mut().unwrap();
    metadata.remove("annotations");
    metadata.remove("labels");
    // By type, since 1000 and 1000.0 are one number there.
    let typed = |value: Value| serde_json::from_value::<CustomResourceDefinition>(value).unwrap();
    let file = std::fs::read_to_string(root("crds/imagepipelines.yaml")).unwrap();
    assert!(typed(crd) == typed(yaml(&file)), "helm renders another CRD than crds/imagepipelines.yaml");
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
            "Deployment"
        ]
    );
    let [account, _, role, binding, leader, leads, deployment] = &objects[..] else { panic!("{objects:?}") };
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

/// With a list of namespaces nothing is granted elsewhere, and the same is granted in each.
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

/// What would let whoever takes over the operator take over more.
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

fn kinds(objects: &[Value]) -> Vec<&str> {
    objects.iter().map(|object| object["kind"].as_str().unwrap()).collect()
}

/// A binding gives the role of its own namespace, or of the cluster, to the operator's account.
fn binds(binding: &Value, role: &Value, account: &Value) {
    assert_eq!(binding["kind"], format!("{}Binding", role["kind"].as_str().unwrap()));
    assert_eq!(binding["subjects"], json!([{ "kind": "ServiceAccount", "name": account, "namespace": "operators" }]));
    let named =
        json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": role["kind"], "name": role["metadata"]["name"] });
    assert_eq!(binding["roleRef"], named);
}
