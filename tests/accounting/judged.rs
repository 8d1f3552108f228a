//! What is wrong in a history is named, each under its own heading; and no honest history, however
//! its steps are mixed, is accused of anything.

use proptest::prelude::*;

use super::accounting::account::Account;
use super::accounting::ledger::Entry;
use super::accounting::wire::Event;
use super::history::Step::{
    self, Acknowledge, Deliver, GiveBack, Head, Park, Put, PutRefused, PutUntold, RefusedAlone, Renew,
};
use super::history::{History, addressed, bad, digest, discarded, first, good, object};

/// What a row is about, and what it changes.
type Row = (&'static str, fn(&mut History));

/// A good one, a bad one, and whatever the row does with them.
fn account(what: impl FnOnce(&mut History)) -> Account {
    let mut history = History::default();
    let (image, poison) = (history.publish(good("good.png")), history.publish(bad("bad.png")));
    history.steps(image, "good.png", &[Deliver, Put, Acknowledge]);
    history.steps(poison, "", &[Deliver, Park, Acknowledge]);
    history.store("good.png", "good.png");
    history.park(poison, "InvalidImage");
    what(&mut history);
    history.account()
}

/// Publishes another and goes through these steps.
fn another(history: &mut History, entry: Entry, steps: &[Step]) {
    let key = entry.name.clone();
    let id = history.publish(entry);
    history.steps(id, &key, steps);
}

/// Another good one that is stored in the end, whatever went before.
fn stored(history: &mut History, steps: &[Step]) {
    another(history, good("x.png"), steps);
    history.store("x.png", "x.png");
}

#[test]
fn an_honest_history_has_no_fault_and_its_counts() {
    let rows: &[Row] = &[
        ("nothing else", |_| {}),
        ("stored", |history| stored(history, &[Deliver, Put, Acknowledge])),
        ("refused, then stored", |history| stored(history, &[Deliver, PutRefused, PutRefused, Put, Acknowledge])),
        ("killed before the upload", |history| stored(history, &[Deliver, Deliver, Put, Acknowledge])),
        ("killed after the upload", |history| stored(history, &[Deliver, Put, Deliver, Put, Acknowledge])),
        ("the answer was lost", |history| stored(history, &[Deliver, PutUntold, Put, Acknowledge])),
        ("the answer was lost, and the object seen", |history| {
            stored(history, &[Deliver, PutUntold, Head, Acknowledge])
        }),
        ("given back and taken again", |history| stored(history, &[Deliver, GiveBack, Deliver, Put, Acknowledge])),
        ("thrown away", |history| another(history, discarded("x.png"), &[Deliver, Acknowledge])),
        ("parked twice", |history| {
            let id = history.publish(bad("x.png"));
            history.steps(id, "", &[Deliver, Park, Deliver, Park, Acknowledge]);
            history.park(id, "InvalidImage");
            history.park(id, "InvalidImage");
        }),
        ("still queued", |history| {
            let id = history.publish(good("x.png"));
            history.steps(id, "x.png", &[Deliver, GiveBack]);
            let queued = history.message(id, "");
            history.found.queued.push(queued);
        }),
        ("renewed and stored later", |history| {
            let id = history.publish(good("x.png"));
            history.steps(id, "x.png", &[Deliver, Renew, Acknowledge, Deliver, Put, Acknowledge]);
            history.store("x.png", "x.png");
        }),
        ("never confirmed, never there", |history| {
            history.attempt(good("x.png"));
        }),
        ("two of one name, the last of which stays", |history| {
            another(history, good("x.png"), &[Deliver, Put, Acknowledge]);
            another(history, Entry::good("q", "b", "", "x.png", digest("y")), &[Deliver, Put, Acknowledge]);
            history.store("x.png", "y");
        }),
        ("two of one name, the second of which is parked, and again", |history| {
            another(history, first("x.png", "x"), &[Deliver, Put, Acknowledge]);
            another(history, first("x.png", "x"), &[Deliver, Head, Acknowledge]);
            let id = history.publish(first("x.png", "y"));
            history.steps(id, "x.png", &[Deliver, Head, Park, Deliver, Head, Park, Acknowledge]);
            history.store("x.png", "x");
            history.park(id, "ObjectExists");
            history.park(id, "ObjectExists");
        }),
        ("two of one name, each under a key of its own", |history| {
            for pixels in ["1", "2"] {
                let key = format!("x-{pixels}.png");
                let id = history.publish(addressed("x", pixels));
                history.steps(id, &key, &[Deliver, Put, Acknowledge]);
                history.store(&key, pixels);
            }
        }),
        ("too large for a proxy", |history| {
            let id = history.publish(good("x.png"));
            history.steps(id, "x.png", &[Deliver, RefusedAlone(413), Park, Acknowledge]);
            history.park(id, "ImageTooLarge");
        }),
        ("refused alone, and stored later", |history| {
            stored(history, &[Deliver, RefusedAlone(403), GiveBack, Deliver, Put, Acknowledge]);
        }),
    ];
    for (what, change) in rows {
        let account = account(change);
        assert_eq!(account.faults(), [""; 0], "{what}: {account:?}");
    }
}

#[test]
fn what_is_counted_is_no_fault() {
    let account = account(|history| {
        another(history, good("x.png"), &[Deliver, Put, Deliver, Put, Put, Acknowledge]);
        history.store("x.png", "x.png");
        let id = history.attempt(good("y.png"));
        history.steps(id, "y.png", &[Deliver, Put, Acknowledge]);
        history.store("y.png", "y.png");
        history.wire.note(Event::Delivered { id: Some(id), queue: "q".into(), redelivered: true });
    });
    let counts = (account.attempted, account.confirmed, account.stored, account.parked, account.queued);
    assert_eq!(counts, (4, 3, 3, 1, 0));
    let counts = (account.recovered, account.duplicates, account.redelivered, account.parked_again);
    assert_eq!(counts, (1, 2, 1, 0));
    assert_eq!(account.faults(), [""; 0]);
    assert_eq!(serde_json::to_value(&account).expect("JSON")["recovered"], 1);
}

/// The list of a row's name, and no other, has one fault.
#[test]
fn each_fault_is_named_under_its_own_heading() {
    let rows: &[Row] = &[
        ("wrongly_parked", |history| {
            let id = history.publish(good("x.png"));
            history.steps(id, "x.png", &[Deliver, RefusedAlone(403), Park, Acknowledge]);
            history.park(id, "ImageTooLarge");
        }),
        ("lost", |history| {
            history.publish(good("x.png"));
        }),
        ("lost", |history| {
            history.publish(bad("x.png"));
        }),
        ("lost", |history| drop(history.found.parked.pop())),
        ("lost", |history| {
            another(history, first("x.png", "x"), &[Deliver, Put, Acknowledge]);
            another(history, first("x.png", "y"), &[Deliver, Head, Acknowledge]);
            history.store("x.png", "x");
        }),
        ("unexpected", |history| history.store("nobody's.png", "x")),
        ("unexpected", |history| history.store("bad.png", "bad.png")),
        ("unexpected", |history| {
            history.found.stored.push({
                let mut elsewhere = history.found.stored[0].clone();
                elsewhere.object.bucket = "another".to_owned();
                elsewhere
            })
        }),
        ("unexpected", |history| {
            let mut stranger = history.message(0, "InvalidImage");
            stranger.id = None;
            history.found.queued.push(stranger);
        }),
        ("unexpected", |history| {
            let mut stranger = history.message(0, "InvalidImage");
            stranger.id = Some(77);
            history.found.parked.push(stranger);
        }),
        ("wrong_pixels", |history| history.found.stored[0].pixels = Ok(digest("others"))),
        ("wrong_pixels", |history| history.found.stored[0].pixels = Err("no PNG".to_owned())),
        ("wrongly_parked", |history| history.park(0, "InvalidImage")),
        ("wrongly_parked", |history| {
            let parked = history.message(1, "MissingField");
            history.found.parked[0] = parked;
        }),
        ("wrongly_parked", |history| history.found.parked[0].headers.clear()),
        ("wrongly_parked", |history| history.found.parked[0].body = digest("another body")),
        ("wrongly_parked", |history| {
            another(history, first("x.png", "x"), &[Deliver, Put, Acknowledge]);
            history.store("x.png", "x");
            history.park(2, "ObjectExists");
        }),
        ("differing", |history| {
            let (object, body) = (object("good.png"), digest("other bytes"));
            history.wire.note(Event::Put { object, body, status: 200, told: false });
        }),
        ("differing", |history| history.found.stored[0].body = digest("changed on the disk")),
        ("early_ack", |history| stored(history, &[Deliver, Acknowledge, Put])),
        ("early_ack", |history| stored(history, &[Deliver, PutRefused, Acknowledge, Deliver, Put])),
        ("early_ack", |history| stored(history, &[Deliver, PutUntold, Acknowledge])),
        ("early_ack", |history| stored(history, &[Deliver, Head, Acknowledge, Put])),
        ("early_ack", |history| stored(history, &[Deliver, Put, Deliver, Acknowledge])),
        ("early_ack", |history| {
            let id = history.publish(bad("x.png"));
            history.steps(id, "", &[Deliver, Acknowledge, Park]);
            history.park(id, "InvalidImage");
        }),
        ("early_ack", |history| {
            let id = history.publish(good("x.png"));
            let delivery = history.step(id, "x.png", Deliver, 0);
            // That of its publisher is no proof.
            history.wire.note(Event::Confirmed { id: Some(id), queue: "q".into(), renewed: false });
            history.step(id, "x.png", Acknowledge, delivery);
            history.step(id, "x.png", Put, delivery);
            history.store("x.png", "x.png");
        }),
        ("early_ack", |history| {
            let id = history.publish(good("x.png"));
            history.steps(id, "x.png", &[Deliver, Acknowledge, Renew, Deliver, Put, Acknowledge]);
            history.store("x.png", "x.png");
        }),
        ("unclear", |history| {
            history.wire.note(Event::Unclear("noise".to_owned()));
        }),
        ("early_ack", |history| {
            let id = history.publish(good("x.png"));
            history.steps(id, "x.png", &[Deliver, Acknowledge, Renew, Deliver, Put, Acknowledge]);
            history.store("x.png", "x.png");
        }),
        ("unclear", |history| {
            let delivery = history.wire.note(Event::Delivered { id: None, queue: "q".into(), redelivered: false });
            history.wire.note(Event::Acknowledged { delivery });
        }),
    ];
    for (number, (heading, change)) in rows.iter().enumerate() {
        let account = account(change);
        assert_eq!(account.faults().len(), 1, "row {number}: {account:?}");
        let lists = serde_json::to_value(&account).expect("JSON");
        assert_eq!(lists[heading].as_array().expect("a list").len(), 1, "row {number}, {heading}: {account:?}");
    }
}

#[test]
fn a_fault_is_told_in_a_sentence_with_some_names() {
    let account = account(|history| {
        for number in 0..7 {
            history.publish(good(&format!("{number}.png")));
        }
    });
    assert_eq!(
        account.faults(),
        ["7 confirmed and neither stored, parked nor queued: \"0.png\" of q; \"1.png\" of q; \"2.png\" of q; \
          \"3.png\" of q; \"4.png\" of q; …"]
    );
}

/// What an honest consumer does with one message, whatever befalls it.
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

/// The lives of several messages at once: each turn says whose next step is taken.
fn lived(lives: &[Vec<Step>], turns: &[usize]) -> History {
    let mut history = History::default();
    let keys: Vec<String> = (0..lives.len()).map(|number| format!("{number}.png")).collect();
    let ids: Vec<_> = keys.iter().map(|key| history.publish(good(key))).collect();
    keys.iter().for_each(|key| history.store(key, key));
    let mut next = vec![(0, usize::MAX); lives.len()];
    // Whoever has had no turn at the end takes the rest of the steps then.
    let rest = (0..lives.len()).flat_map(|whose| vec![whose; lives[whose].len()]);
    for whose in turns.iter().map(|turn| turn % lives.len()).chain(rest) {
        let (step, delivery) = next[whose];
        if let Some(taken) = lives[whose].get(step) {
            next[whose] = (step + 1, history.step(ids[whose], &keys[whose], *taken, delivery));
        }
    }
    history
}

proptest! {
    #[test]
    fn no_honest_mixture_is_accused(
        lives in prop::collection::vec(life(), 1..6),
        turns in prop::collection::vec(0..6usize, 0..60),
    ) {
        prop_assert_eq!(lived(&lives, &turns).account().faults(), [""; 0]);
    }

    #[test]
    fn an_acknowledgement_without_its_upload_is_seen_in_any_mixture(
        lives in prop::collection::vec(life(), 1..6),
        turns in prop::collection::vec(0..6usize, 0..60),
        whose in 0..6usize,
    ) {
        let mut lives = lives;
        let whose = whose % lives.len();
        // The last upload before the acknowledgement; an earlier one was for another delivery.
        let upload = lives[whose].len() - 2;
        lives[whose].remove(upload);
        let account = lived(&lives, &turns).account();
        prop_assert_eq!(account.early_ack, [format!("\"{whose}.png\" of q")]);
    }

    #[test]
    fn what_is_missing_is_missed(
        lives in prop::collection::vec(life(), 1..6),
        whose in 0..6usize,
    ) {
        let mut history = lived(&lives, &[]);
        let whose = whose % lives.len();
        history.found.stored.remove(whose);
        prop_assert_eq!(history.account().lost, [format!("\"{whose}.png\" of q")]);
    }
}
