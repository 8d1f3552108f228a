//! Messages that crash the consumer which decodes them: the kernel allows each consumer of the pipeline little more
//! data than it has, so that the allocation for one large image fails, and the process aborts. A decoder process has
//! no more than the consumer that starts it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::bodies::CRASHING_PIXELS;
use super::super::processes::{self, Process};
use super::super::scene::Scene;
use super::{Heal, nothing};
use accounting::ledger::Id;
use accounting::wire::Event;
use support::eventually::{LIMIT, eventually};

/// So many at once. Each may end one consumer.
const BODIES: usize = 2;

/// Bytes of data that a consumer may have more than it needs: enough for all other images, and fewer than the
/// pixels of `Bodies::crashing`.
const MORE: u64 = 32 << 20;

/// Between two looks: shorter than the time a consumer takes from its start to its first message.
const LOOK: Duration = Duration::from_millis(10);

/// A pod that is deleted has this time, by its spec, and the kubelet a little more.
const ENDS_WITHIN: Duration = Duration::from_secs(70);

/// In so many looks, a consumer that is at work has little at some moment.
const LOOKS: usize = 100;

/// The consumers of a pipeline, each bounded when it is first seen.
struct Bounded {
    /// Bytes of data.
    most: u64,
    /// The processes that each pod has had.
    pods: BTreeMap<String, Vec<u32>>,
}

/// Publishes the messages, and returns once all of them are settled.
pub async fn inject(scene: &Scene, pipeline: usize) -> Heal<'_> {
    let name = scene.pipelines[pipeline].plan.name;
    let mut bounded = Bounded::by_need(name).await;
    bounded.look(name);
    let place = scene.wire.next_place();
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
    let ended: Vec<_> = bounded.ended().collect();
    assert!(!ended.is_empty(), "no consumer crashed");
    ended.into_iter().for_each(|pod| scene.pods.cause(pod));
    heal(scene).await;
    nothing()
}

/// Replaces the pods whose processes are bounded: nobody here may lift such a bound.
pub async fn heal(scene: &Scene) {
    let bounded: Vec<Process> =
        processes::all().into_iter().filter(|process| processes::is_bounded(process.id)).collect();
    scene.delete_pods(&bounded.iter().map(|process| process.pod.as_str()).collect::<Vec<_>>()).await;
    for process in bounded {
        processes::gone(process.id, ENDS_WITHIN).await;
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
    /// The bound of consumers that are at work: what the one which needs most has had at least, and a little more.
    async fn by_need(pipeline: &str) -> Self {
        let mut least = BTreeMap::<u32, u64>::new();
        let mut looks = tokio::time::interval(LOOK);
        for _ in 0..LOOKS {
            looks.tick().await;
            for Process { id, .. } in processes::consumers(pipeline) {
                let data = processes::data(id).unwrap_or(u64::MAX);
                least.entry(id).and_modify(|least| *least = data.min(*least)).or_insert(data);
            }
        }
        let need = least.into_values().filter(|least| *least < u64::MAX).max().expect("a consumer");
        let most = need + MORE;
        // The decoder process of a message that was delivered before has all of it for the image.
        assert!(most < CRASHING_PIXELS, "consumers need {need} bytes: the image would be stored");
        Self { most, pods: BTreeMap::new() }
    }

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
            let seen = self.pods.entry(pod).or_default();
            if seen.contains(&id) {
                continue;
            }
            seen.push(id);
            processes::bound_data(id, self.most);
        }
    }

    /// The pods whose processes ended, each as often as one did.
    fn ended(&self) -> impl Iterator<Item = &str> {
        self.pods
            .iter()
            .flat_map(|(pod, seen)| seen.iter().filter(|id| !processes::exists(**id)).map(move |_| pod.as_str()))
    }
}
