//! The operator against an API server in memory: its writes, no writes without a change, a resource that can't be
//! parsed, and no request that its role does not grant.

use std::collections::BTreeMap;

use image_pipeline::api::names;
use serde_json::{Value, json};

use servers::objects;
use servers::operator::{self, until};
use support::api_server::{ApiServer, REFUSED};

const FOREST: &str = "forest";

fn pipeline(name: &str, poll_interval: Value) -> Value {
    let changes = json!({ "scaling": { "minReplicas": 2, "pollInterval": poll_interval } });
    let mut pipeline = objects::pipeline(FOREST, name, &changes);
    pipeline["metadata"]["resourceVersion"] = json!("1");
    pipeline
}

/// A pipeline of a fixed size.
fn sized(size: i32, generation: i64) -> Value {
    let mut sized = pipeline("tiles", json!("500ms"));
    (sized["spec"]["replicas"], sized["metadata"]["generation"]) = (json!(size), json!(generation));
    sized
}

/// A Secret for a broker that refuses connections: its port was free a moment ago.
async fn secret() -> Value {
    let port = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port().to_string();
    let keys = [("host", "127.0.0.1"), ("port", &*port), ("username", "u"), ("password", "p")];
    let mut secret = objects::secret(FOREST, "rabbit-default-user", &keys);
    secret["metadata"]["resourceVersion"] = json!("1");
    secret
}

/// Runs the operator until it has read the broker's Secret `looks` times.
async fn operate(pipelines: Vec<Value>, looks: usize) -> ApiServer {
    let (server, client) = ApiServer::start(pipelines, vec![secret().await], vec![]).await;
    operate_on(server, client, looks).await
}

async fn operate_on(server: ApiServer, client: kube::Client, looks: usize) -> ApiServer {
    let reads = || server.transcript().iter().filter(|request| request.contains("/secrets/")).count();
    operator::during(client, until("further polls by the operator", || reads() >= looks)).await;
    server
}

#[tokio::test]
async fn writes_what_is_needed_and_then_nothing() {
    let server = operate(vec![pipeline("tiles", json!("500ms"))], 8).await;
    let event = "POST /apis/events.k8s.io/v1/namespaces/forest/events";
    let status = "PATCH /apis/greench.dev/v1alpha1/namespaces/forest/imagepipelines/tiles/status force=true fieldManager=image-pipeline";
    let expected = [
        "PATCH /apis/apps/v1/namespaces/forest/deployments/tiles-consumer fieldManager=image-pipeline",
        status,
        event, // BrokerUnreachable
        event, // scaled 0 → 2
    ];
    assert_eq!(server.writes(), expected);
    assert_eq!(server.list("deployments")[0]["spec"]["replicas"], 2);
}

#[tokio::test]
async fn a_size_that_the_user_gives_is_applied_whatever_the_broker_says_and_told_for_scaling() {
    let server = operate(vec![sized(7, 1)], 4).await;
    assert_eq!(server.list("deployments")[0]["spec"]["replicas"], 7);
    let labels = server.list("deployments")[0]["spec"]["selector"]["matchLabels"].clone();
    let status = server.status("tiles");
    for (label, value) in labels.as_object().unwrap() {
        let pair = format!("{label}={}", value.as_str().unwrap());
        assert!(status["selector"].as_str().unwrap().split(',').any(|part| part == pair), "{pair}: {status:#}");
    }
    assert_eq!(server.writes().iter().filter(|write| write.contains("/deployments/")).count(), 1);
}

#[tokio::test]
async fn a_size_that_the_watch_has_not_brought_yet_is_held_as_any_other() {
    let (server, client) = ApiServer::start(vec![sized(7, 1)], vec![secret().await], vec![]).await;
    server.lag("deployments");
    operator::during(client, async {
        until("the first size", || server.status("tiles")["desiredReplicas"] == 7).await;
        let mut automatic = pipeline("tiles", json!("500ms"));
        automatic["metadata"]["generation"] = json!(2);
        server.put("imagepipelines", automatic);
        until("the next generation", || server.status("tiles")["observedGeneration"] == 2).await;
    })
    .await;
    assert_eq!(server.status("tiles")["desiredReplicas"], 7);
    assert_eq!(server.list("deployments")[0]["spec"]["replicas"], 7);
}

#[tokio::test]
async fn an_event_says_what_happened_this_time() {
    let (server, client) = ApiServer::start(vec![sized(2, 1)], vec![secret().await], vec![]).await;
    let notes = |server: &ApiServer| -> Vec<_> {
        let scaled = server.events().into_iter().filter(|event| event["reason"] == "ScaledUp");
        scaled.map(|event| event["note"].as_str().unwrap().to_owned()).collect()
    };
    operator::during(client, async {
        until("the first size", || notes(&server).len() == 1).await;
        server.put("imagepipelines", sized(4, 2));
        until("the second size", || notes(&server).len() == 2).await;
    })
    .await;
    let expected = ["Scaled 0 → 2: fixed by spec.replicas", "Scaled 2 → 4: fixed by spec.replicas"];
    assert_eq!(notes(&server), expected);
}

/// A size that alternates creates one event object for each text, and no more.
#[tokio::test]
async fn what_happens_again_is_counted_up_and_no_event_of_its_own() {
    let (server, client) = ApiServer::start(vec![sized(2, 1)], vec![secret().await], vec![]).await;
    let scaled = |note: &str, count: Value| {
        let events = server.events();
        let of_note: Vec<_> = events.iter().filter(|event| event["note"] == note).collect();
        of_note.len() == 1 && of_note[0]["series"]["count"] == count
    };
    let (up, down) = ("Scaled 2 → 4: fixed by spec.replicas", "Scaled 4 → 2: fixed by spec.replicas");
    operator::during(client, async {
        until("the first event", || scaled("Scaled 0 → 2: fixed by spec.replicas", Value::Null)).await;
        for (generation, size, note, count) in [
            (2, 4, up, Value::Null),
            (3, 2, down, Value::Null),
            (4, 4, up, json!(2)),
            (5, 2, down, json!(2)),
            (6, 4, up, json!(3)),
        ] {
            server.put("imagepipelines", sized(size, generation));
            until(&format!("{note}, {count}"), || scaled(note, count.clone())).await;
        }
        server.delete_events();
        server.put("imagepipelines", sized(2, 7));
        until("an event in place of one that was deleted", || scaled(down, Value::Null)).await;
    })
    .await;
    operator::has_leave_for(&server.transcript());
}

#[tokio::test]
async fn a_pod_that_the_api_server_refuses_keeps_none_of_the_others_from_being_told() {
    let (server, client) =
        ApiServer::start(vec![pipeline("tiles", json!("500ms"))], vec![secret().await], vec![]).await;
    let others: Vec<_> = (0..20).map(|number| format!("tiles-{number}")).collect();
    for name in others.iter().map(String::as_str).chain([REFUSED]) {
        server.put("pods", operator::pod(name, "tiles"));
    }
    let told = || {
        let pods = server.list("pods");
        pods.iter().filter(|pod| pod["metadata"]["annotations"].is_object()).count()
    };
    operator::during(client, until("the other pods to be annotated", || told() == others.len())).await;
    assert!(server.writes().iter().any(|write| write.contains(REFUSED)));
}

/// The annotations of the pods must be written before Kubernetes sees a smaller size.
#[tokio::test]
async fn pods_are_annotated_before_the_size_is_written() {
    let (server, client) =
        ApiServer::start(vec![pipeline("tiles", json!("500ms"))], vec![secret().await], vec![]).await;
    server.put("pods", operator::pod("tiles-1", "tiles"));
    let writes = operate_on(server, client, 2).await.writes();
    assert!(writes[0].contains("/pods/tiles-1") && writes[1].contains("/deployments/tiles-consumer"), "{writes:#?}");
}

#[tokio::test]
async fn a_deployment_of_another_is_never_touched() {
    // A Deployment with the operator's labels is in the watch. One without them is not: an apply without force
    // shows that it belongs to somebody else.
    for labels in [names::labels("tiles"), BTreeMap::new()] {
        let foreign = json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {
                "name": "tiles-consumer", "namespace": FOREST, "uid": "theirs", "resourceVersion": "1", "labels": labels,
            },
            "spec": { "replicas": 9, "selector": {}, "template": {} },
        });
        let pipelines = vec![pipeline("tiles", json!("500ms"))];
        let (server, client) = ApiServer::start(pipelines, vec![secret().await], vec![foreign.clone()]).await;
        let server = operate_on(server, client, 3).await;
        let writes = server.writes();
        let forced =
            |write: &&String| write.contains("/deployments/") && (!labels.is_empty() || write.contains("force"));
        assert_eq!(writes.iter().find(forced), None, "{writes:#?}");
        let told = server.condition("tiles", "ConsumersAvailable");
        assert!(told.starts_with("False NameTaken "), "{told}");
        assert_eq!(server.list("deployments"), [foreign]);
    }
}

/// No watch shows the Deployment any more.
#[tokio::test]
async fn a_deployment_of_ours_that_somebody_has_labelled_anew_is_mended() {
    let owner = json!({
        "apiVersion": "greench.dev/v1alpha1", "kind": "ImagePipeline", "name": "tiles", "uid": "tiles", "controller": true,
    });
    let ours = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "tiles-consumer", "namespace": FOREST, "uid": "ours", "resourceVersion": "1",
            "labels": { "app.kubernetes.io/managed-by": "Helm" }, "ownerReferences": [owner],
        },
        "spec": { "replicas": 9, "selector": {}, "template": {} },
    });
    let pipelines = vec![pipeline("tiles", json!("500ms"))];
    let (server, client) = ApiServer::start(pipelines, vec![secret().await], vec![ours]).await;
    let server = operate_on(server, client, 3).await;
    let labels = &server.list("deployments")[0]["metadata"]["labels"];
    assert_eq!(*labels, json!(names::labels("tiles")));
    operator::has_leave_for(&server.transcript());
}

#[tokio::test]
async fn a_resource_that_cannot_be_read_is_told_so_and_stops_nobody() {
    let server = operate(vec![pipeline("broken", json!(7)), pipeline("tiles", json!("500ms"))], 3).await;
    let writes = server.writes();
    let of = |name: &str| writes.iter().filter(|write| write.contains(name)).count();
    assert_eq!(of("/imagepipelines/broken/status"), 1, "{writes:#?}");
    assert_eq!(of("/deployments/broken-consumer"), 0, "{writes:#?}");
    assert_eq!(of("/deployments/tiles-consumer"), 1, "{writes:#?}");
}

/// The same mistake twice with a valid spec between, then once more in a new resource of the same name.
#[tokio::test]
async fn a_resource_that_is_broken_again_is_told_so_again() {
    let (server, client) = ApiServer::start(vec![], vec![secret().await], vec![]).await;
    let told = |server: &ApiServer| server.condition("tiles", "Ready").contains("InvalidSpec");
    let put = |uid: &str, generation: i64, poll_interval: Value| {
        let mut tiles = pipeline("tiles", poll_interval);
        (tiles["metadata"]["uid"], tiles["metadata"]["generation"]) = (json!(uid), json!(generation));
        server.put("imagepipelines", tiles)
    };
    operator::during(client, async {
        put("first", 1, json!(7));
        until("the first mistake to be reported", || told(&server)).await;
        put("first", 2, json!("500ms"));
        until("the valid spec to be reported", || !told(&server)).await;
        server.delete("imagepipelines", &put("first", 3, json!(7)));
        put("second", 1, json!(7));
        until("the mistake to be reported again", || told(&server)).await;
    })
    .await;
}

#[tokio::test]
async fn asks_for_nothing_that_the_chart_does_not_grant() {
    let server = operate(vec![pipeline("broken", json!(7)), pipeline("tiles", json!("500ms"))], 3).await;
    operator::has_leave_for(&server.transcript());
}
