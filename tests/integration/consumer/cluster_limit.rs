//! The delivery limit on a cluster of three RabbitMQ 4.3 nodes. A quorum queue with the default limit loses no
//! message when its leaders are killed under load, or when messages return more often than the limit allows.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use image_pipeline::rabbitmq::address::BrokerAddress;

use crate::consumer_process::Consumer;
use crate::scene::Scene;
use accounting::account::Account;
use accounting::amqp_tap;
use accounting::ledger::{Entry, Ledger};
use accounting::pixels;
use accounting::publisher::Publisher;
use accounting::read_back::{Buckets, Found, messages};
use accounting::store_faults::Fault;
use accounting::store_tap::StoreTap;
use accounting::wire::{Event, Wire};
use servers::broker::{Broker, Version};
use servers::broker_cluster::Cluster;
use servers::client::Client;
use support::eventually::{LIMIT, eventually};
use support::images::{Sample, samples};
use support::port::Port;
use support::proxy::Proxy;

/// A cluster with a queue and a bucket. Consumer and publisher connect through one address and a recording tap.
struct Clustered {
    cluster: Cluster,
    scene: Scene,
    /// One address for all nodes.
    front: BrokerAddress,
    tap: Proxy,
    store: StoreTap,
    ledger: Ledger,
    wire: Wire,
    publisher: Publisher,
    proxy: Proxy,
}

impl Clustered {
    async fn start(name: &str) -> Self {
        let cluster = Cluster::start(Version::FourThree).await;
        let (wire, ledger, proxy) = (Wire::default(), Ledger::default(), cluster.front());
        let front = BrokerAddress { port: proxy.address().port(), ..cluster.nodes[0].address() };
        let mut scene = Scene::at(name, Version::FourThree, &front).await;
        let tap = amqp_tap::start(Port::reserve(), proxy.address(), &wire);
        let store = StoreTap::start(Port::reserve(), scene.store.address(), &wire);
        let through = BrokerAddress { port: tap.address().port(), ..front.clone() };
        scene.settings.write_broker_secret(&through);
        scene.settings.endpoint = store.url();
        let publisher = Publisher::new(&Broker::uri(tap.address()), &ledger);
        Self { cluster, scene, front, tap, store, ledger, wire, publisher, proxy }
    }

    /// Waits for a condition on two counts: uploads that S3 accepted, and uploads that met a fault.
    async fn uploads(&self, what: &str, enough: impl Fn(usize, usize) -> bool) {
        eventually(what, LIMIT, async || {
            let (stored, met) = (stored(&self.wire), self.store.met());
            if enough(stored, met) { Ok(()) } else { Err(format!("{stored} stored, {met} begun")) }
        })
        .await;
    }

    /// Kills the leader while messages are in flight. Restarts the node after images were stored with a new leader.
    async fn replaces_leader(&mut self) {
        let before = stored(&self.wire);
        self.uploads("images to be stored by the leader", |stored, _| stored >= before + 5).await;
        let killed = self.cluster.kill_leader(&self.scene.settings.queue);
        let before = stored(&self.wire);
        self.uploads("images to be stored by another leader", |stored, _| stored >= before + 10).await;
        self.cluster.restart(killed).await;
    }

    /// Waits until every confirmed message is stored, ends the consumer, and counts bucket and queues.
    async fn account(mut self, consumer: Consumer) -> Account {
        self.scene.client = Client::connect(&self.front).await.expect("a connection");
        let (queue, client) = (&self.scene.settings.queue, &self.scene.client);
        eventually("an empty queue", LIMIT, async || {
            let (status, ready) = (consumer.status().await?, client.ready(queue).await?);
            if ready == 0 && status.in_flight == 0 { Ok(()) } else { Err(format!("{ready} {status:?}")) }
        })
        .await;
        self.scene.ends_with_parked(consumer, 0).await;
        let (settings, store) = (&self.scene.settings, self.scene.store);
        let front = Broker::uri(self.proxy.address());
        let found = Found {
            stored: Buckets::of(store.client(&format!("http://{}", store.address()))).stored(&settings.bucket).await,
            parked: messages(&front, &settings.parking).await,
            queued: messages(&front, &settings.queue).await,
        };
        Account::of(&self.ledger.attempts(), &found, &self.wire.events())
    }
}

/// Ledger entry of an image. Queue and bucket have this name.
fn entry(name: &str, image: &Sample) -> Entry {
    Entry::good(name, name, "", &image.name, pixels::expected(&image.file).expect("an image of our own"))
}

fn stored(wire: &Wire) -> usize {
    wire.events().iter().filter(|event| matches!(event, Event::Put { status: 200, .. })).count()
}

/// Publishes images one by one, each confirmed, about 30 ahead of the consumer at most, until `done`. Returns the
/// number of confirmed images.
async fn load(name: &str, publisher: Publisher, wire: Wire, done: &AtomicBool) -> usize {
    let images = samples(50);
    let rounds =
        (0..).flat_map(|round| images.iter().map(move |image| (format!("round-{round}/{}", image.name), image)));
    let mut confirmed = 0;
    for (key, image) in rounds.take_while(|_| !done.load(Ordering::SeqCst)) {
        let image = Sample { name: key, file: image.file.clone() };
        // A message without a confirm may or may not be in the queue.
        confirmed += usize::from(publisher.publish(entry(name, &image), &image.body()).await.is_ok());
        let behind = confirmed.saturating_sub(30);
        eventually("the consumer to follow", LIMIT, async || match stored(&wire) {
            stored if stored >= behind || done.load(Ordering::SeqCst) => Ok(()),
            stored => Err(format!("{stored} of {confirmed} stored")),
        })
        .await;
    }
    confirmed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaders_killed_under_load_lose_nothing() {
    const NAME: &str = "limit-leaders";
    let mut clustered = Clustered::start(NAME).await;
    clustered.store.set(Fault::Slow(Duration::from_millis(200)));
    let (publisher, wire, done) = (clustered.publisher.clone(), clustered.wire.clone(), AtomicBool::new(false));
    let consumer = Consumer::start(&clustered.scene.settings);
    let faults = async {
        for _ in 0..3 {
            clustered.replaces_leader().await;
        }
        done.store(true, Ordering::SeqCst);
    };
    let (confirmed, ()) = tokio::join!(load(NAME, publisher, wire, &done), faults);
    clustered.store.set(Fault::None);
    let account = clustered.account(consumer).await;
    assert_eq!((account.parked, account.queued, account.faults()), (0, 0, vec![]), "{account:?}");
    assert!(account.stored >= confirmed, "{confirmed} confirmed: {account:?}");
}

/// Closes more connections than the limit allows returns, and replaces the leader in between. The new leader keeps
/// the count.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_returned_more_often_than_the_limit_are_renewed_and_stored() {
    const RETURNS: usize = 22;
    let mut clustered = Clustered::start("limit-returns").await;
    clustered.store.set(Fault::Slow(Duration::from_secs(10)));
    let images = samples(5);
    for image in &images {
        let confirmed = clustered.publisher.publish(entry("limit-returns", image), &image.body()).await;
        confirmed.expect("confirmed");
    }
    let consumer = Consumer::start(&clustered.scene.settings);
    for number in 0..RETURNS {
        let before = clustered.store.met();
        clustered.uploads("an upload to begin", |_, met| met > before).await;
        if number == RETURNS / 4 {
            let killed = clustered.cluster.kill_leader(&clustered.scene.settings.queue);
            clustered.cluster.restart(killed).await;
        }
        clustered.tap.close_all();
    }
    clustered.store.set(Fault::None);
    clustered.uploads("all to be stored", |stored, _| stored >= images.len()).await;
    let wire = clustered.wire.clone();
    let account = clustered.account(consumer).await;
    assert_eq!((account.stored, account.parked, account.faults()), (images.len(), 0, vec![]), "{account:?}");
    let renewed = wire.events().iter().filter(|event| matches!(event, Event::Confirmed { renewed: true, .. })).count();
    assert!(renewed > 0, "no message was renewed");
}
