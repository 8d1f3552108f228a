//! Property tests: an honest history has no fault, however its steps are interleaved, and an acknowledgement
//! without an upload is always found.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::history::Step::{self, Acknowledge, Deliver, GiveBack, Put, PutRefused, PutUntold};
use super::history::{History, digest};
use accounting::ledger::{Entry, Id};
use accounting::wire::Event;

/// The steps of one message with an honest consumer, after some random misfortunes.
fn life() -> impl Strategy<Value = Vec<Step>> {
    let befalls = prop_oneof![
        Just(vec![Deliver]),
        Just(vec![Deliver, GiveBack]),
        Just(vec![Deliver, PutRefused, GiveBack]),
        Just(vec![Deliver, PutUntold]),
        Just(vec![Deliver, Put]),
    ];
    let ends = prop_oneof![
        Just(vec![Deliver, Put, Acknowledge]),
        Just(vec![Deliver, PutRefused, PutUntold, Put, Acknowledge]),
    ];
    (prop::collection::vec(befalls, 0..4), ends).prop_map(|(befallen, end)| [befallen.concat(), end].concat())
}

/// Interleaves the lives of several messages that share `keys` keys. Each turn selects the message whose next step
/// comes.
fn lived(lives: &[Vec<Step>], turns: &[usize], keys: usize) -> History {
    let mut history = History::default();
    let keys: Vec<String> = (0..lives.len()).map(|number| format!("{}.png", number % keys)).collect();
    let image = |(number, key): (usize, &String)| Entry::good("q", "b", "", key, digest(&number.to_string()));
    let ids: Vec<_> = keys.iter().enumerate().map(image).map(|entry| history.publish(entry)).collect();
    let mut next = vec![(0, usize::MAX); lives.len()];
    // At the end, each message takes its remaining steps.
    let rest = (0..lives.len()).flat_map(|whose| vec![whose; lives[whose].len()]);
    for whose in turns.iter().map(|turn| turn % lives.len()).chain(rest) {
        let (step, delivery) = next[whose];
        if let Some(taken) = lives[whose].get(step) {
            next[whose] = (step + 1, history.step(ids[whose], &keys[whose], *taken, delivery));
        }
    }
    for (key, id) in last(&history) {
        history.store(id, &key);
    }
    history
}

/// The message of the last upload that S3 accepted, by key.
fn last(history: &History) -> BTreeMap<String, Id> {
    let taken = history.wire.events().into_iter().filter_map(|event| match event {
        Event::Put { object, id, status: 200, .. } => Some((object.key, id?)),
        _ => None,
    });
    taken.collect()
}

proptest! {
    #[test]
    fn no_honest_mixture_is_accused(
        lives in prop::collection::vec(life(), 1..6),
        turns in prop::collection::vec(0..6usize, 0..60),
        keys in 1..6usize,
    ) {
        prop_assert_eq!(lived(&lives, &turns, keys).account().faults(), [""; 0]);
    }

    #[test]
    fn an_acknowledgement_without_its_upload_is_seen_in_any_mixture(
        lives in prop::collection::vec(life(), 1..6),
        turns in prop::collection::vec(0..6usize, 0..60),
        whose in 0..6usize,
        keys in 1..6usize,
    ) {
        let mut lives = lives;
        let whose = whose % lives.len();
        // The last upload before the acknowledgement; an earlier upload belongs to another delivery.
        let upload = lives[whose].len() - 2;
        lives[whose].remove(upload);
        let account = lived(&lives, &turns, keys).account();
        prop_assert_eq!(account.early_ack, [format!("\"{}.png\" of q", whose % keys)]);
    }

    #[test]
    fn what_is_missing_is_missed(
        lives in prop::collection::vec(life(), 1..6),
        whose in 0..6usize,
    ) {
        let mut history = lived(&lives, &[], lives.len());
        let whose = whose % lives.len();
        history.found.stored.remove(whose);
        prop_assert_eq!(history.account().lost, [format!("\"{whose}.png\" of q")]);
    }
}
