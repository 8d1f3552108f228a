//! The parts of one test, under one name: a queue, its parking queue, a bucket and the consumer's settings. Tests
//! run in parallel and share no queue or bucket.

use std::time::Duration;

use image_pipeline::rabbitmq::address::BrokerAddress;

use super::consumer_process::{Consumer, GRACE_SECONDS, Settings};
use servers::broker::{Broker, Source};
use servers::client::Client;
use servers::store::Store;
use support::eventually::eventually;
use support::images::Sample;
use support::proxy::{Mode, Proxy};

/// A queue and a bucket, with access to both.
pub struct Scene {
    /// The test's own connection.
    pub client: Client,
    /// The S3 server.
    pub store: &'static Store,
    /// Configuration of the consumer.
    pub settings: Settings,
}

impl Scene {
    /// Uses a shared broker; creates the queue and the bucket.
    pub async fn new(name: &str, source: impl Into<Source>) -> Self {
        let source = source.into();
        let broker = Broker::shared(source.version).await;
        Self::at(name, source, &broker.address()).await
    }

    /// As `new`, for the test's own broker or user.
    pub async fn at(name: &str, source: impl Into<Source>, address: &BrokerAddress) -> Self {
        let scene = Self::bare(name, address).await;
        scene.client.declare(&scene.settings.queue, source.into().queue_type).await;
        scene.store.create_bucket(&scene.settings.bucket);
        scene
    }

    /// Creates neither the queue nor the bucket.
    pub async fn bare(name: &str, address: &BrokerAddress) -> Self {
        let client = Client::connect(address).await.expect("a connection");
        let store = Store::shared().await;
        let settings = Settings::new(name, address, format!("http://{}", store.address()), &store.root());
        Self { client, store, settings }
    }

    /// Puts a proxy before S3.
    pub fn through_proxy(&mut self, mode: Mode) -> Proxy {
        let proxy = Proxy::start(self.store.address(), mode);
        self.settings.endpoint = format!("http://{}", proxy.address());
        proxy
    }

    /// Publishes images, confirmed.
    pub async fn publish(&self, samples: &[Sample]) {
        for sample in samples {
            self.client.publish(&self.settings.queue, &sample.body()).await;
        }
    }

    /// Waits until the bucket holds exactly these images, and compares every pixel.
    pub async fn stores(&self, samples: &[Sample], limit: Duration) {
        let Settings { bucket, prefix, .. } = &self.settings;
        let mut expected: Vec<String> = samples.iter().map(|sample| format!("{prefix}{}", sample.name)).collect();
        expected.sort();
        let objects = eventually(&format!("{} objects in the bucket", expected.len()), limit, async || {
            let objects = self.store.objects(bucket);
            let missing: Vec<&String> = expected.iter().filter(|key| !objects.contains_key(*key)).collect();
            if missing.is_empty() { Ok(objects) } else { Err(format!("{} missing: {missing:?}", missing.len())) }
        })
        .await;
        assert_eq!(objects.keys().collect::<Vec<_>>(), expected.iter().collect::<Vec<_>>(), "no other objects");
        for sample in samples {
            let object = &objects[&format!("{prefix}{}", sample.name)];
            assert_eq!(image::guess_format(object).expect("an image"), image::ImageFormat::Png, "{}", sample.name);
            let stored = image::load_from_memory(object).expect("a whole PNG");
            assert!(stored == sample.pixels(), "{} has other pixels than were published", sample.name);
        }
    }

    /// Ends the consumer as Kubernetes does. Checks that the queue is empty and that this number of messages is
    /// parked.
    pub async fn ends_with_parked(&self, mut consumer: Consumer, parked: u32) {
        let idle = "to hold nothing";
        consumer.status_is(idle, Duration::from_secs(10), |status| status.in_flight == 0).await;
        consumer.terminate();
        assert_eq!(consumer.exit_code(Duration::from_secs(GRACE_SECONDS.into())).await, 0, "{}", consumer.log());
        let Settings { queue, parking, .. } = &self.settings;
        self.client.holds(queue, 0).await;
        self.client.holds(parking, parked).await;
    }
}
