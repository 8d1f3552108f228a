//! The parking queue is as safe as the source queue: replicated where RabbitMQ can, and a slow confirm makes no
//! second copy.

use std::time::Duration;

use image_pipeline::pod_status::PodStatus;
use image_pipeline::rabbitmq::address::BrokerAddress;
use image_pipeline::rabbitmq::{Connection, QueueError, QuorumQueues};
use image_pipeline::reason::Reason;
use serde_json::json;

use crate::consumer_process::Consumer;
use crate::late_confirms;
use crate::scene::Scene;
use servers::broker::{Broker, Version};
use support::eventually::LIMIT;

/// The status names a fault that a pod can see within this time.
const NAMED: Duration = Duration::from_secs(10);

/// Longer than any other exchange with a broker may take.
const LATE: Duration = Duration::from_secs(12);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_confirm_makes_no_second_copy_and_is_reported() {
    let broker = Broker::shared(Version::Four).await;
    let scene = Scene::new("late-confirms", Version::Four).await;
    let late = late_confirms::start(broker.listener(), LATE);
    scene.settings.write_broker_secret(&BrokerAddress { port: late.port(), ..broker.address() });
    for body in [b"poison 1", b"poison 2", b"poison 3"] {
        scene.client.publish(&scene.settings.queue, body).await;
    }
    let consumer = Consumer::consuming(&scene.settings).await;
    let slow = |status: &PodStatus| {
        let fault = status.parking.fault();
        fault.is_some_and(|fault| {
            fault.reason == Reason::ParkingRefused && fault.message.contains("has not confirmed a message")
        })
    };
    let status = consumer.status_is("to report the slow confirm", NAMED, slow).await;
    assert_eq!(status.parked, 0, "nothing is parked before the confirm");
    consumer.status_is("to have parked all", LIMIT, |status| status.parked == 3).await;
    scene.ends_with_parked(consumer, 3).await;
}

/// The declared queue on each RabbitMQ version.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_parking_queue_is_a_quorum_queue_and_an_existing_one_is_used() {
    for version in [Version::Three, Version::Four, Version::FourThree] {
        let broker = Broker::shared(version).await;
        let connection = Connection::open(&broker.address(), "integration tests").await.expect("a connection");
        let name = format!("declared-{version:?}");
        for _ in 0..2 {
            connection.ensure_queue(&name, QuorumQueues::Offered).await.expect("declared, and used as it is");
        }
        let listed = broker.control(&["list_queues", "--no-table-headers", "name", "type", "durable", "arguments"]);
        let line = listed.lines().find(|line| line.starts_with(&name)).expect("the queue");
        assert!(line.contains("quorum") && line.contains("true"), "{version:?}: {line}");
        assert!(line.contains("x-delivery-limit"), "{version:?}: {line}");
    }
}

/// In RabbitMQ 3.10, quorum queues are a feature flag that may be disabled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_without_quorum_queues_gets_a_classic_one() {
    let broker = Broker::own_without_features(Version::Three).await;
    let scene = Scene::at("no-quorum", Version::Three, &broker.address()).await;
    scene.client.publish(&scene.settings.queue, b"poison").await;
    let consumer = Consumer::consuming(&scene.settings).await;
    consumer.status_is("to have parked it", LIMIT, |status| status.parked == 1).await;
    let listed = broker.control(&["list_queues", "--no-table-headers", "name", "type", "durable"]);
    assert!(listed.contains("no-quorum.parked\tclassic\ttrue"), "{listed}");
    scene.ends_with_parked(consumer, 1).await;
}

/// The consumer is killed while it waits for the confirm. The message must be in at least one queue.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_handed_back_while_its_confirm_is_late_is_in_one_queue_at_least() {
    let broker = Broker::shared(Version::Four).await;
    let mut scene = Scene::new("late-handed-back", Version::Four).await;
    let late = late_confirms::start(broker.listener(), LATE);
    scene.settings.write_broker_secret(&BrokerAddress { port: late.port(), ..broker.address() });
    scene.settings.spec = json!({ "failures": { "holdingTime": "60s" } });
    scene.client.publish(&scene.settings.queue, b"poison").await;
    let mut consumer = Consumer::consuming(&scene.settings).await;
    consumer.status_is("to hold it", LIMIT, |status| status.in_flight == 1).await;
    scene.client.holds(&scene.settings.parking, 1).await;
    consumer.kill();
    // The next consumer does not know the outcome, so it publishes again.
    let consumer = Consumer::start(&scene.settings);
    consumer.status_is("to have parked it", LIMIT, |status| status.parked == 1).await;
    scene.ends_with_parked(consumer, 2).await;
}

fn refusal(outcome: Result<(), QueueError>) -> (Reason, String) {
    let error = outcome.expect_err("refused");
    (error.reason(), error.to_string())
}

/// A queue whose node is down still exists: nobody may declare it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_whose_node_is_down_is_not_missing() {
    use servers::broker_cluster::Cluster;
    use servers::client::{Client, QueueType};
    let mut cluster = Cluster::start(Version::FourThree).await;
    let client = Client::connect(&cluster.nodes[0].address()).await.expect("a connection");
    client.declare("of-one", QueueType::Classic).await;
    drop(client);
    let connection = Connection::open(&cluster.nodes[1].address(), "integration tests").await.expect("a connection");
    connection.ensure_queue("of-one", QuorumQueues::Offered).await.expect("it is up");
    cluster.nodes[0].kill();
    let down = support::eventually::eventually("the node to be missed", LIMIT, async || {
        match connection.ensure_queue("of-one", QuorumQueues::Offered).await {
            Ok(()) => Err("still found".to_owned()),
            Err(error) if error.is_queue_not_found() => panic!("{error}"),
            Err(error) if error.reason() == Reason::QueueUnavailable => Ok(error),
            Err(error) => Err(error.to_string()),
        }
    })
    .await;
    let (reason, text) = refusal(Err(down));
    assert_eq!(reason, Reason::QueueUnavailable);
    assert!(text.contains("start the node; don't declare the queue again"), "{text}");
    let looked = refusal(connection.depth("of-one").await.map(drop));
    assert_eq!(looked.0, Reason::QueueUnavailable, "{looked:?}");
    cluster.restart(0).await;
    connection.ensure_queue("of-one", QuorumQueues::Offered).await.expect("it is back");
}
