//! Tests of the test tools: a test whose fault does not happen would pass for the wrong reason.

use futures::StreamExt as _;
use tokio::net::TcpStream;

use crate::accounted::Accounted;
use accounting::read_back::messages;
use servers::broker::{Broker, Version};
use servers::client::Client;
use servers::store::Store;
use support::eventually::{LIMIT, eventually};
use support::images::samples;
use support::proxy::{Mode, Proxy};

async fn health(proxy: &Proxy) -> Result<reqwest::StatusCode, reqwest::Error> {
    reqwest::get(format!("http://{}/health", proxy.address())).await.map(|answer| answer.status())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_proxy_refuses_holds_and_passes() {
    let proxy = Proxy::start(Store::shared().await.address(), Mode::Refuse);
    assert!(health(&proxy).await.expect_err("refused").is_connect());
    proxy.set(Mode::HoldAnswers);
    let answered = async {
        eventually("an answer to be held", LIMIT, async || if proxy.held() == 1 { Ok(()) } else { Err(String::new()) })
            .await;
        proxy.set(Mode::Pass);
        false
    };
    // The listener may need a moment to start.
    let asked =
        eventually("the proxy to listen", LIMIT, async || health(&proxy).await.map_err(|error| error.to_string()));
    let (code, early) = tokio::join!(asked, answered);
    assert!(code == 200 && !early);
}

async fn keeps_what_it_confirmed(version: Version) {
    let mut broker = Broker::own(version).await;
    let tenant = broker.tenant("keeper");
    Client::connect(&tenant).await.expect("a connection").declare("kept", version.queue_type()).await;
    // Both versions write a new queue's name to disk lazily. A broker that is killed within that half second does
    // not know the queue, or answers 0 forever. Stopping the application writes it immediately.
    broker.control(&["stop_app"]);
    assert!(Client::connect(&tenant).await.is_err());
    broker.control(&["start_app"]);
    let client = Client::connect(&tenant).await.expect("a connection");
    client.publish("kept", b"body").await;
    broker.kill();
    assert!(Client::connect(&tenant).await.is_err());
    broker.restart().await;
    let client = Client::connect(&tenant).await.expect("a connection");
    client.holds("kept", 1).await;
    assert_eq!(client.take("kept").await.remove(0).data, b"body");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_keep_what_they_confirmed() {
    tokio::join!(keeps_what_it_confirmed(Version::Three), keeps_what_it_confirmed(Version::Four));
}

/// The publisher survives every loss of its connection. It counts a message as confirmed only if the broker
/// confirmed it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_publisher_outlives_its_connections() {
    let accounted = Accounted::new("publisher", Version::Four).await;
    let (images, broker) = (samples(6), &accounted.broker);
    let queue = accounted.scene.settings.queue.clone();
    accounted.publish(&images[..1]).await;
    broker.close_all();
    // Sent by a connection whose end is not known yet, or by the next connection.
    accounted.publish(&images[1..2]).await;
    broker.set(Mode::Refuse);
    eventually("a broker that refuses", LIMIT, async || match TcpStream::connect(broker.address()).await {
        Ok(_) => Err(String::new()),
        Err(_) => Ok(()),
    })
    .await;
    tokio::join!(accounted.publish(&images[2..3]), async { broker.set(Mode::Pass) });
    broker.set(Mode::Blackhole);
    accounted.publish(&images[3..4]).await;
    broker.set(Mode::Pass);
    accounted.publish(&images[4..5]).await;
    let address = Broker::uri(Broker::shared(Version::Four).await.listener());
    let there = messages(&address, &queue).await.len();
    assert!(there >= 3, "{there}");
    assert_eq!(messages(&address, &queue).await.len(), there, "reading must leave the messages in the queue");
    accounted.scene.client.delete(&queue).await;
    accounted.publish(&images[5..6]).await;
    let confirmed: Vec<bool> = accounted.ledger.attempts().iter().map(|attempt| attempt.confirmed).collect();
    assert!(confirmed[0]);
    assert_eq!(confirmed[2..], [true, false, true, false]);
}

/// A quorum queue of RabbitMQ stops at 2,000 unacknowledged messages of a consumer that sets no prefetch.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_accountant_reads_a_long_queue_to_its_end() {
    const MESSAGES: u32 = 2_100;
    let broker = Broker::shared(Version::Four).await;
    let client = Client::connect(&broker.address()).await.expect("a connection");
    client.declare("long", Version::Four.queue_type()).await;
    futures::stream::iter(0..MESSAGES).for_each_concurrent(100, |_| client.publish("long", b"body")).await;
    client.holds("long", MESSAGES).await;
    assert_eq!(messages(&Broker::uri(broker.listener()), "long").await.len(), MESSAGES as usize);
    client.holds("long", MESSAGES).await;
    client.delete("long").await;
}
