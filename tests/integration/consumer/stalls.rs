//! The connection stays while consuming ends: the queue forgets its consumer without notice, or the broker closes
//! only the channel. The consumer notices and starts again.

use std::time::Duration;

use image_pipeline::pod_status::{Fault, PodStatus};
use image_pipeline::reason::Reason;

use crate::consumer_process::Consumer;
use crate::scene::Scene;
use servers::broker::{Broker, Version};
use support::eventually::LIMIT;
use support::images::samples;
use support::proxy::Mode;

/// Detecting a stall takes two checks, half a minute apart.
const KNOWN: Duration = Duration::from_secs(75);

/// Work resumes within this time.
const HEALED: Duration = Duration::from_secs(15);

/// Erlang expressions that tell the queue's process, but not the channel, that the consumer has canceled.
const CLASSIC: &str = "gen_server2:call(amqqueue:get_pid(Q), {basic_cancel, Channel, Tag, undefined, <<\"tests\">>}).";
const QUORUM: &str = "ra:process_command(amqqueue:get_pid(Q), rabbit_fifo:make_checkout({Tag, Channel}, cancel, #{})).";

async fn forgotten(name: &str, version: Version, forget: &str) {
    let scene = Scene::new(name, version).await;
    let broker = Broker::shared(version).await;
    let images = samples(6);
    let consumer = Consumer::consuming(&scene.settings).await;
    let find = format!("{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"/\">>, queue, <<\"{name}\">>))");
    let consumers = "[C] = rabbit_amqqueue:consumers(Q), Channel = element(1, C), Tag = element(2, C)";
    broker.control(&["eval", &format!("{find}, {consumers}, {forget}")]);
    scene.publish(&images).await;
    scene.client.holds(&scene.settings.queue, 6).await;
    let status = consumer.status().await.expect("a status");
    assert!(status.consuming && status.in_flight == 0 && status.last_error.is_none(), "not yet known: {status:?}");

    let stalled = |fault: &Fault| fault.reason == Reason::ConsumerStalled;
    let known = |status: &PodStatus| status.last_error.as_ref().is_some_and(stalled);
    consumer.status_is("to report the stall", KNOWN, known).await;
    scene.stores(&images, HEALED).await;
    consumer.status_is("to consume", HEALED, |status| status.consuming && status.broker.fault().is_none()).await;
    assert!(consumer.is_running(), "recovered without a restart");
    scene.ends_with_parked(consumer, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_its_queue_forgets_begins_anew() {
    tokio::join!(
        forgotten("forgotten-classic", Version::Three, CLASSIC),
        forgotten("forgotten-quorum", Version::Four, QUORUM)
    );
}

/// RabbitMQ closes a channel whose acknowledgements take longer than its limit (half an hour by default). A slow S3
/// exceeds the limit: the channel closes, the connection stays, and the messages are redelivered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_that_the_broker_closes_is_opened_anew() {
    let broker = Broker::own(Version::Four).await;
    let limits = "application:set_env(rabbit, consumer_timeout, 1000), \
                  application:set_env(rabbit, channel_tick_interval, 200).";
    broker.control(&["eval", limits]);
    let mut scene = Scene::at("acknowledgement-timeout", Version::Four, &broker.address()).await;
    let proxy = scene.through_proxy(Mode::HoldAnswers);
    let images = samples(6);
    scene.publish(&images).await;
    let consumer = Consumer::start(&scene.settings);
    let timed_out = |fault: &Fault| fault.reason == Reason::ConnectionLost && fault.message.contains("timed out");
    let known = |status: &PodStatus| status.last_error.as_ref().is_some_and(timed_out);
    let status = consumer.status_is("to report the timeout", LIMIT, known).await;
    assert_eq!((status.processed, status.parked), (0, 0));
    proxy.set(Mode::Pass);
    consumer.status_is("to have stored all", HEALED, |status| status.processed == 6).await;
    scene.stores(&images, HEALED).await;
    assert!(consumer.is_running(), "recovered without a restart");
    scene.ends_with_parked(consumer, 0).await;
}
