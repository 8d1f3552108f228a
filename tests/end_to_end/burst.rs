//! The main case: a burst arrives, pods start, every image is stored with its pixels, a bad message is parked with
//! its reason, the pods end, and a deleted pipeline leaves nothing behind.

use std::time::Duration;

use accounting::account::Account;
use accounting::ledger::{Entry, Ledger};
use accounting::pixels;
use accounting::publisher::Publisher;
use accounting::read_back::{self, Buckets, Found};
use servers::bucket::Storage;
use servers::cluster::{Namespace, way_to_console};
use servers::messages::{self, Messages};
use servers::pipeline::{NAMED_WITHIN, Pipeline};
use support::eventually::{LIMIT, equal, eventually};

const TILES: u32 = 59;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
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

    let ledger = Ledger::default();
    let publisher = Publisher::new(&messages.uri, &ledger);
    for index in 0..TILES {
        let (name, file) = (messages::tiles(320).name(index), messages::tiles(320).file(index).expect("a PNG"));
        let entry = Entry::good("burst", "burst", "tiles/", &name, pixels::expected(&file).expect("an image"));
        publisher.publish(entry, &messages::tile(index)).await.expect("confirmed");
    }
    let bad = b"{\"image\": \"not base64!\", \"image_metadata\": {\"image_name\": \"bad.png\"}}";
    publisher.publish(Entry::bad("burst", "burst", "bad.png", "InvalidBase64"), bad).await.expect("confirmed");

    apply(0);
    let first = eventually("a size", NAMED_WITHIN, async || pipeline.size().ok_or("no Deployment".to_owned())).await;
    assert_eq!(first, 3, "60 messages, 20 a pod: the first size is the final one");
    eventually("all images", Duration::from_secs(120), async || {
        equal(storage.keys("burst").await.len(), TILES as usize)
    })
    .await;
    eventually("the size to be 0 again", LIMIT, async || equal(pipeline.size(), Some(0))).await;
    let found = Found {
        stored: Buckets::of(storage.client.clone()).stored("burst").await,
        parked: read_back::messages(&messages.uri, "burst.parked").await,
        queued: read_back::messages(&messages.uri, "burst").await,
    };
    let account = Account::of(&ledger.attempts(), &found, &[]);
    assert_eq!((account.stored, account.parked, account.queued, account.faults()), (TILES as usize, 1, 0, vec![]));
    pipeline.shows("Ready", "True", "Idle", LIMIT).await;
    is_on_the_console().await;
    apply(1);
    pipeline.shows("ConsumersAvailable", "True", "ConsumersReady", LIMIT).await;

    namespace.kubectl(&["delete", "imgp", "burst", "--timeout=20s"]);
    eventually("nothing to be left", LIMIT, async || match (pipeline.size(), pipeline.pods()) {
        (None, pods) if pods.is_empty() => Ok(()),
        left => Err(format!("{left:?}")),
    })
    .await;
}

/// The page counts every image that the pods reported, and names the next step for the parked message.
async fn is_on_the_console() {
    let way = way_to_console();
    let url = format!("http://{}:{}/?find=burst", way.host, way.port);
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    eventually("the burst to be on the console", LIMIT, async || {
        let page = client.get(&url).send().await.map_err(|error| error.to_string())?;
        let page = page.text().await.map_err(|error| error.to_string())?;
        let expected = [
            "<article id=\"end-to-end/burst\"",
            &format!("<b>{TILES} this hour</b>"),
            "1 message waits in parking queue &#34;burst.parked&#34;",
            "image-pipeline parked list --queue burst.parked",
        ];
        let missing: Vec<_> = expected.into_iter().filter(|text| !page.contains(*text)).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?} are not in {page}")) }
    })
    .await;
}
