//! Images of every kind that publishers send are stored, from each RabbitMQ version.

use crate::consumer_process::Consumer;
use crate::scene::Scene;
use servers::broker::{Source, Version};
use support::eventually::LIMIT;
use support::images::{Sample, samples};

async fn travel(name: &str, source: impl Into<Source>) {
    let mut scene = Scene::new(name, source).await;
    scene.settings.prefix = "tiles/raw-".to_owned();
    let mut images = samples(40);
    // Names that break a signature or a path if they are encoded twice.
    for (image, name) in
        images.iter_mut().zip(["north/7.png", "a b+c%20d.png", "Wälder/Förde=&?#.png", "x:y,z~(1)!.jpg"])
    {
        image.name = name.to_owned();
    }
    let (before, after) = images.split_at(30);
    scene.publish(before).await;
    let consumer = Consumer::consuming(&scene.settings).await;
    scene.publish(after).await;
    scene.stores(&images, LIMIT).await;
    for Sample { name, .. } in images.iter().take(5) {
        let key = format!("{}{name}", scene.settings.prefix);
        let object = scene.store.head(&scene.settings.bucket, &key).await;
        assert_eq!(object.content_type.as_deref(), Some("image/png"), "{key}");
        let digest = object.metadata.and_then(|metadata| metadata.get("image-pipeline-digest").cloned());
        assert!(digest.is_some_and(|digest| digest.len() == 64), "{key} has its digest");
    }
    let status = consumer.status_is("to count all", LIMIT, |status| status.processed == 40).await;
    assert_eq!((status.parked, status.last_error), (0, None));
    assert_eq!(consumer.get("/readyz").await.expect("an answer").0, 200);
    assert_eq!(consumer.get("/livez").await.expect("an answer").0, 200);
    counts_in_metrics(&consumer, 40).await;
    scene.ends_with_parked(consumer, 0).await;
}

async fn counts_in_metrics(consumer: &Consumer, stored: u64) {
    let (code, metrics) = consumer.get("/metrics").await.expect("an answer");
    assert_eq!(code, 200);
    let counted = metrics
        .lines()
        .filter(|line| line.starts_with("image_pipeline_messages_total{"))
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok())
        .sum::<u64>();
    assert_eq!(counted, stored, "{metrics}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_of_every_kind_travel_from_a_classic_queue() {
    travel("happy-classic", Version::Three).await;
}

/// RabbitMQ 4 has another implementation of classic queues than 3.10.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_of_every_kind_travel_from_a_classic_queue_of_rabbitmq_4_0() {
    travel("happy-classic-4-0", Source::classic(Version::Four)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_of_every_kind_travel_from_a_classic_queue_of_rabbitmq_4_3() {
    travel("happy-classic-4-3", Source::classic(Version::FourThree)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_of_every_kind_travel_from_a_quorum_queue() {
    travel("happy-quorum", Version::Four).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_of_every_kind_travel_from_a_quorum_queue_of_rabbitmq_4_3() {
    travel("happy-quorum-4-3", Version::FourThree).await;
}
