//! ImagePipelines of any user, and the lists of ServiceAccounts and PriorityClasses that they may name.

use image_pipeline::api::ImagePipeline;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::{NAMESPACE, Stage, must_be_refused};
use servers::objects;

const ACCOUNT: &str =
    "consumer.serviceAccountName must be one of tiles, other (chart value consumers.serviceAccounts); found ";
const CLASS: &str = "consumer.priorityClassName must be one of batch (chart value consumers.priorityClasses); found ";

fn api(client: &kube::Client) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), NAMESPACE, &ApiResource::erase::<ImagePipeline>(&()))
}

fn pipeline(name: &str, consumer: Value) -> DynamicObject {
    let pipeline = objects::pipeline(NAMESPACE, name, &json!({ "consumer": consumer }));
    serde_json::from_value(pipeline).expect("an object")
}

async fn create(client: &kube::Client, name: &str, consumer: Value) -> Result<DynamicObject, kube::Error> {
    api(client).create(&PostParams::default(), &pipeline(name, consumer)).await
}

async fn patch(client: &kube::Client, name: &str, patch: &Value) -> Result<DynamicObject, kube::Error> {
    api(client).patch(name, &PatchParams::default(), &Patch::Merge(patch)).await
}

/// A pipeline from before the lists.
pub async fn before_the_lists(client: &kube::Client) {
    let consumer = json!({ "serviceAccountName": "early", "priorityClassName": "early" });
    create(client, "early", consumer).await.expect("created");
}

/// A pipeline that the policy refuses.
pub async fn attempt(stage: &Stage) -> Result<DynamicObject, kube::Error> {
    let pipeline = pipeline("attempt", json!({ "serviceAccountName": "admin" }));
    api(&stage.admin).create(&PostParams { dry_run: true, ..Default::default() }, &pipeline).await
}

pub async fn each_rule_refuses(stage: &Stage) {
    let admin = &stage.admin;
    create(admin, "other", json!({ "serviceAccountName": "other" })).await.expect("created");
    create(admin, "tiles", json!({ "serviceAccountName": "tiles", "priorityClassName": "batch" }))
        .await
        .expect("created");
    let account = json!({ "serviceAccountName": "admin" });
    let class = json!({ "serviceAccountName": "tiles", "priorityClassName": "admin" });
    must_be_refused("create", create(admin, "new", account.clone()).await, &format!("{ACCOUNT}admin"));
    must_be_refused("create", create(admin, "new", class.clone()).await, &format!("{CLASS}admin"));
    must_be_refused("create", create(admin, "new", json!({})).await, &format!("{ACCOUNT}none, which means default"));
    for pipeline in ["tiles", "early"] {
        let (account, class) = (json!({ "spec": { "consumer": account } }), json!({ "spec": { "consumer": class } }));
        must_be_refused(pipeline, patch(admin, pipeline, &account).await, &format!("{ACCOUNT}admin"));
        must_be_refused(pipeline, patch(admin, pipeline, &class).await, &format!("{CLASS}admin"));
    }
    // What the pipeline named before the lists stays, whatever else changes.
    patch(admin, "early", &json!({ "spec": { "paused": true } })).await.expect("patched");
    patch(admin, "early", &json!({ "spec": { "consumer": { "serviceAccountName": "tiles" } } }))
        .await
        .expect("patched");
    let back = json!({ "spec": { "consumer": { "serviceAccountName": "early" } } });
    must_be_refused("back", patch(admin, "early", &back).await, &format!("{ACCOUNT}early"));
    stage.each_validation_has_a_case("consumers", &[ACCOUNT, CLASS]);
}
