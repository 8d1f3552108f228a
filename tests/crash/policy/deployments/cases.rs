//! The places in which a Deployment of an attacker differs, and the rule that refuses it.

pub struct Case {
    /// JSON pointers with their values as JSON; `null` removes.
    pub changes: &'static [(&'static str, &'static str)],
    /// Part of the message.
    pub rule: &'static str,
}

const fn case(changes: &'static [(&'static str, &'static str)], rule: &'static str) -> Case {
    Case { changes, rule }
}

pub const OWNER_RULES: [&str; 2] = [
    "must be the ImagePipeline whose consumers it runs",
    "the controller owner of an existing Deployment must not change",
];

/// Owners that are not the ImagePipeline of the Deployment.
pub const OWNERS: &[&[(&str, &str)]] = &[
    &[("/metadata/ownerReferences", "null")],
    &[("/metadata/ownerReferences/0/controller", "false")],
    &[("/metadata/ownerReferences/0/kind", r#""ConfigMap""#)],
    &[("/metadata/ownerReferences/0/apiVersion", r#""greench.dev.example/v1""#)],
    &[("/metadata/ownerReferences/0/name", r#""other""#)],
];

const IMAGE: &str = "the image must be";
const COMMAND: &str = "the command line must be";
const PROBES: &str = "the probes must be HTTP requests";
const VARIABLES: &str = "no environment variable except";
const CONTAINERS: &str = "no container except consumer";
const VOLUMES: &str = "the volumes must be Secrets";
const MOUNTS: &str = "the volumes must be mounted below";
const TOKEN: &str = "automountServiceAccountToken must be false";
const HOST: &str = "the pods must not set hostIPC";
const PODS: &str = "the securityContext of the pods";
const CONTAINER: &str = "the securityContext of the container";

const ACCOUNT: &str = "serviceAccountName must be one of tiles, other (chart value consumers.serviceAccounts)";
const CLASS: &str = "priorityClassName must be one of batch (chart value consumers.priorityClasses)";

pub const CASES: &[Case] = &[
    case(&[("/spec/template/spec/containers/0/image", r#""attacker:1""#)], IMAGE),
    case(&[("/spec/template/metadata/labels/app", r#""api""#)], "no labels except"),
    case(&[("/spec/template/metadata/annotations/role", r#""admin""#)], "no annotation except"),
    case(&[("/spec/template/spec/containers/-", r#"{"name": "other", "image": "image:1"}"#)], CONTAINERS),
    case(&[("/spec/template/spec/initContainers", r#"[{"name": "other", "image": "image:1"}]"#)], CONTAINERS),
    case(&[("/spec/template/spec/containers/0/command", r#"["image-pipeline"]"#)], COMMAND),
    case(&[("/spec/template/spec/containers/0/args", r#"["publish"]"#)], COMMAND),
    case(&[("/spec/template/spec/containers/0/args/-", r#""--listen=[::]:80""#)], COMMAND),
    case(&[("/spec/template/spec/containers/0/args/0", r#""controller""#)], COMMAND),
    case(&[("/spec/template/spec/containers/0/args/1", r#""--pipeline-namespace=other""#)], COMMAND),
    case(&[("/spec/template/spec/containers/0/args/2", r#""--pipeline-name=other""#)], COMMAND),
    case(&[("/spec/template/spec/containers/0/args/3", r#""--assignments={}""#)], COMMAND),
    case(&[("/spec/template/spec/containers/0/args/4", r#""--secrets=/""#)], COMMAND),
    case(&[("/spec/template/spec/containers/0/args/5", r#""--grace-period-seconds=1 --help""#)], COMMAND),
    case(&[("/spec/template/spec/containers/0/args/6", r#""--listen=[::]:80""#)], COMMAND),
    case(&[("/spec/template/spec/containers/0/lifecycle", r#"{"preStop": {"exec": {"command": ["sh"]}}}"#)], PROBES),
    case(&[("/spec/template/spec/containers/0/livenessProbe", r#"{"exec": {"command": ["sh"]}}"#)], PROBES),
    case(&[("/spec/template/spec/containers/0/startupProbe", r#"{"exec": {"command": ["sh"]}}"#)], PROBES),
    case(&[("/spec/template/spec/containers/0/readinessProbe/httpGet/host", r#""10.0.0.1""#)], PROBES),
    case(
        &[("/spec/template/spec/containers/0/env/-", r#"{"name": "HTTPS_PROXY", "value": "10.0.0.1:80"}"#)],
        VARIABLES,
    ),
    case(&[("/spec/template/spec/containers/0/env/0/value", r#""9""#)], VARIABLES),
    case(
        &[(
            "/spec/template/spec/containers/0/env/-",
            r#"{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "other", "key": "key"}}}"#,
        )],
        VARIABLES,
    ),
    case(&[("/spec/template/spec/containers/0/envFrom", r#"[{"secretRef": {"name": "other"}}]"#)], VARIABLES),
    case(&[("/spec/template/spec/volumes/-", r#"{"name": "host", "hostPath": {"path": "/", "type": ""}}"#)], VOLUMES),
    case(
        &[(
            "/spec/template/spec/volumes/-",
            r#"{"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}"#,
        )],
        VOLUMES,
    ),
    case(&[("/spec/template/spec/containers/0/volumeMounts/0/mountPath", r#""/usr/local/bin""#)], MOUNTS),
    case(&[("/spec/template/spec/automountServiceAccountToken", "true")], TOKEN),
    case(&[("/spec/template/spec/automountServiceAccountToken", "null")], TOKEN),
    case(&[("/spec/template/spec/hostIPC", "true")], HOST),
    case(&[("/spec/template/spec/hostNetwork", "true")], HOST),
    case(&[("/spec/template/spec/hostPID", "true")], HOST),
    case(&[("/spec/template/spec/nodeName", r#""control-plane""#)], HOST),
    case(&[("/spec/template/spec/runtimeClassName", r#""other""#)], HOST),
    case(&[("/spec/template/spec/shareProcessNamespace", "true")], HOST),
    case(&[("/spec/template/spec/containers/0/ports/0/hostPort", "8080")], HOST),
    case(&[("/spec/template/spec/securityContext", "null")], PODS),
    case(&[("/spec/template/spec/securityContext/runAsNonRoot", "false")], PODS),
    case(&[("/spec/template/spec/securityContext/runAsUser", "0")], PODS),
    case(&[("/spec/template/spec/securityContext/seccompProfile/type", r#""Unconfined""#)], PODS),
    case(&[("/spec/template/spec/securityContext/supplementalGroups", "[0]")], PODS),
    case(&[("/spec/template/spec/containers/0/securityContext", "null")], CONTAINER),
    case(
        &[
            ("/spec/template/spec/containers/0/securityContext/allowPrivilegeEscalation", "true"),
            ("/spec/template/spec/containers/0/securityContext/privileged", "true"),
        ],
        CONTAINER,
    ),
    case(&[("/spec/template/spec/containers/0/securityContext/allowPrivilegeEscalation", "true")], CONTAINER),
    case(&[("/spec/template/spec/containers/0/securityContext/readOnlyRootFilesystem", "false")], CONTAINER),
    case(&[("/spec/template/spec/containers/0/securityContext/runAsUser", "0")], CONTAINER),
    case(&[("/spec/template/spec/containers/0/securityContext/capabilities/add", r#"["NET_ADMIN"]"#)], CONTAINER),
    case(
        &[("/spec/template/spec/containers/0/securityContext/seccompProfile", r#"{"type": "Unconfined"}"#)],
        CONTAINER,
    ),
    case(&[("/spec/template/spec/serviceAccountName", r#""admin""#)], ACCOUNT),
    case(
        &[
            ("/spec/template/spec/serviceAccountName", "null"),
            // The older name of the field.
            ("/spec/template/spec/serviceAccount", r#""admin""#),
        ],
        ACCOUNT,
    ),
    case(&[("/spec/template/spec/priorityClassName", r#""system-node-critical""#)], CLASS),
];
