//! Good, bad, good for every field of the spec: the schema refuses a bad value, or the status names it and recovers
//! with the good value. The rows are in `fields/rows`; every field of the CRD needs one.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::join_all;
use image_pipeline::api::{ImagePipeline, names};
use image_pipeline::controller::build::MEMORY;
use k8s_openapi::api::apps::v1::Deployment;
use kube::CustomResourceExt as _;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::scenario::lacking;
use crate::scene::{NAME, Scene};
use crate::state::{State, differences};
use crate::world::World;

mod rows;

use rows::{EVERYTHING, ROWS, Trouble};

/// Collects the paths below `spec` of all fields without subfields.
fn leaves(path: &str, schema: &Value, found: &mut BTreeSet<String>) {
    let Some(fields) = schema["properties"].as_object() else {
        found.insert(path.trim_start_matches('.').to_owned());
        return;
    };
    for (name, field) in fields {
        leaves(&format!("{path}.{name}"), field, found);
    }
}

#[test]
fn every_field_has_a_row() {
    let crd = serde_json::to_value(ImagePipeline::crd()).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let mut fields = BTreeSet::new();
    leaves("", schema, &mut fields);
    let rows: BTreeSet<String> = ROWS.iter().map(|row| row.field.to_owned()).collect();
    assert_eq!(rows, fields);
    assert!(ROWS.iter().all(|row| !row.refused.is_empty()), "every field has values that it refuses");
}

/// A merge patch that sets one field.
fn setting(field: &str, value: &str) -> Value {
    let value: Value = serde_json::from_str(value).unwrap_or_else(|error| panic!("{field}: {error}"));
    json!({ "spec": field.rsplit('.').fold(value, |value, name| json!({ name: value })) })
}

/// Tries every value that the schema refuses on one pipeline, one after the other.
async fn bad_values_are_refused(world: Arc<World>) {
    let scene = Scene::start(&world, "refused", None).await;
    scene.create(scene.pipeline()).await;
    scene.fill(10).await;
    let before = scene.settles_at(1).await;
    let writes = scene.gate.writes().len();
    for row in ROWS {
        for value in row.refused {
            let patch = Patch::Merge(setting(row.field, value));
            let refused = scene.pipelines().patch(NAME, &PatchParams::default(), &patch).await;
            let Err(kube::Error::Api(status)) = refused else { panic!("{} took {value}", row.field) };
            let name = row.field.rsplit('.').next().unwrap();
            let named = status.message.contains(name) || row.field.contains(".resources.");
            assert!(status.code == 422 && named, "{} with {value}: {}", row.field, status.message);
        }
    }
    let after = scene.settles_at(1).await;
    assert_eq!(differences(&before, &after), Vec::<String>::new());
    assert_eq!(scene.gate.writes().len(), writes, "{:?}", scene.gate.writes());
}

/// Sets every field to another value and restores it: no change remains.
async fn what_is_taken_away_goes(world: Arc<World>) {
    let scene = Scene::start(&world, "everything", None).await;
    scene.create(scene.pipeline()).await;
    let before = scene.settles_at(0).await;
    let everything: Value = serde_json::from_str(EVERYTHING).expect("JSON");
    // Of two fields that exclude each other, one is left out.
    let excluded = ["scaling.drainWithin", "source.rabbitmq.rabbitmqClusterReference.name"];
    for row in ROWS.iter().filter(|row| !excluded.contains(&row.field)) {
        let pointer = format!("/{}", row.field.replace('.', "/"));
        assert!(everything.pointer(&pointer).is_some(), "{} is missing in EVERYTHING", row.field);
    }
    scene.patch(&json!({ "spec": everything })).await;
    scene.says("BrokerReachable", "False", "SecretNotFound").await;
    scene.restore().await;
    let after = scene.settles_at(0).await;
    assert_eq!(before["Deployment tiles-consumer"]["spec"], after["Deployment tiles-consumer"]["spec"]);
}

async fn a_bad_value_is_named_and_mended(world: Arc<World>, field: &'static str, trouble: &'static Trouble) {
    let scene = Scene::start(&world, "mended", None).await;
    scene.create(scene.pipeline()).await;
    scene.fill(10).await;
    let before = scene.settles_at(1).await;
    scene.patch(&setting(field, trouble.bad)).await;
    scene.says(trouble.condition, "False", trouble.reason).await;
    scene.restore().await;
    let settled = scene.settles(|state| lacking(state, Some(1))).await;
    let after = settled.unwrap_or_else(|lacks| panic!("{field} after {}: {lacks}", trouble.bad));
    let template = |state: &crate::state::State| state["Deployment tiles-consumer"]["spec"].clone();
    assert_eq!(template(&before), template(&after), "{field}");
    assert_eq!(scene.lives(), 1, "{field}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_value_is_refused_or_named_and_a_good_one_mends_it() {
    let world = World::new().await;
    let named = ROWS.iter().flat_map(|row| row.named.iter().map(|trouble| (row.field, trouble)));
    let named = named.map(|(field, trouble)| a_bad_value_is_named_and_mended(world.clone(), field, trouble));
    tokio::join!(bad_values_are_refused(world.clone()), what_is_taken_away_goes(world.clone()), join_all(named));
}

/// docs/troubleshooting.md sets the pods' log level with `kubectl set env`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_variable_that_somebody_gives_the_pods_stays() {
    let world = World::new().await;
    let scene = Scene::start(&world, "variable", None).await;
    scene.create(scene.pipeline()).await;
    scene.fill(10).await;
    scene.settles_at(1).await;
    let variable = json!({ "name": "RUST_LOG", "value": "info,image_pipeline=debug" });
    let containers = json!([{ "name": names::CONTAINER, "env": [variable] }]);
    let patch = Patch::Strategic(json!({ "spec": { "template": { "spec": { "containers": containers } } } }));
    let parameters = PatchParams { field_manager: Some("kubectl-set".to_owned()), ..PatchParams::default() };
    scene.api::<Deployment>().patch("tiles-consumer", &parameters, &patch).await.expect("patched");
    let has = |state: &State| {
        let template = &state["Deployment tiles-consumer"]["spec"]["template"];
        let variables = template["spec"]["containers"][0]["env"].as_array().expect("variables");
        variables.contains(&variable) && variables.len() == 2 + MEMORY.len()
    };
    assert!(has(&scene.settles_at(1).await));
    scene.patch(&setting("image.encoding", r#""Balanced""#)).await;
    let state = scene.settles_at(1).await;
    assert!(state["Deployment tiles-consumer"]["spec"]["template"].to_string().contains("Balanced"));
    assert!(has(&state));
    assert_eq!(scene.lives(), 1);
}
