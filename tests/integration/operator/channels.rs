//! The operator opens a channel for each queue, and the broker closes it if the queue does not exist. However many
//! channels that takes, no pipeline sees the error of another.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::{Value, json};

use servers::broker::{Broker, Version};
use servers::client::{Client, QueueType};
use servers::objects;
use servers::operator::{self, until};
use support::api_server::ApiServer;

/// Fewer channels than pipelines.
const CHANNEL_MAX: usize = 24;

const FOREST: &str = "forest";

fn pipeline(queue: &str) -> Value {
    let changes = json!({
        "source": { "rabbitmq": {
            "queue": queue, "vhost": "channels", "rabbitmqClusterReference": objects::connection_secret("broker"),
        } },
        "scaling": { "pollInterval": "500ms" },
    });
    objects::pipeline(FOREST, queue, &changes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_queues_use_up_channels_and_concern_no_other_pipeline() {
    let broker = Broker::own_with(Version::Four, &format!("channel_max = {CHANNEL_MAX}\n")).await;
    let address = broker.tenant("channels");
    let device = Client::connect(&address).await.expect("a connection");
    let there: Vec<String> = (0..40).map(|number| format!("there-{number}")).collect();
    let missing: Vec<String> = (0..8).map(|number| format!("missing-{number}")).collect();
    for queue in &there {
        device.declare(queue, QueueType::Classic).await;
    }
    let port = address.port.to_string();
    let keys = [("host", "127.0.0.1"), ("port", &*port), ("username", "channels"), ("password", "channels")];
    let (first, last) = there.split_at(20);
    let pipelines = first.iter().chain(&missing).map(|queue| pipeline(queue)).collect();
    let (server, client) = ApiServer::start(pipelines, vec![objects::secret(FOREST, "broker", &keys)], vec![]).await;
    let seen = RefCell::new(BTreeSet::new());
    let is_well = |queue: &String| {
        let found = server.condition(queue, "BrokerReachable");
        let is_well = found.starts_with("True");
        seen.borrow_mut().extend(found.starts_with("False").then_some(found));
        is_well && server.condition(queue, "QueueFound").starts_with("True")
    };
    operator::during(client, async {
        until("queues that exist", || first.iter().all(is_well)).await;
        let closed = || broker.log().matches("caused a channel exception not_found").count();
        until("all channels of a few connections", || first.iter().all(is_well) && closed() > 3 * CHANNEL_MAX).await;
        last.iter().for_each(|queue| drop(server.put("imagepipelines", pipeline(queue))));
        until("more queues", || there.iter().all(is_well)).await;
        until("the missing queues", || {
            missing.iter().all(|queue| server.condition(queue, "QueueFound").starts_with("False QueueNotFound"))
        })
        .await;
    })
    .await;
    assert_eq!(seen.into_inner(), BTreeSet::new(), "what a pipeline said of the broker");
}
