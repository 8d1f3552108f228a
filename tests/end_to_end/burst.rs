//! The main job: a burst comes, pods come, every image is in the bucket with its pixels, what can't
//! be stored is parked with its reason, the pods go, and a deleted pipeline leaves nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use super::bucket::Storage;
use super::cluster::Namespace;
use super::eventually::{LIMIT, equal, eventually};
use super::messages::{self, Messages};
use super::pipeline::{NAMED_WITHIN, Pipeline};

const TILES: u32 = 59;

#[tokio::test]
async fn a_burst_ends_in_the_bucket() {
    let namespace = Namespace::with_parts("end-to-end");
    let (messages, storage) = (Messages::of(&namespace).await, Storage::of(&namespace));
    storage.create("burst").await;
    messages.declare("burst").await;
    let pipeline = Pipeline { namespace: &namespace, name: "burst" };
    let apply = |min: u8| {
        let scaling = format!("minReplicas: {min}, maxReplicas: 4, messagesPerReplica: 20, scaleDownAfter: 5s");
        let s3 = "bucket: burst, prefix: tiles/, credentialsSecret: {name: s3}";
        pipeline.apply("queue: burst, rabbitmqClusterReference: {name: rabbit}", s3, &scaling);
    };

    let mut published = BTreeMap::new();
    for index in 0..TILES {
        let body = messages::tile(index);
        messages.publish("burst", &body).await;
        published.insert(format!("tiles/{}", messages::tiles(320).name(index)), pixels_of_message(&body));
    }
    messages.publish("burst", b"{\"image\": \"not base64!\", \"image_metadata\": {\"image_name\": \"bad.png\"}}").await;

    apply(0);
    let first = eventually("a size", NAMED_WITHIN, async || pipeline.size().ok_or("no Deployment".to_owned())).await;
    assert_eq!(first, 3, "60 messages, 20 a pod: the first size is the final one");
    eventually("all images", Duration::from_secs(120), async || {
        equal(storage.keys("burst").await.len(), published.len())
    })
    .await;

    let stored = storage.objects("burst").await;
    let stored: BTreeMap<_, _> = stored.into_iter().map(|(key, png)| (key, pixels(&png))).collect();
    assert!(stored == published, "keys {:?}", stored.keys().collect::<Vec<_>>());
    let parked = messages.take_parked("burst.parked").await;
    assert_eq!(parked.iter().map(|(_, reason)| reason.as_str()).collect::<Vec<_>>(), ["InvalidBase64"]);
    assert!(parked[0].0.starts_with(b"{\"image\": \"not base64!\""), "the body is untouched");

    eventually("the size to be 0 again", LIMIT, async || equal(pipeline.size(), Some(0))).await;
    pipeline.shows("Ready", "True", "Idle", LIMIT).await;
    apply(1);
    pipeline.shows("ConsumersAvailable", "True", "ConsumersReady", LIMIT).await;

    namespace.kubectl(&["delete", "imgp", "burst", "--timeout=20s"]);
    eventually("nothing to be left", LIMIT, async || match (pipeline.size(), pipeline.pods()) {
        (None, pods) if pods.is_empty() => Ok(()),
        left => Err(format!("{left:?}")),
    })
    .await;
}

fn pixels_of_message(body: &[u8]) -> Vec<u8> {
    let message: image_pipeline::message::Message<'_> = serde_json::from_slice(body).expect("a message");
    let file = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, message.image.as_bytes());
    pixels(&file.expect("base64"))
}

fn pixels(file: &[u8]) -> Vec<u8> {
    image::load_from_memory(file).expect("an image").into_rgba8().into_raw()
}
