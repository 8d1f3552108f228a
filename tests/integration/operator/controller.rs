//! The operator with an API server in memory reads queues of a real broker: which user and vhost it uses, and how
//! it follows changes of both.

use std::time::{Duration, Instant};

use image_pipeline::api::names::SECRETS_ANNOTATION;
use image_pipeline::pod_status::PodStatus;
use image_pipeline::rabbitmq::Connection;
use image_pipeline::reason::Reason;
use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};

use crate::consumer_process::Consumer;
use crate::scene::Scene;
use servers::broker::{Broker, Version};
use servers::broker_cluster::Cluster;
use servers::client::{Client, QueueType};
use servers::objects;
use servers::operator::{self, until};
use servers::plainly::plainly;
use support::api_server::ApiServer;
use support::eventually::LIMIT;

/// A pipeline of this namespace. The operator reads its queue as the user of the Secret `reader`.
fn reading(namespace: &str) -> Value {
    objects::pipeline(namespace, namespace, &spec("operator-shared", "500ms"))
}

fn spec(vhost: &str, poll_interval: &str) -> Value {
    json!({
        "source": { "rabbitmq": {
            "vhost": vhost, "credentialsSecret": { "name": "reader" },
            "rabbitmqClusterReference": objects::connection_secret("broker"),
        } },
        "scaling": { "pollInterval": poll_interval },
    })
}

fn pipeline(generation: u64, vhost: &str, poll_interval: &str) -> Value {
    objects::of_generation(generation, objects::pipeline("forest", "tiles", &spec(vhost, poll_interval)))
}

fn secret(name: &str, keys: &[(&str, &str)]) -> Value {
    objects::secret("forest", name, keys)
}

fn connection(port: u16, username: &str, password: &str) -> Value {
    let port = port.to_string();
    secret("broker", &[("host", "127.0.0.1"), ("port", &port), ("username", username), ("password", password)])
}

/// The user in the connection Secret has no permissions; only the user of `credentialsSecret` has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_reads_a_queue_as_whom_and_where_it_is_told() {
    let broker = Broker::shared(Version::Three).await;
    let (here, there) = (broker.tenant("operator-here"), broker.tenant("operator-there"));
    broker.control(&["set_permissions", "--vhost", "operator-there", "operator-here", ".*", ".*", ".*"]);
    broker.control(&["add_user", "nobody", "nobody"]);
    for (address, messages) in [(&here, 3), (&there, 5)] {
        let client = Client::connect(address).await.expect("a connection");
        client.declare("tiles", Version::Three.queue_type()).await;
        for _ in 0..messages {
            client.publish("tiles", b"body").await;
        }
    }
    let reader = |password| secret("reader", &[("username", "operator-here"), ("password", password)]);
    let secrets = vec![connection(here.port, "nobody", "nobody")];
    let (server, client) = ApiServer::start(vec![pipeline(1, "operator-here", "500ms")], secrets, vec![]).await;
    server.put("secrets", reader("wrong"));
    let backlog = async |messages| {
        let what = format!("a backlog of {messages}");
        until(&what, || server.status("tiles")["backlog"] == messages).await;
    };
    operator::during(client, async {
        let refused = "False AuthenticationFailed";
        until("the wrong password to be named", || {
            let found = server.condition("tiles", "BrokerReachable");
            found.starts_with(refused)
                && found.contains("user \"operator-here\"")
                && found.contains("in Secret \"reader\"")
        })
        .await;
        server.put("secrets", reader("operator-here"));
        backlog(3).await;
        server.put("imagepipelines", pipeline(2, "operator-there", "500ms"));
        backlog(5).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn namespaces_that_read_as_one_user_share_its_connection() {
    let broker = Broker::shared(Version::Three).await;
    let address = broker.tenant("operator-shared");
    let client = Client::connect(&address).await.expect("a connection");
    client.declare("tiles", Version::Three.queue_type()).await;
    client.publish("tiles", b"body").await;
    let port = address.port.to_string();
    let connection = [("host", "127.0.0.1"), ("port", &port), ("username", "nobody"), ("password", "nobody")];
    let reader = [("username", "operator-shared"), ("password", "operator-shared")];
    let of = |namespace: &str| {
        [secret("broker", &connection), secret("reader", &reader)].map(|mut secret| {
            secret["metadata"]["namespace"] = json!(namespace);
            secret
        })
    };
    let secrets = [of("forest"), of("meadow")].concat();
    let pipelines = vec![reading("forest"), reading("meadow")];
    let (server, client) = ApiServer::start(pipelines, secrets, vec![]).await;
    operator::run(operator::settings(&["forest", "meadow"]), client, Default::default(), async {
        until("both backlogs", || ["forest", "meadow"].iter().all(|name| server.status(name)["backlog"] == 1)).await;
        let connections = broker.control(&["list_connections", "user", "client_properties"]);
        let ours = connections
            .lines()
            .filter(|line| line.starts_with("operator-shared\t") && line.contains("image-pipeline controller"));
        assert_eq!(ours.count(), 1, "{connections}");
    })
    .await;
}
/// The missing queue closes the channel that also reads the depth.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parked_messages_are_counted_and_told_once_there_is_a_queue_of_them() {
    let broker = Broker::shared(Version::Three).await;
    let here = broker.tenant("operator-parked");
    let device = Client::connect(&here).await.expect("a connection");
    for (queue, messages) in [("tiles", 1), ("tiles.parked", 3)] {
        device.declare(queue, Version::Three.queue_type()).await;
        for _ in 0..messages {
            device.publish(queue, b"body").await;
        }
    }
    let reader = secret("reader", &[("username", "operator-parked"), ("password", "operator-parked")]);
    let secrets = vec![connection(here.port, "nobody", "nobody"), reader];
    let without = |field: &str, value: Value| {
        let mut other = pipeline(1, "operator-parked", "500ms");
        (other["metadata"]["name"], other["metadata"]["uid"]) = (json!(field), json!(field));
        other["spec"]["failures"] = json!({ field: value });
        other
    };
    let others = [without("parkingQueue", json!("nowhere")), without("policy", json!("Discard"))];
    let pipelines = [vec![pipeline(1, "operator-parked", "500ms")], others.to_vec()].concat();
    let (server, client) = ApiServer::start(pipelines, secrets, vec![]).await;
    operator::during(client, async {
        until("a count of three parked messages", || server.status("tiles")["parked"] == 3).await;
        for other in ["parkingQueue", "policy"] {
            until(other, || server.status(other)["backlog"] == 1).await;
            assert_eq!(server.status(other)["parked"], Value::Null);
        }
        device.publish("tiles", b"body").await;
        until("the depth to be read again", || server.status("parkingQueue")["desiredReplicas"] == 1).await;
        assert!(server.condition("parkingQueue", "QueueFound").starts_with("True"));
    })
    .await;
    let parked = server.events().into_iter().filter(|event| event["reason"] == "MessagesParked");
    let told: Vec<_> = parked.map(|event| event["regarding"]["name"].clone()).collect();
    assert_eq!(told, ["tiles"]);
}

/// Only the changed Secret can wake the operator: the poll interval is five minutes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotated_password_is_used_within_five_seconds_and_the_pods_are_told_of_it() {
    let broker = Broker::shared(Version::Three).await;
    let here = broker.tenant("operator-rotates");
    let client = Client::connect(&here).await.expect("a connection");
    client.declare("tiles", Version::Three.queue_type()).await;
    let secrets = vec![connection(here.port, "operator-rotates", "of before")];
    let (server, client) = ApiServer::start(vec![pipeline(1, "operator-rotates", "5m")], secrets, vec![]).await;
    server.put("secrets", secret("reader", &[("username", "operator-rotates"), ("password", "of before")]));
    server.put("pods", operator::pod("tiles-1", "tiles"));
    let reachable = || server.condition("tiles", "BrokerReachable");
    operator::during(client, async {
        until("the old password to be refused", || reachable().starts_with("False AuthenticationFailed")).await;
        let rotated = Instant::now();
        let reader = secret("reader", &[("username", "operator-rotates"), ("password", "operator-rotates")]);
        let version = server.put("secrets", reader)["metadata"]["resourceVersion"].clone();
        let told = || {
            let annotation = server.list("pods")[0]["metadata"]["annotations"][SECRETS_ANNOTATION].clone();
            annotation.as_str().unwrap_or_default().split('.').nth(1) == version.as_str()
        };
        until("the new password to be used", || reachable().starts_with("True Connected")).await;
        until("the pod's annotation to change", told).await;
        assert!(rotated.elapsed() < Duration::from_secs(5), "{:?}", rotated.elapsed());
    })
    .await;
}

/// A forgotten script consumes the queue. The operator's restart causes no second warning.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_that_consume_the_queue_are_named_while_no_pod_runs() {
    let broker = Broker::shared(Version::Three).await;
    let here = broker.tenant("operator-others");
    let device = Client::connect(&here).await.expect("a connection");
    device.declare("tiles", Version::Three.queue_type()).await;
    let script = Connection::open(&here, "a script").await.expect("a connection");
    let channel = script.channel().await.expect("a channel");
    let _deliveries = channel.consume("tiles", "script", 1).await.expect("a consumer");
    let secrets = vec![
        connection(here.port, "nobody", "nobody"),
        secret("reader", &[("username", "operator-others"), ("password", "operator-others")]),
    ];
    let (server, client) = ApiServer::start(vec![pipeline(1, "operator-others", "1s")], secrets, vec![]).await;
    let found = || server.condition("tiles", "QueueFound");
    let told = || {
        let of_queue = server.events().into_iter().filter(|event| event["note"].to_string().contains("QueueFound"));
        of_queue.map(|event| event["type"].clone()).collect::<Vec<_>>()
    };
    operator::during(client.clone(), async {
        until("the queue to be found", || found().starts_with("True QueueFound")).await;
        until("foreign consumers to be reported", || found().starts_with("True ForeignConsumers")).await;
        assert_eq!(server.status("tiles")["desiredReplicas"], 0);
        assert!(found().contains("counts 1 more consumer than"), "{}", found());
        until("an event", || told() == ["Warning"]).await;
    })
    .await;

    let mut known = pipeline(1, "operator-others", "1s");
    known["status"] = server.status("tiles");
    server.put("imagepipelines", known);
    for _ in 0..3 {
        device.publish("tiles", b"body").await;
    }
    operator::during(client, async {
        until("one desired pod", || server.status("tiles")["desiredReplicas"] == 1).await;
        assert!(found().starts_with("True ForeignConsumers"), "{}", found());
        until("a ScaledUp event", || server.events().iter().any(|event| event["reason"] == "ScaledUp")).await;
    })
    .await;
    assert_eq!(told(), ["Warning"], "no second event");
}

/// The depth of a stream never falls, so it can't set the number of pods.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_as_source_is_refused_by_name_and_gets_no_pod() {
    let here = Broker::shared(Version::Four).await.tenant("operator-stream");
    let channel = plainly(&here).await.create_channel().await.expect("a channel");
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("stream".into()));
    channel.queue_declare("tiles".into(), QueueDeclareOptions::durable(), arguments).await.expect("a stream");
    let device = Client::connect(&here).await.expect("a connection");
    device.publish("tiles", b"body").await;
    let reader = secret("reader", &[("username", "operator-stream"), ("password", "operator-stream")]);
    let secrets = vec![connection(here.port, "nobody", "nobody"), reader];
    let (server, client) = ApiServer::start(vec![pipeline(1, "operator-stream", "500ms")], secrets, vec![]).await;
    let found = || server.condition("tiles", "QueueFound");
    operator::during(client, until("a refusal", || found().starts_with("False StreamNotSupported"))).await;
    assert!(found().contains("use a quorum or classic queue"), "{}", found());
    assert_eq!(server.status("tiles")["desiredReplicas"], 0);
}

/// A queue whose node is down still exists: nobody may declare it again. Operator and consumer both report it, and
/// recover once the node is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operator_and_consumer_name_a_queue_whose_node_is_down() {
    let mut cluster = Cluster::start(Version::FourThree).await;
    let owner = Client::connect(&cluster.nodes[0].address()).await.expect("a connection");
    owner.declare("tiles", QueueType::Classic).await;
    drop(owner);
    let other = cluster.nodes[1].address();
    let scene = Scene::bare("tiles", &other).await;
    scene.store.create_bucket("tiles");
    let reader = secret("reader", &[("username", "guest"), ("password", "guest")]);
    let secrets = vec![connection(other.port, "nobody", "nobody"), reader];
    let (server, client) = ApiServer::start(vec![pipeline(1, "/", "500ms")], secrets, vec![]).await;
    let found = || server.condition("tiles", "QueueFound");
    cluster.nodes[0].kill();
    let consumer = Consumer::start(&scene.settings);
    operator::during(client, async {
        until("the operator to report the queue", || found().starts_with("False QueueUnavailable")).await;
        let named = |reason| reason == Some(Reason::QueueUnavailable);
        let unavailable = |status: &PodStatus| named(status.broker.fault().map(|fault| fault.reason));
        consumer.status_is("to report the queue", LIMIT, unavailable).await;
        cluster.restart(0).await;
        until("the queue to be found", || found().starts_with("True QueueFound")).await;
        consumer.status_is("to consume", LIMIT, |status| status.consuming).await;
    })
    .await;
}
