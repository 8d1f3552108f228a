//! The operator's pod: command line, privileges, and the spread of several operators.

use serde_json::{Value, json};

use super::{REPOSITORY, arguments, container, kinds, render, rendered};

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
    assert_eq!((args.brokers_per_namespace, args.rollouts_at_once), (20, 10));
    assert_eq!(container["ports"], json!([{ "name": "http", "containerPort": args.listen.port() }]));
    for probe in ["livenessProbe", "readinessProbe"] {
        assert_eq!(container[probe]["httpGet"]["port"], "http");
    }
    let pod_name = json!({ "name": "POD_NAME", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } });
    let mapped = json!({ "name": "MALLOC_MMAP_THRESHOLD_", "value": "131072" });
    assert_eq!(container["env"], json!([pod_name, mapped, { "name": "RUST_LOG", "value": "info" }]));
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
