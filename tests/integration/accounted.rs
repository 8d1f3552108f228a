//! A scene with full accounting: taps before RabbitMQ and S3, a publisher that records every message in a ledger,
//! and the final account. The account reads the taps, the bucket and the queues, never the consumer's own status.

use super::scene::Scene;
use accounting::account::Account;
use accounting::amqp_tap;
use accounting::ledger::{Entry, Ledger};
use accounting::pixels;
use accounting::publisher::Publisher;
use accounting::read_back::{Buckets, Found, messages};
use accounting::store_tap::StoreTap;
use accounting::wire::{Event, Wire};
use servers::broker::{Broker, Source};
use support::images::Sample;
use support::port::Port;
use support::proxy::Proxy;

/// A scene whose AMQP and S3 traffic is recorded.
pub struct Accounted {
    /// Its consumers connect through the taps.
    pub scene: Scene,
    pub broker: Proxy,
    pub store: StoreTap,
    pub ledger: Ledger,
    /// Events that both taps recorded.
    pub wire: Wire,
    /// URI of the tap before RabbitMQ.
    pub uri: String,
    publisher: Publisher,
}

impl Accounted {
    /// Uses a shared broker; creates the queue and the bucket.
    pub async fn new(name: &str, source: impl Into<Source>) -> Self {
        let source = source.into();
        let mut scene = Scene::new(name, source).await;
        let (broker, wire, ledger) = (Broker::shared(source.version).await, Wire::default(), Ledger::default());
        let tap = amqp_tap::start(Port::reserve(), broker.listener(), &wire);
        let store = StoreTap::start(Port::reserve(), scene.store.address(), &wire);
        let mut through = broker.address();
        through.port = tap.address().port();
        scene.settings.write_broker_secret(&through);
        scene.settings.endpoint = store.url();
        let uri = Broker::uri(tap.address());
        let publisher = Publisher::new(&uri, &ledger);
        Self { scene, broker: tap, store, ledger, wire, uri, publisher }
    }

    /// Publishes images. An image without a confirm counts as an attempt.
    pub async fn publish(&self, samples: &[Sample]) {
        for sample in samples {
            let digest = pixels::expected(&sample.file).expect("an image of our own");
            let settings = &self.scene.settings;
            let entry = Entry::good(&settings.queue, &settings.bucket, &settings.prefix, &sample.name, digest);
            drop(self.publisher.publish(entry, &sample.body()).await);
        }
    }

    /// Publishes a message that consumers must park with `reason`.
    pub async fn publish_bad(&self, name: &str, body: &[u8], reason: &str) {
        let settings = &self.scene.settings;
        let entry = Entry::bad(&settings.queue, &settings.bucket, name, reason);
        drop(self.publisher.publish(entry, body).await);
    }

    /// Number of uploads that S3 accepted, including uploads whose answer was lost.
    pub fn uploads(&self) -> usize {
        self.wire.events().iter().filter(|event| matches!(event, Event::Put { status: 200, .. })).count()
    }

    /// The final account. Call it after every consumer has ended.
    pub async fn account(&self) -> Account {
        let (settings, store) = (&self.scene.settings, self.scene.store);
        let client = store.client(&format!("http://{}", store.address()));
        let found = Found {
            stored: Buckets::of(client).stored(&settings.bucket).await,
            parked: messages(&self.uri, &settings.parking).await,
            queued: messages(&self.uri, &settings.queue).await,
        };
        Account::of(&self.ledger.attempts(), &found, &self.wire.events())
    }
}
