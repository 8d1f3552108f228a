//! Every value takes effect in the right place: a table has at least one row for each. An unknown or invalid value
//! is refused by name.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{REPOSITORY, chart, refusal, render, run_helm, yaml};

/// The value, the settings for `--set`, the place where it shows (kind and JSON pointer), and the content there.
/// Without the value, the content differs.
type Effect = (&'static str, &'static [&'static str], &'static str, &'static str, &'static str);

const POD: &str = "/spec/template/spec";

const EFFECTS: &[Effect] = &[
    ("image.repository", &["image.repository=r.example/i"], "Deployment", "{c}/image", "r.example/i:0.1.0"),
    ("image.tag", &["image.tag=v2"], "Deployment", "{c}/image", "registry.example:5000/team/image-pipeline:v2"),
    ("image.digest", &[DIGEST], "Deployment", "{c}/image", PINNED),
    ("image.pullPolicy", &["image.pullPolicy=Never"], "Deployment", "{c}/imagePullPolicy", "Never"),
    ("image.pullPolicy", &["image.pullPolicy=Never"], "Pod", "/spec/containers/0/imagePullPolicy", "Never"),
    ("image.pullSecrets", &["image.pullSecrets={east}"], "Deployment", "{p}/imagePullSecrets", "[{name: east}]"),
    ("image.pullSecrets", &["image.pullSecrets={east}"], "Pod", "/spec/imagePullSecrets", "[{name: east}]"),
    ("replicas", &["replicas=3"], "Deployment", "/spec/replicas", "3"),
    ("namespaces", &["namespaces={north}"], "Deployment", "{c}/args/8", "--namespaces=north"),
    ("namespaces", &["namespaces={north}", MONITOR], "PodMonitor", "/spec/namespaceSelector", "{matchNames: [north]}"),
    ("namespaces", &["namespaces={north}", POLICY], "NetworkPolicy", "/spec/egress/2/to/0/namespaceSelector", NORTH),
    ("crd.enabled", &["crd.enabled=false"], "CustomResourceDefinition", "/kind", "null"),
    ("logLevel", &[LEVELS], "Deployment", "{c}/env/2/value", "info,image_pipeline=debug"),
    ("brokersPerNamespace", &["brokersPerNamespace=5"], "Deployment", "{c}/args/8", "--brokers-per-namespace=5"),
    ("rolloutsAtOnce", &["rolloutsAtOnce=5"], "Deployment", "{c}/args/9", "--rollouts-at-once=5"),
    ("admissionPolicy.enabled", &["admissionPolicy.enabled=false"], "ValidatingAdmissionPolicy", "/kind", "null"),
    (
        "consumers.serviceAccounts",
        &[LIMITLESS, ACCOUNTS],
        "ValidatingAdmissionPolicy",
        "/spec/variables/1/name",
        "account",
    ),
    (
        "consumers.priorityClasses",
        &[LIMITLESS, CLASSES],
        "ValidatingAdmissionPolicy",
        "/spec/variables/1/name",
        "class",
    ),
    ("allowLocalBrokers", &["allowLocalBrokers=true"], "Deployment", "{c}/args/8", "--allow-local-brokers"),
    ("resources.requests", &["resources.requests.cpu=2"], "Deployment", "{c}/resources/requests/cpu", "2"),
    ("resources.limits", &["resources.limits.memory=1Gi"], "Deployment", "{c}/resources/limits/memory", "1Gi"),
    ("podAnnotations", &["podAnnotations.a=b"], "Deployment", "/spec/template/metadata/annotations", "{a: b}"),
    ("podLabels", &["podLabels.team=north"], "Deployment", "/spec/template/metadata/labels/team", "north"),
    ("extraEnv", &["extraEnv[0].name=A,extraEnv[0].value=b"], "Deployment", "{c}/env/3", "{name: A, value: b}"),
    ("priorityClassName", &["priorityClassName=high"], "Deployment", "{p}/priorityClassName", "high"),
    ("nodeSelector", &["nodeSelector.disk=ssd"], "Deployment", "{p}/nodeSelector", "{disk: ssd}"),
    ("nodeSelector", &["nodeSelector.disk=ssd"], "Pod", "/spec/nodeSelector", "{disk: ssd}"),
    ("tolerations", &["tolerations[0].operator=Exists"], "Deployment", "{p}/tolerations", "[{operator: Exists}]"),
    ("tolerations", &["tolerations[0].operator=Exists"], "Pod", "/spec/tolerations", "[{operator: Exists}]"),
    ("affinity", &["affinity.nodeAffinity.a=b"], "Deployment", "{p}/affinity", "{nodeAffinity: {a: b}}"),
    ("serviceAccount.annotations", &["serviceAccount.annotations.a=b"], "ServiceAccount", ANNOTATIONS, "{a: b}"),
    ("service.annotations", &["service.annotations.a=b"], "Service", ANNOTATIONS, "{a: b}"),
    (
        "console.enabled",
        &["console.enabled=false", "namespaces={north}"],
        "Deployment",
        "{c}/args/7",
        "--namespaces=north",
    ),
    ("console.listen", &["console.listen=0.0.0.0:81"], "Deployment", "{c}/args/7", "--console=0.0.0.0:81"),
    ("networkPolicy.enabled", &[POLICY], "NetworkPolicy", "/spec/policyTypes", "[Ingress, Egress]"),
    ("networkPolicy.apiServerPorts", &[POLICY, "networkPolicy.apiServerPorts={7443}"], "NetworkPolicy", PORT, "7443"),
    ("networkPolicy.brokerPorts", &[POLICY, "networkPolicy.brokerPorts={5600}"], "NetworkPolicy", BROKER, "5600"),
    ("networkPolicy.ingressFrom", &[POLICY, FROM], "NetworkPolicy", "/spec/ingress/0/from/1", PEER),
    ("networkPolicy.extraEgress", &[POLICY, EGRESS], "NetworkPolicy", "/spec/egress/3", "{ports: [{port: 53}]}"),
    ("serviceMonitor.enabled", &[SERVICE], "ServiceMonitor", "/spec/endpoints/0/port", "http"),
    ("serviceMonitor.labels", &[SERVICE, "serviceMonitor.labels.a=b"], "ServiceMonitor", "/metadata/labels/a", "b"),
    ("serviceMonitor.interval", &[SERVICE, "serviceMonitor.interval=7s"], "ServiceMonitor", "{e}/interval", "7s"),
    ("podMonitor.enabled", &[MONITOR], "PodMonitor", "/spec/podMetricsEndpoints/0/port", "http"),
    ("podMonitor.labels", &[MONITOR, "podMonitor.labels.a=b"], "PodMonitor", "/metadata/labels/a", "b"),
    ("podMonitor.interval", &[MONITOR, "podMonitor.interval=7s"], "PodMonitor", "{m}/interval", "7s"),
    ("prometheusRule.enabled", &[RULE], "PrometheusRule", "/spec/groups/0/name", "image-pipeline"),
    ("prometheusRule.labels", &[RULE, "prometheusRule.labels.a=b"], "PrometheusRule", "/metadata/labels/a", "b"),
    ("dashboard.enabled", &[BOARD], "ConfigMap", "/metadata/labels/grafana_dashboard", "'1'"),
    ("dashboard.labels", &[BOARD, "dashboard.labels.a=b"], "ConfigMap", "/metadata/labels/a", "b"),
    ("dashboard.annotations", &[BOARD, "dashboard.annotations.grafana_folder=b"], "ConfigMap", ANNOTATIONS, FOLDER),
];

const LEVELS: &str = "logLevel=info\\,image_pipeline=debug";
const DIGEST: &str = "image.digest=sha256:00000000000000000000000000000000000000000000000000000000000000aa";
const PINNED: &str = "registry.example:5000/team/image-pipeline@sha256:\
                      00000000000000000000000000000000000000000000000000000000000000aa";
const NORTH: &str = "{matchExpressions: [{key: kubernetes.io/metadata.name, operator: In, values: [north]}]}";
const LIMITLESS: &str = "admissionPolicy.enabled=false";
const ACCOUNTS: &str = "consumers.serviceAccounts={tiles}";
const CLASSES: &str = "consumers.priorityClasses={batch}";
const ANNOTATIONS: &str = "/metadata/annotations";
const FOLDER: &str = "{grafana_folder: b}";
const POLICY: &str = "networkPolicy.enabled=true";
const PORT: &str = "/spec/egress/1/ports/0/port";
const BROKER: &str = "/spec/egress/1/ports/2/port";
const FROM: &str = "networkPolicy.ingressFrom[0].podSelector.matchLabels.a=b";
const PEER: &str = "{podSelector: {matchLabels: {a: b}}}";
const EGRESS: &str = "networkPolicy.extraEgress[0].ports[0].port=53";
const SERVICE: &str = "serviceMonitor.enabled=true";
const MONITOR: &str = "podMonitor.enabled=true";
const RULE: &str = "prometheusRule.enabled=true";
const BOARD: &str = "dashboard.enabled=true";

fn shown<'a>(objects: &'a [Value], kind: &str, pointer: &str) -> Option<&'a Value> {
    let pointer = pointer
        .replace("{c}", &format!("{POD}/containers/0"))
        .replace("{p}", POD)
        .replace("{e}", "/spec/endpoints/0")
        .replace("{m}", "/spec/podMetricsEndpoints/0");
    objects.iter().filter(|object| object["kind"] == kind).find_map(|object| object.pointer(&pointer))
}

#[test]
fn every_value_takes_effect() {
    let mut without = BTreeMap::new();
    for &(value, set, kind, pointer, expected) in EFFECTS {
        let expected = yaml(expected);
        let others: Vec<_> = set.iter().copied().filter(|set| !set.starts_with(value)).collect();
        let with: Vec<_> = [REPOSITORY].into_iter().chain(set.iter().copied()).collect();
        let seen = |objects: &[Value]| shown(objects, kind, pointer).cloned().unwrap_or_default();
        assert_eq!(seen(&render(&with)), expected, "{set:?}: {kind} {pointer}");
        let before = without.entry(others.clone()).or_insert_with(|| render(&[&[REPOSITORY], &others[..]].concat()));
        assert_ne!(seen(before), expected, "{kind} {pointer} without {value}");
    }
}

#[test]
fn every_value_has_a_row() {
    let rows: BTreeSet<_> = EFFECTS.iter().map(|effect| effect.0.to_owned()).collect();
    let mut values = BTreeSet::new();
    for (name, value) in yaml(&chart("values.yaml")).as_object().unwrap() {
        match value.as_object() {
            Some(parts) if !parts.is_empty() => values.extend(parts.keys().map(|part| format!("{name}.{part}"))),
            _ => drop(values.insert(name.clone())),
        }
    }
    assert_eq!(rows, values);
}

#[test]
fn lint_is_clean() {
    let all =
        [REPOSITORY, "replicas=2", "namespaces={north}", POLICY, SERVICE, MONITOR, RULE, BOARD, ACCOUNTS, CLASSES];
    for values in [&[][..], &[REPOSITORY], &all] {
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
        ("podLabels.app\\.kubernetes\\.io/name=mine", "/podLabels/app.kubernetes.io~1name"),
        ("podLabels.team=no spaces", "team"),
        ("extraEnv[0].nam=A", "nam"),
        ("extraEnv[0].name=RUST_LOG", "extraEnv"),
        ("extraEnv[0].name=A,extraEnv[0].valueFrom.secret=s", "secret"),
        ("priorityClassName=Very High", "priorityClassName"),
        ("console.listen=localhost:8081", "console"),
        ("serviceAccount.name=other", "name"),
        ("networkPolicy.enable=true", "enable"),
        ("networkPolicy.brokerPorts={0}", "brokerPorts"),
        ("networkPolicy.ingressFrom[0].namespace=monitoring", "namespace"),
        ("networkPolicy.extraEgress[0].port=1", "port"),
        ("serviceMonitor.interval=soon", "interval"),
        ("podMonitor.label=a", "label"),
        ("prometheusRule.rules=a", "rules"),
        ("admissionPolicy.enable=false", "enable"),
        ("admissionPolicy.enabled=no", "enabled"),
        ("consumers.serviceAccount={a}", "serviceAccount"),
        ("consumers.serviceAccounts={No Name}", "serviceAccounts"),
        ("consumers.priorityClasses={batch,batch}", "priorityClasses"),
        ("networkPolicy.enabled=yes", "enabled"),
        ("serviceMonitor.enabled=yes", "enabled"),
        ("podMonitor.enabled=yes", "enabled"),
        ("prometheusRule.enabled=yes", "enabled"),
        ("dashboard.enabled=yes", "enabled"),
    ];
    for (value, named) in cases {
        let said = refusal(&[REPOSITORY, value]);
        assert!(
            said.contains("don't meet the specifications of the schema") && said.contains(named),
            "{value}: {said}"
        );
    }
}
