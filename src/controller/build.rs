//! The Deployment of a pipeline: a pure function of the resource, the size and the operator's settings. Text of the
//! spec reaches the container's command line only as the value of an argument (`build/tests.rs`).

use std::collections::BTreeMap;
use std::path::PathBuf;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, EnvVar, HTTPGetAction, LocalObjectReference, PodSecurityContext, PodSpec,
    PodTemplateSpec, Probe, ResourceRequirements, SeccompProfile, SecretVolumeSource, SecurityContext,
    TopologySpreadConstraint, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::Resource;

use crate::api::ImagePipeline;
use crate::api::assignment::Assignment;
use crate::api::destination::AwsIdentity;
use crate::api::names::{self, SecretRole};
use crate::api::pods::Resources;
use crate::api::quantities;
use crate::consumer;

mod template;

pub use template::{Desired, Template};

/// User and group id of the pods, the same as the image's user.
const USER: i64 = 65532;

/// glibc malloc settings of consumers (mallopt(3)), also for consumers outside Kubernetes. By default glibc retains up
/// to twice the largest allocation in every per-thread arena: with images of mixed sizes a consumer grew beyond
/// 140 MiB. Two arenas that retain 8 MiB each, and mmap for allocations over 4 MiB, keep it below 50 MiB for 2 % more
/// CPU.
pub const MEMORY: [(&str, &str); 3] =
    [("MALLOC_ARENA_MAX", "2"), ("MALLOC_MMAP_THRESHOLD_", "4194304"), ("MALLOC_TRIM_THRESHOLD_", "8388608")];

/// The image of the consumer pods; an option of the operator, not a field of the spec.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConsumerImage {
    pub image: String,
    /// `Always`, `IfNotPresent` or `Never`.
    pub pull_policy: String,
    /// Names of Secrets, which must exist in the pipeline's namespace.
    pub pull_secrets: Vec<String>,
}

pub fn deployment(pipeline: &ImagePipeline, replicas: i32, template: &Template) -> Deployment {
    let name = pipeline.metadata.name.clone().unwrap_or_default();
    let labels = names::labels(&name);
    let digest: BTreeMap<_, _> = [(names::SPEC_ANNOTATION.to_owned(), template.digest().to_owned())].into();
    let mut pods = pods(pipeline, template.image());
    // On the pods too, to tell pods of the current template from pods of a previous template.
    pods.metadata.get_or_insert_default().annotations = Some(digest.clone());
    Deployment {
        metadata: ObjectMeta {
            name: Some(names::deployment(&name)),
            namespace: pipeline.metadata.namespace.clone(),
            labels: Some(labels.clone()),
            annotations: Some(digest),
            owner_references: pipeline.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(DeploymentSpec {
            replicas: Some(replicas),
            revision_history_limit: Some(2),
            selector: LabelSelector { match_labels: Some(labels), ..LabelSelector::default() },
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(IntOrString::String("25%".to_owned())),
                    max_unavailable: Some(IntOrString::Int(0)),
                }),
            }),
            template: pods,
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

/// The template of the consumer pods, without the annotation that has its digest.
pub fn pods(pipeline: &ImagePipeline, image: &ConsumerImage) -> PodTemplateSpec {
    let labels = names::labels(pipeline.metadata.name.as_deref().unwrap_or_default());
    PodTemplateSpec {
        metadata: Some(ObjectMeta { labels: Some(labels), ..ObjectMeta::default() }),
        spec: Some(pod(pipeline, image)),
    }
}

/// The container arguments for a consumer.
pub fn command_line(args: &consumer::Args) -> Vec<String> {
    let consumer::Args { pipeline_namespace, pipeline_name, assignment, secrets, grace_period_seconds, listen } = args;
    vec![
        "consumer".to_owned(),
        format!("--pipeline-namespace={pipeline_namespace}"),
        format!("--pipeline-name={pipeline_name}"),
        // Strings, numbers and lists always serialize.
        format!("--assignment={}", serde_json::to_string(assignment).unwrap_or_default()),
        format!("--secrets={}", secrets.display()),
        format!("--grace-period-seconds={grace_period_seconds}"),
        format!("--listen={listen}"),
    ]
}

fn consumer_args(pipeline: &ImagePipeline) -> consumer::Args {
    consumer::Args {
        pipeline_namespace: pipeline.metadata.namespace.clone().unwrap_or_default(),
        pipeline_name: pipeline.metadata.name.clone().unwrap_or_default(),
        assignment: Assignment::from(&pipeline.spec),
        secrets: PathBuf::from(names::SECRETS_MOUNT),
        grace_period_seconds: pipeline.spec.consumer.termination_grace_period_seconds,
        listen: std::net::SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, names::HTTP_PORT)),
    }
}

fn pod(pipeline: &ImagePipeline, image: &ConsumerImage) -> PodSpec {
    let consumer = &pipeline.spec.consumer;
    let secrets = names::secrets(&pipeline.spec.source, &pipeline.spec.destination);
    let volumes = secrets.iter().map(|(role, secret)| secret_volume(*role, secret));
    let pull_secrets = image.pull_secrets.iter().map(|name| LocalObjectReference { name: name.clone() });
    PodSpec {
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        image_pull_secrets: Some(pull_secrets.collect::<Vec<_>>()).filter(|secrets| !secrets.is_empty()),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            fs_group: Some(USER),
            seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), ..SeccompProfile::default() }),
            ..PodSecurityContext::default()
        }),
        service_account_name: Some(service_account(&consumer.service_account_name)),
        termination_grace_period_seconds: Some(i64::from(consumer.termination_grace_period_seconds)),
        containers: vec![container(pipeline, image, secrets.iter().map(|(role, _)| *role))],
        volumes: Some(volumes.collect()),
        node_selector: Some(consumer.node_selector.clone()).filter(|labels| !labels.is_empty()),
        tolerations: Some(consumer.tolerations.clone()).filter(|taints| !taints.is_empty()),
        topology_spread_constraints: Some(spread(pipeline)).filter(|constraints| !constraints.is_empty()),
        priority_class_name: Some(consumer.priority_class_name.clone()).filter(|class| !class.is_empty()),
        ..PodSpec::default()
    }
}

/// The image of consumer pods, with what a pull of it needs.
pub fn image_of(pods: &PodSpec) -> Option<ConsumerImage> {
    let consumer = pods.containers.iter().find(|container| container.name == names::CONTAINER)?;
    Some(ConsumerImage {
        image: consumer.image.clone()?,
        pull_policy: consumer.image_pull_policy.clone()?,
        pull_secrets: pods.image_pull_secrets.iter().flatten().map(|secret| secret.name.clone()).collect(),
    })
}

/// A constraint without a label selector matches no pod, so it gets the labels of this pipeline's pods.
fn spread(pipeline: &ImagePipeline) -> Vec<TopologySpreadConstraint> {
    let labels = names::labels(pipeline.metadata.name.as_deref().unwrap_or_default());
    let ours = LabelSelector { match_labels: Some(labels), ..LabelSelector::default() };
    let of = |given: &TopologySpreadConstraint| TopologySpreadConstraint {
        label_selector: given.label_selector.clone().or_else(|| Some(ours.clone())),
        ..given.clone()
    };
    pipeline.spec.consumer.topology_spread_constraints.iter().map(of).collect()
}

/// Always set: the API server also keeps the name in the older field `serviceAccount`, and an apply without a name
/// would restore it from there.
fn service_account(given: &str) -> String {
    if given.is_empty() { "default" } else { given }.to_owned()
}

fn container(pipeline: &ImagePipeline, image: &ConsumerImage, secrets: impl Iterator<Item = SecretRole>) -> Container {
    let secret_mount = |role: SecretRole| VolumeMount {
        name: role.as_str().to_owned(),
        mount_path: format!("{}/{}", names::SECRETS_MOUNT, role.as_str()),
        read_only: Some(true),
        ..VolumeMount::default()
    };
    Container {
        name: names::CONTAINER.to_owned(),
        image: Some(image.image.clone()),
        image_pull_policy: Some(image.pull_policy.clone()),
        env: Some(environment(pipeline.spec.destination.s3.identity)),
        args: Some(command_line(&consumer_args(pipeline)).iter().map(|argument| literal(argument)).collect()),
        ports: Some(vec![ContainerPort {
            name: Some("http".to_owned()),
            container_port: i32::from(names::HTTP_PORT),
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        }]),
        resources: Some(resources(&pipeline.spec.consumer.resources)),
        readiness_probe: Some(probe("/readyz", 2, 2)),
        liveness_probe: Some(probe("/livez", 10, 6)),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
            read_only_root_filesystem: Some(true),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(secrets.map(secret_mount).collect()),
        ..Container::default()
    }
}

/// Without the variable, the AWS SDK would ask the node for its role's credentials.
fn environment(identity: AwsIdentity) -> Vec<EnvVar> {
    let no_instance = (identity != AwsIdentity::Instance).then_some(("AWS_EC2_METADATA_DISABLED", "true"));
    MEMORY.into_iter().chain(no_instance).map(variable).collect()
}

fn variable((name, value): (&str, &str)) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(value.to_owned()), ..EnvVar::default() }
}

/// Escapes an argument: the kubelet replaces `$(NAME)` by a variable's value, and every `$$` by `$`.
fn literal(argument: &str) -> String {
    argument.replace('$', "$$")
}

/// An optional volume: a missing Secret does not keep the pod from starting and is mounted once it exists. Until then
/// the consumer reports what is missing.
fn secret_volume(role: SecretRole, secret: &str) -> Volume {
    let source = SecretVolumeSource {
        secret_name: Some(secret.to_owned()),
        optional: Some(true),
        default_mode: Some(0o440),
        ..SecretVolumeSource::default()
    };
    Volume { name: role.as_str().to_owned(), secret: Some(source), ..Volume::default() }
}

fn probe(path: &str, period_seconds: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String("http".to_owned()),
            scheme: Some("HTTP".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(2),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

fn resources(resources: &Resources) -> ResourceRequirements {
    let given = |given: &BTreeMap<String, quantities::Quantity>| {
        Some(given.iter().map(|(name, value)| (name.clone(), Quantity(value.to_string()))).collect())
    };
    ResourceRequirements { requests: given(&resources.requests), limits: given(&resources.limits), claims: None }
}

#[cfg(test)]
mod tests;
