//! Queues that can't be served, and a broker's limits: each is refused with its own reason and the next step.

use image_pipeline::pod_status::PodStatus;
use image_pipeline::rabbitmq::address::BrokerAddress;
use image_pipeline::rabbitmq::{Connection, QueueError};
use image_pipeline::reason::Reason;
use lapin::options::{BasicConsumeOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};

use crate::consumer_process::Consumer;
use crate::scene::Scene;
use servers::broker::{Broker, Version};
use servers::plainly::plainly;
use support::eventually::LIMIT;

const ALL: [Version; 3] = [Version::Three, Version::Four, Version::FourThree];

fn arguments(pairs: &[(&str, AMQPValue)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (key, value) in pairs {
        table.insert((*key).into(), value.clone());
    }
    table
}

fn stream() -> FieldTable {
    arguments(&[("x-queue-type", AMQPValue::LongString("stream".into()))])
}

fn refused<T>(outcome: Result<T, QueueError>, reason: Reason, next_step: &str) {
    let error = outcome.err().expect("refused");
    assert_eq!(error.reason(), reason, "{error}");
    assert!(error.to_string().contains(next_step), "{error}");
}

/// Each refusal names what is wrong with the queue.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_loses_its_messages_is_found_and_none_is_created() {
    for version in ALL {
        let address = Broker::shared(version).await.tenant("lasting");
        let plain = plainly(&address).await;
        let channel = plain.create_channel().await.expect("a channel");
        let durable = QueueDeclareOptions::durable;
        let declared = async |queue: &str, options, arguments| {
            channel.queue_declare(queue.into(), options, arguments).await.expect("a queue");
        };
        let expires = || arguments(&[("x-expires", AMQPValue::LongInt(600_000))]);
        let ttl = || arguments(&[("x-message-ttl", AMQPValue::LongInt(600_000))]);
        declared("auto-delete", QueueDeclareOptions { auto_delete: true, ..durable() }, FieldTable::default()).await;
        declared("expires", durable(), expires()).await;
        declared("stream-named", durable(), ttl()).await;
        declared("a-stream", durable(), stream()).await;
        declared("exclusive", QueueDeclareOptions { exclusive: true, ..durable() }, FieldTable::default()).await;

        let connection = Connection::open(&address, "integration tests").await.expect("a connection");
        let looked = async |queue: &str| connection.ensure_lasting(queue).await;
        refused(looked("auto-delete").await, Reason::QueueTemporary, "declare the queue without auto_delete");
        refused(looked("expires").await, Reason::QueueTemporary, "after 600000 ms without a consumer");
        refused(looked("a-stream").await, Reason::StreamNotSupported, "use a quorum or classic queue");
        refused(looked("exclusive").await, Reason::QueueInUse, "without `exclusive`");
        looked("stream-named").await.expect("a queue that lasts");
        looked("missing").await.expect("nothing to report");
        let missing = connection.depth("missing").await.map(drop);
        refused(missing, Reason::QueueNotFound, "create it");
        assert!(connection.is_open(), "{version:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_refused_by_name_and_nothing_is_taken_from_it() {
    for version in ALL {
        let broker = Broker::shared(version).await;
        let address = broker.address();
        let scene = Scene::bare(&format!("stream-{version:?}").to_lowercase(), &address).await;
        scene.store.create_bucket(&scene.settings.bucket);
        let plain = plainly(&address).await;
        let channel = plain.create_channel().await.expect("a channel");
        let queue = &scene.settings.queue;
        let declared = channel.queue_declare(queue.as_str().into(), QueueDeclareOptions::durable(), stream()).await;
        declared.expect("a stream");
        scene.client.publish(queue, b"from before").await;
        let consumer = Consumer::start(&scene.settings);
        let named = |status: &PodStatus| {
            let fault = status.broker.fault();
            !status.consuming && fault.is_some_and(|fault| fault.reason == Reason::StreamNotSupported)
        };
        let status = consumer.status_is("to refuse the stream", LIMIT, named).await;
        assert_eq!(status.in_flight, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_another_consumer_or_connection_has_for_itself_is_named() {
    for version in ALL {
        let broker = Broker::shared(version).await;
        let address = broker.tenant("in-use");
        let plain = plainly(&address).await;
        let channel = plain.create_channel().await.expect("a channel");
        let options = QueueDeclareOptions::durable();
        channel.queue_declare("used".into(), options, FieldTable::default()).await.expect("a queue");
        let options = QueueDeclareOptions { exclusive: true, ..options };
        channel.queue_declare("locked".into(), options, FieldTable::default()).await.expect("a queue");
        let options = BasicConsumeOptions { exclusive: true, ..BasicConsumeOptions::default() };
        let consuming = channel.basic_consume("used".into(), "old".into(), options, FieldTable::default()).await;
        let _consuming = consuming.expect("a consumer");

        let connection = Connection::open(&address, "integration tests").await.expect("a connection");
        let consumes = async |queue: &str| connection.channel().await.expect("a channel").consume(queue, "t", 1).await;
        refused(consumes("used").await, Reason::QueueInUse, "another consumer");
        refused(consumes("locked").await, Reason::QueueInUse, "without `exclusive`");
        refused(connection.depth("locked").await, Reason::QueueInUse, "without `exclusive`");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_of_connections_is_named() {
    for version in ALL {
        let broker = Broker::shared(version).await;
        let connects = async |address: &BrokerAddress| Connection::open(address, "integration tests").await;
        let of_user = broker.tenant("limited-user");
        broker.control(&["set_user_limits", "limited-user", r#"{"max-connections": 0}"#]);
        refused(connects(&of_user).await, Reason::ConnectionLimit, "rabbitmqctl set_user_limits");
        let of_vhost = broker.tenant("limited-vhost");
        broker.control(&["set_vhost_limits", "--vhost", "limited-vhost", r#"{"max-connections": 0}"#]);
        refused(connects(&of_vhost).await, Reason::ConnectionLimit, "rabbitmqctl set_user_limits");
        broker.control(&["clear_user_limits", "limited-user", "all"]);
        connects(&of_user).await.expect("no limit any more");
    }
}
