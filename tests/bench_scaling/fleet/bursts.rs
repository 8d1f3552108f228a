//! The time from the first message in an empty queue to the new size of its pipeline.

use std::time::Instant;

use futures::{StreamExt as _, stream};

use super::super::broker::tiny;
use super::super::figures::phases;
use super::super::follow::{Size, Sizes};
use super::scene::{AT_ONCE, LIMIT, Scene, name, namespace_of};
use super::{PODS, POLL_INTERVAL};

/// Messages in one queue: twenty pods at five messages each.
const MESSAGES: usize = 100;

/// The size for them.
const SIZE: i32 = 20;

/// Fills the queues of some pipelines at moments spread over the poll interval. Returns the seconds from the first
/// confirm to the size in a watch.
pub async fn run(scene: &Scene, bursts: usize) -> Vec<f64> {
    let message = tiny();
    let one = async |(number, phase): (usize, f64)| {
        let sizes = Sizes::of(&scene.client, &namespace_of(number), &name(number));
        let first = |sizes: &Vec<Size>| sizes.last().copied();
        let before = sizes.until("the Deployment", LIMIT, first).await;
        assert_eq!(before.asked, PODS as i32, "{}", name(number));
        tokio::time::sleep(POLL_INTERVAL.mul_f64(phase)).await;
        scene.queues.publish(&name(number), &message).await;
        let confirmed = Instant::now();
        for _ in 1..MESSAGES {
            scene.queues.publish(&name(number), &message).await;
        }
        let grown = |sizes: &Vec<Size>| sizes.iter().find(|size| size.asked == SIZE).copied();
        let grown = sizes.until("the size of a burst", LIMIT, grown).await;
        (grown.at - confirmed).as_secs_f64()
    };
    let numbers = phases(bursts).into_iter().enumerate();
    stream::iter(numbers).map(one).buffer_unordered(AT_ONCE).collect().await
}
