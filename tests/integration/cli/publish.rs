//! `image-pipeline publish`: its messages are confirmed and persistent, and a consumer stores their images.

use std::path::Path;
use std::process::{Command, Output};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image_pipeline::message::Message;

use crate::consumer_process::{Consumer, Settings};
use crate::scene::Scene;
use servers::broker::Version;
use support::eventually::LIMIT;
use support::images::samples;
use support::process::directory;

/// Runs `image-pipeline publish` to the queue of `settings`.
fn publish(settings: &Settings, what: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_image-pipeline"));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).arg("publish").args(what);
    command.args(["--queue", &settings.queue, "--vhost", &settings.vhost]);
    command.arg("--broker-secret").arg(settings.broker_secret()).output().expect("the program")
}

fn assert_published(output: &Output) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {error}", output.status);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_of_images_travels_into_the_bucket() {
    let scene = Scene::new("publish-directory", Version::Three).await;
    let files = directory("images");
    let mut images = samples(15);
    images[1].name = "north/plot 4/tile.jpg".to_owned();
    for image in &images {
        let path = files.join(&image.name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        std::fs::write(path, &image.file).expect("a file");
    }
    std::fs::write(files.join("notes.txt"), "no image").expect("a file");
    assert_published(&publish(&scene.settings, &[files.to_str().expect("text")]));
    scene.client.holds(&scene.settings.queue, 15).await;
    let consumer = Consumer::consuming(&scene.settings).await;
    scene.stores(&images, LIMIT).await;
    scene.ends_with_parked(consumer, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sample_tiles_are_images_of_the_size_asked_for() {
    let scene = Scene::new("publish-sample", Version::Four).await;
    let output = publish(&scene.settings, &["--sample", "5", "--size", "320x240"]);
    assert_published(&output);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let first = said.split("message ids ").nth(1).and_then(|rest| rest.split("-0 to ").next()).expect(&said);
    scene.client.holds(&scene.settings.queue, 5).await;
    let mut names = std::collections::BTreeSet::new();
    for delivery in scene.client.take(&scene.settings.queue).await {
        assert_eq!(*delivery.properties.delivery_mode(), Some(2), "persistent");
        let message: Message<'_> = serde_json::from_slice(&delivery.data).expect("a message");
        let file = STANDARD.decode(message.image.as_bytes()).expect("base64");
        let image = image::load_from_memory(&file).expect("an image");
        assert_eq!((image.width(), image.height()), (320, 240));
        let name = message.image_metadata.image_name.into_owned();
        let id = delivery.properties.message_id().as_ref().expect("an id").as_str();
        assert_eq!(name, format!("sample-0000{}.png", id.strip_prefix(&format!("{first}-")).expect(id)));
        names.insert(name);
    }
    assert_eq!(names.len(), 5, "{names:?}");
}

/// The error names the cause, and nothing is published.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_published_is_said() {
    let mut scene = Scene::new("publish-refused", Version::Four).await;
    let refused = |settings: &Settings, expected: &str| {
        let output = publish(settings, &["--sample", "1"]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains(expected), "{}: {error}", output.status);
        assert!(!error.contains("guest-password"), "{error}");
        let line = error.lines().find(|line| line.starts_with("Error: ")).expect("an error");
        assert!(!line.contains("source.rabbitmq") && !error.contains("Caused by"), "a publisher has no spec: {error}");
    };
    let output = publish(&scene.settings, &[Path::new("/nonexistent").to_str().expect("text")]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nonexistent"));

    let queue = std::mem::replace(&mut scene.settings.queue, "no-such-queue".to_owned());
    refused(&scene.settings, "queue \"no-such-queue\" does not exist; create it, or correct --queue");
    scene.settings.queue = queue;
    let wrong = image_pipeline::rabbitmq::address::BrokerAddress {
        password: "guest-password".to_owned(),
        ..servers::broker::Broker::shared(Version::Four).await.address()
    };
    scene.settings.write_broker_secret(&wrong);
    refused(&scene.settings, "user \"guest\"; check --username and the password");
    scene.client.holds(&scene.settings.queue, 0).await;
}
