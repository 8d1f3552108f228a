//! A scene with an accountant: taps before its broker and its store, a publisher that keeps the
//! ledger, and the account at the end. It must never look at what the consumer says of itself.

use super::scene::Scene;
use accounting::account::Account;
use accounting::amqp_tap;
use accounting::ledger::{Entry, Ledger};
use accounting::pixels;
use accounting::publisher::Publisher;
use accounting::read_back::{Buckets, Found, messages};
use accounting::store_tap::StoreTap;
use accounting::wire::{Event, Wire};
use servers::broker::{Broker, Version};
use support::images::Sample;
use support::port::Port;
use support::proxy::Proxy;

/// A scene whose consumers are overheard.
pub struct Accounted {
    /// The scene; its consumers go through the taps.
    pub scene: Scene,
    /// The tap before the broker.
    pub broker: Proxy,
    /// The tap before the store.
    pub store: StoreTap,
    /// What was published.
    pub ledger: Ledger,
    /// What was seen.
    pub wire: Wire,
    /// The URI of the tap before the broker.
    pub uri: String,
    publisher: Publisher,
}

impl Accounted {
    /// On a shared broker, with queue and bucket made.
    pub async fn new(name: &str, version: Version) -> Self {
        let mut scene = Scene::new(name, version).await;
        let (broker, wire, ledger) = (Broker::shared(version).await, Wire::default(), Ledger::default());
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

    /// Publishes images; those that the broker does not confirm are attempts.
    pub async fn publish(&self, samples: &[Sample]) {
        for sample in samples {
            let digest = pixels::expected(&sample.file).expect("an image of our own");
            let settings = &self.scene.settings;
            let entry = Entry::good(&settings.queue, &settings.bucket, &settings.prefix, &sample.name, digest);
            drop(self.publisher.publish(entry, &sample.body()).await);
        }
    }

    /// Publishes a message that consumers must park with this reason.
    pub async fn publish_bad(&self, name: &str, body: &[u8], reason: &str) {
        let settings = &self.scene.settings;
        let entry = Entry::bad(&settings.queue, &settings.bucket, name, reason);
        drop(self.publisher.publish(entry, body).await);
    }

    /// How many uploads the store has taken, whether it could say so or not.
    pub fn uploads(&self) -> usize {
        self.wire.events().iter().filter(|event| matches!(event, Event::Put { status: 200, .. })).count()
    }

    /// What it comes to. No consumer may be there any more.
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
