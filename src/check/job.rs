//! `check NAME`: the checks in a pod like the pipeline's consumer pods, with their Secrets, ServiceAccount, network
//! and limits. A Job in the pipeline's namespace runs the pod. The user needs no right to read Secrets.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{EnvVar, Pod, PodSpec, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, ListParams, LogParams, PostParams};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, ResourceExt as _};

use super::cluster::{ClusterError, Namespace};
use super::preflight::Finding;
use crate::api::{ImagePipeline, names};
use crate::controller::ConsumerImage;
use crate::controller::build;

/// Time for the pod to be scheduled, to start and to end.
const WITHIN: Duration = Duration::from_secs(120);

/// How long the deletion of the Job and its pod, which has ended, is awaited.
const GONE_WITHIN: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum JobError {
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error(
        "there is no Deployment {0:?} to take the consumers' image from: does an operator serve the namespace? (`kubectl \
         describe imgp` shows its conditions)"
    )]
    NoImage(String),
    /// `found`: what Kubernetes reports of the pod.
    #[error(
        "the pod of Job {job:?} did not end within {} s ({found}); it is deleted. `kubectl get events` says more",
        WITHIN.as_secs()
    )]
    Unfinished { job: String, found: String },
    #[error("the pod of Job {job:?} printed no results, but {said:?}; its image may be of an earlier version")]
    NoResults { job: String, said: String },
}

/// Runs the checks of a pipeline in a Job, and deletes it.
///
/// # Errors
/// The Job can't be created or read, or its pod gave no results.
pub async fn run(namespace: &Namespace, pipeline: &ImagePipeline) -> Result<Vec<Finding>, JobError> {
    let jobs: Api<Job> = namespace.api();
    let job = job(pipeline, &image(namespace, pipeline).await?);
    let created = jobs.create(&PostParams::default(), &job).await;
    let created = created.map_err(|error| namespace.failed("create", "Jobs", error))?;
    let (name, uid) = (created.name_any(), created.uid().unwrap_or_default());
    let log = log(namespace, &name).await;
    let deleted = jobs.delete(&name, &DeleteParams::foreground()).await;
    let findings = findings(&name, &log?)?;
    deleted.map_err(|error| namespace.failed("delete", "Jobs", error))?;
    // Kubernetes finishes the deletion even if this process does not wait for it.
    let gone = await_condition(jobs, &name, conditions::is_deleted(&uid));
    drop(tokio::time::timeout(GONE_WITHIN, gone).await);
    Ok(findings)
}

/// The image of the consumer pods, as the operator set it.
async fn image(namespace: &Namespace, pipeline: &ImagePipeline) -> Result<ConsumerImage, JobError> {
    let name = names::deployment(&pipeline.name_any());
    let deployments: Api<Deployment> = namespace.api();
    let pods = match deployments.get(&name).await {
        Ok(found) => found.spec.and_then(|spec| spec.template.spec),
        Err(kube::Error::Api(status)) if status.code == 404 => None,
        Err(error) => return Err(namespace.failed("read", "Deployments", error).into()),
    };
    pods.as_ref().and_then(build::image_of).ok_or(JobError::NoImage(name))
}

/// The Job of a pipeline: one pod, tried once, deleted ten minutes after its end at the latest. The pod has the labels
/// of consumers, for network policies; the operator counts only pods that a ReplicaSet owns.
fn job(pipeline: &ImagePipeline, image: &ConsumerImage) -> Job {
    let PodTemplateSpec { metadata, spec } = build::pods(pipeline, image);
    let (meta, spec) = (metadata.unwrap_or_default(), spec.unwrap_or_default());
    Job {
        metadata: ObjectMeta { generate_name: Some(format!("{}-check-", pipeline.name_any())), ..meta.clone() },
        spec: Some(JobSpec {
            active_deadline_seconds: Some(i64::try_from(WITHIN.as_secs()).unwrap_or(i64::MAX)),
            backoff_limit: Some(0),
            ttl_seconds_after_finished: Some(600),
            template: PodTemplateSpec { metadata: Some(meta), spec: Some(pod(spec)) },
            ..JobSpec::default()
        }),
        status: None,
    }
}

/// A consumer's pod that checks instead: `consumer` becomes `check`, with the same assignment and Secrets.
fn pod(mut consumer: PodSpec) -> PodSpec {
    for container in &mut consumer.containers {
        let kept = |argument: &&String| argument.starts_with("--assignment=") || argument.starts_with("--secrets=");
        let arguments = container.args.iter().flatten().filter(kept).cloned();
        container.args = Some(std::iter::once("check".to_owned()).chain(arguments).collect());
        (container.ports, container.liveness_probe, container.readiness_probe) = (None, None, None);
        // The log holds the results, and nothing else.
        let quiet = EnvVar { name: "RUST_LOG".to_owned(), value: Some("off".to_owned()), ..EnvVar::default() };
        container.env.get_or_insert_default().push(quiet);
    }
    PodSpec {
        restart_policy: Some("Never".to_owned()),
        topology_spread_constraints: None,
        termination_grace_period_seconds: Some(5),
        ..consumer
    }
}

/// What the Job's pod printed.
async fn log(namespace: &Namespace, job: &str) -> Result<String, JobError> {
    let pods: Api<Pod> = namespace.api();
    let ended = await_condition(namespace.api(), job, has_ended);
    let ended = tokio::time::timeout(WITHIN, ended).await.is_ok_and(|ended| ended.is_ok());
    let of_job = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={job}"));
    let found = pods.list(&of_job).await.map_err(|error| namespace.failed("list", "pods", error))?;
    let pod = found.items.first();
    match pod.map(|pod| pod.name_any()) {
        Some(pod) if ended => {
            let log = pods.logs(&pod, &LogParams::default()).await;
            Ok(log.map_err(|error| namespace.failed("read the log of", "pods", error))?)
        }
        _ => {
            Err(JobError::Unfinished { job: job.to_owned(), found: pod.map_or_else(|| "no pod".to_owned(), waits_for) })
        }
    }
}

fn has_ended(job: Option<&Job>) -> bool {
    let conditions = job.and_then(|job| job.status.as_ref()?.conditions.as_ref());
    let ends = |kind: &str| ["Complete", "Failed"].contains(&kind);
    conditions.into_iter().flatten().any(|condition| ends(&condition.type_) && condition.status == "True")
}

/// Why a pod has not run, as Kubernetes reports it.
fn waits_for(pod: &Pod) -> String {
    let Some(status) = &pod.status else { return "no status".to_owned() };
    let waiting = status.container_statuses.iter().flatten().find_map(|container| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        Some(format!("{}: {}", waiting.reason.as_deref()?, waiting.message.as_deref().unwrap_or_default()))
    });
    let unscheduled = status.conditions.iter().flatten().find(|condition| condition.status == "False");
    let condition = || Some(format!("{}: {}", unscheduled?.type_, unscheduled?.message.as_deref()?));
    waiting.or_else(condition).unwrap_or_else(|| status.phase.clone().unwrap_or_default())
}

/// Reads the results that `check --assignment` printed as JSON.
fn findings(job: &str, log: &str) -> Result<Vec<Finding>, JobError> {
    serde_json::from_str(log).map_err(|_| {
        let said = log.chars().take(500).collect();
        JobError::NoResults { job: job.to_owned(), said }
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_pod_is_a_consumer_that_checks() {
        let spec = json!({
            "source": { "rabbitmq": { "queue": "tiles", "rabbitmqClusterReference": { "name": "rabbit" } } },
            "destination": { "s3": { "bucket": "tiles", "credentialsSecret": { "name": "s3" } } },
            "consumer": { "serviceAccountName": "uploader" },
        });
        let pipeline = ImagePipeline::new("tiles", serde_json::from_value(spec).unwrap());
        let pull_secrets = vec!["registry".to_owned()];
        let image = ConsumerImage { image: "image:1".to_owned(), pull_policy: "Always".to_owned(), pull_secrets };
        let job = serde_json::to_value(job(&pipeline, &image)).unwrap();
        let template = &job["spec"]["template"];
        assert_eq!(template["metadata"]["labels"], json!(names::labels("tiles")));
        let (pod, container) = (&template["spec"], &template["spec"]["containers"][0]);
        assert_eq!((&pod["serviceAccountName"], &pod["restartPolicy"]), (&json!("uploader"), &json!("Never")));
        assert_eq!(pod["volumes"].as_array().unwrap().len(), 2);
        let arguments: Vec<String> = serde_json::from_value(container["args"].clone()).unwrap();
        assert_eq!((arguments.len(), arguments[0].as_str()), (3, "check"));
        assert!(arguments[1].starts_with("--assignment={\"source\"") && arguments[2].starts_with("--secrets=/etc/"));
        assert_eq!((&container["image"], &container["livenessProbe"]), (&json!("image:1"), &Value::Null));
        assert_eq!(build::image_of(&serde_json::from_value(pod.clone()).unwrap()).unwrap().image, "image:1");
        assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    }

    #[test]
    fn what_a_pod_waits_for_is_named() {
        let shown = |status: Value| waits_for(&serde_json::from_value(json!({ "status": status })).unwrap());
        let waiting = json!({ "reason": "ErrImagePull", "message": "not found" });
        let pulled = json!({ "containerStatuses": [{ "name": "c", "image": "", "imageID": "", "ready": false,
            "restartCount": 0, "state": { "waiting": waiting } }] });
        assert_eq!(shown(pulled), "ErrImagePull: not found");
        let unscheduled = json!({ "type": "PodScheduled", "status": "False", "message": "no node" });
        assert_eq!(shown(json!({ "phase": "Pending", "conditions": [unscheduled] })), "PodScheduled: no node");
        assert_eq!(shown(json!({ "phase": "Running" })), "Running");
    }

    #[test]
    fn results_are_read_and_anything_else_is_shown() {
        let line = r#"[{"check": "queue", "passed": false, "reason": "QueueNotFound", "message": "m"}]"#;
        assert_eq!(findings("j", line).unwrap().len(), 1);
        let said = findings("j", "error: unexpected argument '--assignment'").unwrap_err().to_string();
        assert!(said.contains("unexpected argument"), "{said}");
    }
}
