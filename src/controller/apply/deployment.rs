//! Writes the Deployment of a pipeline, if it differs from the live one and belongs to the pipeline.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Resource as _, ResourceExt as _};
use serde_json::{Value, json};

use super::{Applies, Writer};
use crate::api::{ImagePipeline, names};
use crate::controller::build::Desired;
use crate::controller::cause::Cause;
use crate::controller::live::LiveDeployment;
use crate::controller::requests;
use crate::reason::Reason;

/// The last apply of a Deployment, and its result.
pub(super) struct LastApply {
    pub desired: Desired,
    pub uid: Option<String>,
    pub generation: Option<i64>,
    /// The size, until the watch has delivered it.
    pub unseen: Option<i32>,
}

impl Writer {
    /// Writes what is desired, unless the live Deployment already has it.
    pub(super) async fn write_deployment(
        &self,
        pipeline: &ImagePipeline,
        desired: &Desired,
        live: Option<&LiveDeployment>,
        memory: &mut Applies,
    ) -> Result<(), Cause> {
        let name = names::deployment(&pipeline.name_any());
        if live.is_some_and(|live| !owned_by(live, pipeline)) {
            return Err(taken(&name));
        }
        let refused = |error: String| refused(&name, &error);
        if live.is_some_and(|live| memory.is_as_before(desired, live)) {
            return Ok(());
        }
        let deployment = desired.deployment(pipeline);
        let asked = match &deployment {
            Some(deployment) => serde_json::to_value(deployment).map_err(|error| refused(error.to_string()))?,
            None => json!({ "spec": { "replicas": desired.replicas } }),
        };
        let desired = desired.clone();
        if let Some(live) = live.filter(|live| contains(&live.json(), &asked)) {
            let ObjectMeta { uid, generation, .. } = live.meta().clone();
            memory.deployment = Some(LastApply { desired, uid, generation, unseen: None });
            return Ok(());
        }
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), &pipeline.namespace().unwrap_or_default());
        let written = match &deployment {
            Some(deployment) => self.apply_whole(&api, &name, pipeline, deployment, live.is_some()).await?,
            // An apply would take back all fields that it leaves out.
            None => {
                let field_manager = Some(names::FIELD_MANAGER.to_owned());
                let parameters = PatchParams { field_manager, ..PatchParams::default() };
                let written = self.send(api.patch(&name, &parameters, &Patch::Merge(asked))).await;
                written.map_err(|error| refused(api_message(error)))?
            }
        };
        let ObjectMeta { uid, generation, .. } = written.metadata;
        let unseen = Some(desired.replicas);
        memory.deployment = Some(LastApply { desired, uid, generation, unseen });
        Ok(())
    }

    /// A Deployment without our labels is not watched, so it is not `seen`: the first apply is not forced, and a
    /// conflict shows that the Deployment exists.
    async fn apply_whole(
        &self,
        api: &Api<Deployment>,
        name: &str,
        pipeline: &ImagePipeline,
        desired: &Deployment,
        seen: bool,
    ) -> Result<Deployment, Cause> {
        let refused = |error: kube::Error| refused(name, &api_message(error));
        let patch = Patch::Apply(desired);
        let apply = async |force| {
            let parameters = PatchParams { force, ..PatchParams::apply(names::FIELD_MANAGER) };
            self.send(api.patch(name, &parameters, &patch)).await
        };
        let written = match apply(seen).await {
            Err(error) if is_of_others(&error) => {
                let named = ListParams::default().fields(&format!("metadata.name={name}"));
                let found = requests::read(api.list(&named)).await.map_err(refused)?;
                if !found.iter().any(|found| found.name_any() == name && owned_by(found, pipeline)) {
                    return Err(taken(name));
                }
                apply(true).await
            }
            written => written,
        };
        written.map_err(refused)
    }
}

fn refused(deployment: &str, error: &str) -> Cause {
    Cause::new(Reason::DeploymentRefused, format!("Deployment {deployment:?} can't be written: {error}"))
}

fn taken(deployment: &str) -> Cause {
    let message = format!(
        "Deployment {deployment:?} exists and does not belong to this ImagePipeline; rename the ImagePipeline, or \
         delete the Deployment"
    );
    Cause::new(Reason::NameTaken, message)
}

fn owned_by(deployment: &impl kube::Resource, pipeline: &ImagePipeline) -> bool {
    let uid = pipeline.metadata.uid.as_deref().unwrap_or_default();
    deployment.owner_references().iter().any(|owner| owner.controller == Some(true) && owner.uid == uid)
}

/// Whether another field manager owns a field of the apply (Kubernetes, "Server-Side Apply", "Conflicts").
fn is_of_others(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    let causes = status.details.iter().flat_map(|details| &details.causes);
    status.code == 409 && causes.into_iter().any(|cause| cause.reason == "FieldManagerConflict")
}

fn api_message(error: kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message,
        other => other.to_string(),
    }
}

/// Whether `live` has every field of `asked`; further fields do not count.
pub(super) fn contains(live: &Value, asked: &Value) -> bool {
    match (live, asked) {
        (Value::Object(live), Value::Object(asked)) => {
            asked.iter().all(|(key, asked)| live.get(key).is_some_and(|live| contains(live, asked)))
        }
        (Value::Array(live), Value::Array(asked)) => {
            live.len() == asked.len() && live.iter().zip(asked).all(|(live, asked)| contains(live, asked))
        }
        (live, asked) => live == asked,
    }
}
