//! The schedule of faults: consecutive episodes, each with one fault or several overlapping faults, drawn from a
//! seed. A pure function. Every kind is drawn before any kind repeats, and only faults that can be told apart and
//! healed together overlap.

use std::time::Duration;

use fastrand::Rng;
use strum::IntoEnumIterator as _;

use super::kind::{Hold, Kind};

/// A fault in an episode.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Fault {
    pub kind: Kind,
    /// Time from the episode's start to the injection.
    pub after: Duration,
    /// Time from injection to heal.
    pub length: Duration,
}

/// Faults that overlap, and the time in which the pipelines recover.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Episode {
    /// Time since the start of the soak. The episode begins later if the previous one took longer.
    pub at: Duration,
    /// The affected pipeline, for faults that affect one.
    pub pipeline: usize,
    /// In the order of injection.
    pub faults: Vec<Fault>,
}

/// Time for the pipelines to recover and work between two episodes.
const REST: Duration = Duration::from_secs(3);

/// In the last third of a soak longer than this, the operator has no faults, so that growth of its memory becomes
/// visible.
const LONG: Duration = Duration::from_secs(1800);

/// Maximum of overlapping faults.
const TOGETHER: usize = 3;

impl Episode {
    /// Typical length of the episode.
    pub fn length(&self) -> Duration {
        let end = |fault: &Fault| fault.after + fault.length + fault.kind.effort();
        self.faults.iter().map(end).max().unwrap_or_default() + REST
    }
}

/// The episodes of a soak of this length.
pub fn schedule(seed: u64, time: Duration, pipelines: usize) -> Vec<Episode> {
    let mut random = Rng::with_seed(seed);
    let mut episodes = first_pass(&mut random, time, pipelines);
    let mut at = episodes.last().map_or(Duration::ZERO, |last| last.at + last.length());
    let mut bag = Vec::new();
    loop {
        let together = random.usize(1..=TOGETHER);
        let lets_operator_live = time > LONG && at > time * 2 / 3;
        let may_come = |kind: &Kind| !(lets_operator_live && kind.hold() == Hold::Operator);
        bag.retain(may_come);
        if bag.is_empty() {
            bag = full_bag(&mut random);
            bag.retain(may_come);
        }
        let episode = draw(&mut random, &mut bag, at, together, pipelines);
        at += episode.length();
        if at > time {
            return episodes;
        }
        episodes.push(episode);
    }
}

/// Every kind once: alone if that takes less than half of the time, otherwise overlapping, so that a short soak has
/// all kinds too.
fn first_pass(random: &mut Rng, time: Duration, pipelines: usize) -> Vec<Episode> {
    let mut pass = |together| {
        let (mut bag, mut at, mut episodes) = (full_bag(random), Duration::ZERO, Vec::new());
        while !bag.is_empty() {
            let episode = draw(random, &mut bag, at, together, pipelines);
            at += episode.length();
            episodes.push(episode);
        }
        (episodes, at)
    };
    let (mut episodes, took) = pass(1);
    if took > time / 2 {
        episodes = pass(TOGETHER).0;
    }
    episodes.retain(|episode| episode.at + episode.length() <= time);
    episodes
}

fn full_bag(random: &mut Rng) -> Vec<Kind> {
    let mut bag: Vec<Kind> = Kind::iter().collect();
    random.shuffle(&mut bag);
    bag
}

/// Takes the next kind from the bag, and the next kinds that may overlap with it. All other kinds stay in the bag.
fn draw(random: &mut Rng, bag: &mut Vec<Kind>, at: Duration, together: usize, pipelines: usize) -> Episode {
    let mut kinds: Vec<Kind> = Vec::new();
    bag.retain(|kind| {
        let taken = kinds.len() < together && kinds.iter().all(|other| kind.goes_with(*other));
        if taken {
            kinds.push(*kind);
        }
        !taken
    });
    let mut faults: Vec<Fault> = kinds.into_iter().map(|kind| fault(random, kind)).collect();
    // Each fault begins while the previous one is active.
    let longest = faults.iter().map(|fault| fault.length).max().unwrap_or_default();
    for fault in faults.iter_mut().skip(1) {
        fault.after = longest.mul_f64(random.f64());
    }
    faults.sort_by_key(|fault| fault.after);
    let first = faults.first().map_or(Duration::ZERO, |fault| fault.after);
    for fault in &mut faults {
        fault.after -= first;
    }
    Episode { at, pipeline: random.usize(0..pipelines), faults }
}

fn fault(random: &mut Rng, kind: Kind) -> Fault {
    let (shortest, longest) = kind.seconds();
    let length = Duration::from_millis(random.u64(shortest * 1000..=longest * 1000));
    Fault { kind, after: Duration::ZERO, length }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const PIPELINES: usize = 4;

    fn by_kind(episodes: &[Episode]) -> BTreeMap<Kind, usize> {
        let mut count = BTreeMap::new();
        for fault in episodes.iter().flat_map(|episode| &episode.faults) {
            *count.entry(fault.kind).or_default() += 1;
        }
        count
    }

    proptest! {
        #[test]
        fn an_hour_has_all_kinds_alone_and_together_and_two_hundred_faults(seed: u64) {
            let episodes = schedule(seed, HOUR, PIPELINES);
            let kinds = by_kind(&episodes);
            prop_assert_eq!(kinds.len(), Kind::iter().count());
            prop_assert!(kinds.values().sum::<usize>() >= 200, "{:?}", kinds);
            let of_operator = |kind: &Kind| kind.hold() == Hold::Operator;
            for operator in [true, false] {
                let counts = || kinds.iter().filter(|(kind, _)| of_operator(kind) == operator).map(|(_, count)| count);
                let (fewest, most) = (counts().min().unwrap(), counts().max().unwrap());
                prop_assert!(*fewest >= 4 && most - fewest <= 3, "{:?}", kinds);
            }
            let last = episodes.iter().filter(|episode| episode.at > HOUR * 2 / 3).flat_map(|episode| &episode.faults);
            prop_assert!(!last.into_iter().any(|fault| of_operator(&fault.kind)));
            let alone = by_kind(&episodes.iter().filter(|one| one.faults.len() == 1).cloned().collect::<Vec<_>>());
            prop_assert_eq!(alone.len(), Kind::iter().count());
            prop_assert!(episodes.iter().filter(|one| one.faults.len() > 1).count() >= 30);
        }

        #[test]
        fn six_minutes_have_all_kinds(seed: u64) {
            prop_assert_eq!(by_kind(&schedule(seed, HOUR / 10, PIPELINES)).len(), Kind::iter().count());
        }

        #[test]
        fn faults_that_are_there_together_go_together(seed: u64, minutes in 1_u32..120) {
            let time = Duration::from_secs(60) * minutes;
            let episodes = schedule(seed, time, PIPELINES);
            let mut free = Duration::ZERO;
            for episode in &episodes {
                prop_assert!(episode.at >= free && episode.pipeline < PIPELINES);
                free = episode.at + episode.length();
                prop_assert!(free <= time);
                prop_assert_eq!(episode.faults[0].after, Duration::ZERO);
                for (index, fault) in episode.faults.iter().enumerate() {
                    let (shortest, longest) = fault.kind.seconds();
                    prop_assert!((shortest * 1000..=longest * 1000).contains(&(fault.length.as_millis() as u64)));
                    prop_assert!(episode.faults[..index].iter().all(|other| fault.kind.goes_with(other.kind)));
                }
            }
        }

        #[test]
        fn a_seed_gives_the_same_schedule(seed: u64) {
            prop_assert_eq!(schedule(seed, HOUR, PIPELINES), schedule(seed, HOUR, PIPELINES));
            prop_assert_ne!(schedule(seed, HOUR, PIPELINES), schedule(seed ^ 1, HOUR, PIPELINES));
        }
    }
}
