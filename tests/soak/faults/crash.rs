//! Messages that crash the consumer which decodes them: the kernel allows each consumer of the pipeline little more
//! data than it has, so that the allocation for one large image fails, and the process aborts.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::accounting::ledger::Id;
use super::super::accounting::wire::Event;
use super::super::eventually::{LIMIT, eventually};
use super::super::processes::{self, Process};
use super::super::scene::Scene;
use super::{Heal, nothing};

/// So many at once. Each may end one consumer.
const BODIES: usize = 2;

/// Bytes of data that a consumer may have more than before: enough for all other images, and fewer than the pixels of
/// `Bodies::crashing`.
const MORE: u64 = 40 << 20;

/// Between two looks: shorter than the time a consumer takes from its start to its first message.
const LOOK: Duration = Duration::from_millis(10);

/// The consumers of a pipeline, each bounded when it is first seen.
#[derive(Default)]
struct Bounded {
    /// The process in each pod, and how often another took its place.
    pods: BTreeMap<String, (u32, usize)>,
}

/// Publishes the messages, and returns once all of them are settled.
pub async fn inject(scene: &Scene, pipeline: usize) -> Heal<'_> {
    let name = scene.pipelines[pipeline].plan.name;
    let mut bounded = Bounded::default();
    bounded.look(name);
    let place = scene.wire.len();
    let sent: Vec<_> = (0..BODIES).map(|_| scene.send(pipeline, scene.crashing(pipeline))).collect();
    let settling = async {
        let mut ids = Vec::new();
        for message in sent {
            ids.push(message.await.expect("a task that ends").expect("a confirm"));
        }
        eventually("the messages that crash consumers to be settled", LIMIT, async || {
            let settled = settled(&scene.wire.since(place), place);
            let open = ids.iter().filter(|id| !settled.contains(id)).count();
            if open == 0 { Ok(()) } else { Err(format!("{open} are not")) }
        })
        .await;
    };
    tokio::select! {
        () = bounded.follow(name) => {}
        () = settling => {}
    }
    heal();
    for (pod, (_, restarts)) in bounded.pods {
        (0..restarts).for_each(|_| scene.pods.cause(&pod));
    }
    nothing()
}

/// Lets all processes have what they want.
pub fn heal() {
    for process in processes::all() {
        processes::bound_data(process.id, None);
    }
}

/// The messages that were acknowledged, in events of which the first has this place.
fn settled(events: &[Event], place: usize) -> Vec<Id> {
    let of = |event: &Event| {
        let Event::Acknowledged { delivery } = event else { return None };
        match events.get(delivery.checked_sub(place)?)? {
            Event::Delivered { id, .. } => *id,
            _ => None,
        }
    };
    events.iter().filter_map(of).collect()
}

impl Bounded {
    /// Bounds processes as they come, until it is canceled.
    async fn follow(&mut self, pipeline: &str) {
        let mut looks = tokio::time::interval(LOOK);
        loop {
            looks.tick().await;
            self.look(pipeline);
        }
    }

    /// Bounds the processes that were not seen before.
    fn look(&mut self, pipeline: &str) {
        for Process { id, pod, .. } in processes::consumers(pipeline) {
            let (last, restarts) = self.pods.entry(pod).or_insert((0, 0));
            if *last == id {
                continue;
            }
            *restarts += usize::from(*last != 0);
            *last = id;
            if let Some(data) = processes::data(id) {
                processes::bound_data(id, Some(data + MORE));
            }
        }
    }
}
