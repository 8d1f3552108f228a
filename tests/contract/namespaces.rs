//! The operator with a list of namespaces: it serves each of them, sends no request elsewhere, and a namespace that
//! refuses access does not delay the others.

use image_pipeline::controller::Instruments;
use serde_json::{Value, json};

use servers::objects;
use servers::operator::{self, until};
use support::api_server::ApiServer;

fn pipeline(namespace: &str) -> Value {
    objects::pipeline(namespace, namespace, &json!({ "scaling": { "minReplicas": 2, "pollInterval": "500ms" } }))
}

/// A Secret with a host, but without a user.
fn secret(namespace: &str) -> Value {
    objects::secret(namespace, "rabbit-default-user", &[("host", "host")])
}

fn sizes(server: &ApiServer) -> Vec<(String, i64)> {
    let size = |deployment: Value| {
        let name = deployment["metadata"]["name"].as_str().unwrap().to_owned();
        (name, deployment["spec"]["replicas"].as_i64().unwrap())
    };
    let mut sizes: Vec<_> = server.list("deployments").into_iter().map(size).collect();
    sizes.sort();
    sizes
}

fn reported(server: &ApiServer, pipeline: &str, reason: &str) -> bool {
    server.condition(pipeline, "BrokerReachable").starts_with(&format!("False {reason}"))
}

async fn three() -> (ApiServer, kube::Client) {
    ApiServer::start(["desert", "forest", "meadow"].map(pipeline).to_vec(), vec![], vec![]).await
}

#[tokio::test]
async fn each_of_a_list_is_served_and_nothing_is_asked_elsewhere() {
    let (server, client) = three().await;
    let expected = |desert: Option<i64>, forest| {
        let sizes = [("desert-consumer", desert), ("forest-consumer", forest), ("meadow-consumer", Some(2))];
        sizes.into_iter().filter_map(|(name, size)| Some((name.to_owned(), size?))).collect::<Vec<_>>()
    };
    let instruments = Instruments::default();
    operator::run(operator::settings(&["forest", "meadow", "forest"]), client, instruments.clone(), async {
        until("both Deployments", || sizes(&server) == expected(None, Some(2))).await;
        until("all lists", || instruments.listed.is_complete()).await;
        let mut grown = pipeline("forest");
        grown["spec"]["scaling"]["minReplicas"] = json!(3);
        grown["metadata"]["generation"] = json!(2);
        server.put("imagepipelines", grown);
        until("a change in forest", || sizes(&server) == expected(None, Some(3))).await;
        server.put("secrets", secret("meadow"));
        until("a Secret in meadow", || reported(&server, "meadow", "SecretInvalid")).await;
        until("a missing Secret in forest", || reported(&server, "forest", "SecretNotFound")).await;
    })
    .await;
    let transcript = server.transcript();
    let within =
        |request: &&String| ["/namespaces/forest/", "/namespaces/meadow/"].iter().any(|part| request.contains(part));
    let elsewhere: Vec<_> = transcript.iter().filter(|request| !within(request)).collect();
    assert!(elsewhere.is_empty(), "{elsewhere:#?}");
    let watches = transcript.iter().filter(|request| request.ends_with("/namespaces/forest/pods")).count();
    assert!(watches <= 2, "a namespace that is listed twice must be watched once");
    operator::has_leave_for(&transcript);
}

#[tokio::test]
async fn one_that_is_closed_holds_up_no_other_and_is_told() {
    let (server, client) = three().await;
    server.forbid("/namespaces/forest/secrets");
    let instruments = Instruments::default();
    operator::run(operator::settings(&["forest", "meadow"]), client, instruments.clone(), async {
        until("the other namespace to be served", || reported(&server, "meadow", "SecretNotFound")).await;
    })
    .await;
    assert_eq!(sizes(&server), [("meadow-consumer".to_owned(), 2)]);
    assert!(!instruments.listed.is_complete(), "must not be ready while a namespace can't be read");
}
