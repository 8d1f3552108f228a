//! The life of a pipeline in steps, with the state after each step. A step begins only after the previous one has
//! settled.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::fault::{Fault, Write};
use crate::scene::Scene;
use crate::state::{State, differences};
use crate::world::{USERS, World};

/// The steps, in order, each with its final number of pods; `None` means no objects.
const STEPS: [(&str, Option<i64>); 6] = [
    ("create", Some(0)),
    ("scale up", Some(3)),
    ("scale down", Some(2)),
    ("change the spec", Some(2)),
    ("rotate a Secret", Some(2)),
    ("delete", None),
];

/// States and writes of one run.
pub struct Run {
    /// The state after each step.
    pub states: Vec<State>,
    /// All writes, in order.
    pub writes: Vec<Write>,
    /// The request that met the fault.
    pub hit: Option<String>,
}

/// Runs all steps once. Without `reference`, each step must end in the expected state; with it, in the reference's
/// state.
pub async fn run(world: &Arc<World>, planned: Option<(Write, Fault)>, reference: Option<&Run>) -> Result<Run, String> {
    let killed = planned.as_ref().is_some_and(|(_, fault)| fault.kills());
    let scene = Scene::start(world, "crash", planned).await;
    let mut states = Vec::new();
    for (index, (step, size)) in STEPS.into_iter().enumerate() {
        scene.gate.begin(step);
        act(&scene, step).await;
        let settled = match reference {
            Some(run) => scene.settles(|state| differences(&run.states[index], state)).await,
            None => scene.settles(|state| lacking(state, size)).await,
        };
        let explained = |lacks| {
            let hit = scene.gate.hit().unwrap_or_else(|| "nothing yet".to_owned());
            format!("\"{step}\" ended differently than without a fault; the fault hit {hit}\n{lacks}")
        };
        states.push(settled.map_err(explained)?);
    }
    let (lives, expected) = (scene.lives(), if killed && scene.gate.hit().is_some() { 2 } else { 1 });
    if lives != expected {
        return Err(format!("the operator was started {lives} times instead of {expected}"));
    }
    Ok(Run { states, writes: scene.gate.writes(), hit: scene.gate.hit() })
}

async fn act(scene: &Scene, step: &str) {
    match step {
        "create" => scene.create(scene.pipeline()).await,
        // 25 messages ask for three pods, and still do with the one message that each pod may briefly report.
        "scale up" => scene.fill(25).await,
        "scale down" => {
            // Each pod holds one message, so the operator ranks the pods before it removes some.
            scene.kubelet.hold(1);
            scene.fill(15).await;
        }
        "change the spec" => scene.patch(&json!({ "spec": { "image": { "encoding": "Balanced" } } })).await,
        "rotate a Secret" => scene.put_broker_secret(USERS[1]).await,
        "delete" => scene.delete().await,
        _ => panic!("no such step: {step}"),
    }
}

/// Descriptions of what is missing until this many pods are in the expected state; with `None`, until no object is
/// left.
pub fn lacking(state: &State, size: Option<i64>) -> Vec<String> {
    let of = |kind: &str| state.iter().filter(|(key, _)| key.starts_with(kind)).map(|(_, value)| value).collect();
    let (pipelines, deployments): (Vec<&Value>, Vec<&Value>) = (of("ImagePipeline "), of("Deployment "));
    let (sets, pods): (Vec<&Value>, Vec<&Value>) = (of("ReplicaSet "), of("Pod "));
    let Some(size) = size else {
        let left = state.keys().filter(|key| *key != "pods started so far");
        return left.map(|key| format!("{key} is still there")).collect();
    };
    let ([pipeline], [deployment]) = (pipelines.as_slice(), deployments.as_slice()) else {
        return vec![format!("{} pipelines and {} Deployments", pipelines.len(), deployments.len())];
    };
    let mut lacks = Vec::new();
    let mut expect = |what: &str, found: &Value, expected: Value| {
        if *found != expected && !(found.is_null() && expected == 0) {
            lacks.push(format!("{what} is {found} instead of {expected}"));
        }
    };
    expect("the observed generation", &pipeline["status"]["observedGeneration"], json!("present"));
    expect("the Deployment's observed generation", &deployment["status"]["observedGeneration"], json!("present"));
    for count in ["replicas", "readyReplicas", "desiredReplicas"] {
        expect(count, &pipeline["status"][count], json!(size));
    }
    for count in ["replicas", "readyReplicas", "updatedReplicas"] {
        expect(&format!("the Deployment's {count}"), &deployment["status"][count], json!(size));
    }
    expect("the number of pods", &json!(pods.len()), json!(size));
    expect("Ready", &pipeline["status"]["conditions"][0]["status"], json!("True"));
    expect(
        "the ReplicaSets' pods",
        &json!(sets.iter().filter_map(|set| set["ready"].as_i64()).sum::<i64>()),
        json!(size),
    );
    for pod in pods {
        for part in ["spec", "secrets"] {
            expect(&format!("a pod's {part}"), &pod[part], json!("present"));
        }
        expect("a pod's phase", &pod["phase"], json!("Running"));
    }
    lacks
}
