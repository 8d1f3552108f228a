//! Messages that crash the consumer that decodes them. Each consumer of the pipeline gets a data limit slightly
//! above its need, so the allocation for one large image fails and the process aborts. A decoder process has the
//! same limit as the consumer that starts it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::bodies::CRASHING_PIXELS;
use super::super::processes::{self, Process};
use super::super::scene::Scene;
use super::{Heal, nothing};
use accounting::ledger::Id;
use accounting::wire::Event;
use support::eventually::{LIMIT, eventually};

/// Number of messages. Each may crash one consumer.
const BODIES: usize = 2;

/// Bytes of the limit above a consumer's need: enough for all other images, and less than the pixels of
/// `Bodies::crashing`.
const MORE: u64 = 32 << 20;

/// Interval between two checks: shorter than the time from a consumer's start to its first message.
const LOOK: Duration = Duration::from_millis(10);

/// A deleted pod has the grace period of its spec, plus some time for the kubelet.
const ENDS_WITHIN: Duration = Duration::from_secs(70);

/// In this many checks, a working consumer has little data at least once.
const LOOKS: usize = 100;

/// The consumers of a pipeline. Each gets its limit when it is first seen.
struct Bounded {
    /// The limit, in bytes of data.
    most: u64,
    /// The processes seen in each pod.
    pods: BTreeMap<String, Vec<u32>>,
}

/// Publishes the messages. Returns once all of them are settled.
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
            if open == 0 { Ok(()) } else { Err(format!("{open} are not settled")) }
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

/// Replaces the pods whose processes have a limit, because the limit can't be raised again.
pub async fn heal(scene: &Scene) {
    let bounded: Vec<Process> =
        processes::all().into_iter().filter(|process| processes::is_bounded(process.id)).collect();
    scene.delete_pods(&bounded.iter().map(|process| process.pod.as_str()).collect::<Vec<_>>()).await;
    for process in bounded {
        processes::gone(process.id, ENDS_WITHIN).await;
    }
}

/// Ids of the acknowledged messages. `place` is the index of the first event.
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
    /// Sets the limit by the need of working consumers: the largest of their minimums, plus `MORE`.
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
        // The decoder process of a redelivered message has the whole limit for the image.
        assert!(most < CRASHING_PIXELS, "consumers need {need} bytes: the image would be stored");
        Self { most, pods: BTreeMap::new() }
    }

    /// Limits new processes until it is canceled.
    async fn follow(&mut self, pipeline: &str) {
        let mut looks = tokio::time::interval(LOOK);
        loop {
            looks.tick().await;
            self.look(pipeline);
        }
    }

    /// Limits the processes that have not been seen before.
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

    /// Pods whose processes have ended, once for each process.
    fn ended(&self) -> impl Iterator<Item = &str> {
        self.pods
            .iter()
            .flat_map(|(pod, seen)| seen.iter().filter(|id| !processes::exists(**id)).map(move |_| pod.as_str()))
    }
}
