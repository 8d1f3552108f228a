//! The cost of idle consumers for RabbitMQ, by RabbitMQ's own counters: opens the sessions that this many pods
//! would hold on one queue. The queue stays empty.

use std::time::{Duration, Instant};

use futures::{StreamExt as _, stream};
use image_pipeline::rabbitmq::{Channel, Connection, Deliveries};

use super::broker::{Broker, QueueType};
use super::figures::{Figure, percentile};

const QUEUE: &str = "bench-scaling-consumers";

/// Prefetch of a consumer with concurrency 4.
const PREFETCH: u16 = 10;

/// The session of one pod.
type Session = (Connection, Channel, Deliveries);

/// Adds consumers up to each count, and returns the figures for each.
pub async fn consumers(broker: &Broker, time: Duration) -> Vec<Figure> {
    broker.declare(QUEUE, QueueType::Quorum).await;
    let before = broker.memory();
    let mut sessions: Vec<Session> = Vec::new();
    let mut figures = Vec::new();
    for (count, [bytes, cpu, depth]) in [
        (10, ["broker_10_consumers_bytes", "broker_10_consumers_cpu_percent", "depth_10_consumers_ms"]),
        (100, ["broker_100_consumers_bytes", "broker_100_consumers_cpu_percent", "depth_100_consumers_ms"]),
        (1000, ["broker_1000_consumers_bytes", "broker_1000_consumers_cpu_percent", "depth_1000_consumers_ms"]),
    ] {
        let more = stream::iter(sessions.len()..count).map(|number| open(broker, number)).buffer_unordered(20);
        sessions.extend(more.collect::<Vec<_>>().await);
        let (used, began) = (broker.busy(), Instant::now());
        tokio::time::sleep(time).await;
        let percent = (broker.busy() - used).as_secs_f64() / began.elapsed().as_secs_f64() * 100.0;
        figures.extend([
            Figure::without_target(bytes, meaning(count), broker.memory() - before),
            Figure::without_target(cpu, "  CPU use in percent of one core, idle", percent),
            Figure::without_target(depth, "  to read the queue's depth, median", read_depth(broker).await),
        ]);
    }
    futures::future::join_all(sessions.iter().map(|(connection, ..)| connection.close())).await;
    figures
}

fn meaning(count: usize) -> &'static str {
    match count {
        10 => "RabbitMQ's memory for 10 idle consumers",
        100 => "RabbitMQ's memory for 100 idle consumers",
        _ => "RabbitMQ's memory for 1,000 idle consumers",
    }
}

async fn open(broker: &Broker, number: usize) -> Session {
    let name = format!("consumer {number}");
    let connection = Connection::open(&broker.address, &name).await.expect("a connection");
    let channel = connection.channel().await.expect("a channel");
    let deliveries = channel.consume(QUEUE, &name, PREFETCH).await.expect("a consumer");
    (connection, channel, deliveries)
}

async fn read_depth(broker: &Broker) -> f64 {
    let mut milliseconds = Vec::new();
    for _ in 0..50 {
        let began = Instant::now();
        broker.ready(QUEUE).await;
        milliseconds.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    percentile(&milliseconds, 50)
}
