//! Each kind of fault has its own heading, and an honest history has no fault.

use super::history::Step::{
    self, Acknowledge, Deliver, GiveBack, Head, Park, Put, PutKeyTaken, PutRefused, PutUntold, RefusedAlone, Renew,
};
use super::history::{History, bad, digest, discarded, first, good, object};
use accounting::account::Account;
use accounting::ledger::{Entry, Id};
use accounting::wire::Event;

/// A description, or the headings of the expected faults; and the change to the history.
pub type Row = (&'static str, fn(&mut History));

/// The account of one good and one bad message, and of what the row adds.
pub fn account(what: impl FnOnce(&mut History)) -> Account {
    let mut history = History::default();
    let (image, poison) = (history.publish(good("good.png")), history.publish(bad("bad.png")));
    history.steps(image, "good.png", &[Deliver, Put, Acknowledge]);
    history.steps(poison, "", &[Deliver, Park, Acknowledge]);
    history.store(image, "good.png");
    history.park(poison, "InvalidImage");
    what(&mut history);
    history.account()
}

/// Publishes another message and adds these steps.
pub fn another(history: &mut History, entry: Entry, steps: &[Step]) -> Id {
    let key = entry.name.clone();
    let id = history.publish(entry);
    history.steps(id, &key, steps);
    id
}

/// Another good message that ends up stored, after these steps.
fn stored(history: &mut History, steps: &[Step]) {
    let id = another(history, good("x.png"), steps);
    history.store(id, "x.png");
}

/// Checks that no row has a fault.
pub fn are_honest(rows: &[Row]) {
    for (what, change) in rows {
        let account = account(change);
        assert_eq!(account.faults(), [""; 0], "{what}: {account:?}");
    }
}

/// Checks that each row has one fault under each of its headings (separated by commas), and no other fault.
pub fn are_named(rows: &[Row]) {
    for (number, (headings, change)) in rows.iter().enumerate() {
        let account = account(change);
        let headings: Vec<_> = headings.split(", ").collect();
        assert_eq!(account.faults().len(), headings.len(), "row {number}: {account:?}");
        let lists = serde_json::to_value(&account).expect("JSON");
        for heading in headings {
            assert_eq!(lists[heading].as_array().expect("a list").len(), 1, "row {number}, {heading}: {account:?}");
        }
    }
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
        ("the answer was lost, and the object is there", |history| {
            stored(history, &[Deliver, PutUntold, Head, Acknowledge])
        }),
        ("the answer was lost, and the object seen", |history| {
            stored(history, &[Deliver, PutUntold, PutKeyTaken, Head, Acknowledge])
        }),
        ("given back and taken again", |history| stored(history, &[Deliver, GiveBack, Deliver, Put, Acknowledge])),
        ("thrown away", |history| {
            another(history, discarded("x.png"), &[Deliver, Acknowledge]);
        }),
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
            stored(history, &[Deliver, Renew, Acknowledge, Deliver, Put, Acknowledge]);
        }),
        ("never confirmed, never there", |history| {
            history.attempt(good("x.png"));
        }),
        ("too large for a proxy", |history| {
            let id = history.publish(good("x.png"));
            history.steps(id, "x.png", &[Deliver, RefusedAlone(413), Park, Acknowledge]);
            history.park(id, "ImageTooLarge");
        }),
        ("stored, delivered again, and then too large for a proxy", |history| {
            let id = history.publish(good("x.png"));
            history.steps(id, "x.png", &[Deliver, Put, Deliver, RefusedAlone(413), Park, Acknowledge]);
            history.store(id, "x.png");
            history.park(id, "ImageTooLarge");
        }),
        ("refused alone, and stored later", |history| {
            stored(history, &[Deliver, RefusedAlone(403), GiveBack, Deliver, Put, Acknowledge]);
        }),
    ];
    are_honest(rows);
}

#[test]
fn what_is_counted_is_no_fault() {
    let account = account(|history| {
        stored(history, &[Deliver, Put, Deliver, Put, Put, Acknowledge]);
        let id = history.attempt(good("y.png"));
        history.steps(id, "y.png", &[Deliver, Put, Acknowledge]);
        history.store(id, "y.png");
        history.wire.note(Event::Delivered { id: Some(id), queue: "q".into(), redelivered: true });
    });
    let counts = (account.attempted, account.confirmed, account.stored, account.parked, account.queued);
    assert_eq!(counts, (4, 3, 3, 1, 0));
    let counts = (account.recovered, account.duplicates, account.redelivered, account.parked_again);
    assert_eq!(counts, (1, 2, 1, 0));
    assert_eq!(account.faults(), [""; 0]);
    assert_eq!(serde_json::to_value(&account).expect("JSON")["recovered"], 1);
}

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
        ("unexpected", |history| history.store(0, "nobody's.png")),
        ("unexpected", |history| history.store(1, "bad.png")),
        ("unexpected", |history| history.found.stored[0].id = None),
        ("unexpected", |history| history.found.stored[0].id = Some(1)),
        ("unexpected", |history| history.found.stored[0].id = Some(77)),
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
            let id = another(history, first("x.png", "x"), &[Deliver, Put, Acknowledge]);
            history.store(id, "x.png");
            history.park(id, "ObjectExists");
        }),
        ("differing", |history| {
            let (object, body, pixels) = (object("good.png"), digest("other bytes"), Some(digest("good.png")));
            history.wire.note(Event::Put { object, id: Some(0), body, pixels, status: 200, told: false });
        }),
        ("differing", |history| history.found.stored[0].body = digest("changed on the disk")),
        ("early_ack", |history| stored(history, &[Deliver, Acknowledge, Put])),
        ("early_ack", |history| stored(history, &[Deliver, PutRefused, Acknowledge, Deliver, Put])),
        ("early_ack", |history| stored(history, &[Deliver, PutUntold, Acknowledge])),
        ("early_ack", |history| stored(history, &[Deliver, Head, Acknowledge, Put])),
        ("early_ack", |history| stored(history, &[Deliver, Head, PutUntold, Acknowledge])),
        ("early_ack", |history| stored(history, &[Deliver, PutUntold, PutKeyTaken, Acknowledge])),
        ("early_ack", |history| stored(history, &[Deliver, PutUntold, Head, Deliver, Acknowledge])),
        ("early_ack", |history| stored(history, &[Deliver, Put, Deliver, Acknowledge])),
        ("early_ack", |history| {
            let id = history.publish(bad("x.png"));
            history.steps(id, "", &[Deliver, Acknowledge, Park]);
            history.park(id, "InvalidImage");
        }),
        ("early_ack", |history| {
            let id = history.publish(good("x.png"));
            let delivery = history.step(id, "x.png", Deliver, 0);
            // The confirm of the original publisher is no proof.
            history.wire.note(Event::Confirmed { id: Some(id), queue: "q".into(), renewed: false });
            history.step(id, "x.png", Acknowledge, delivery);
            history.step(id, "x.png", Put, delivery);
            history.store(id, "x.png");
        }),
        ("unclear", |history| {
            history.wire.note(Event::Unclear("noise".to_owned()));
        }),
        ("early_ack", |history| stored(history, &[Deliver, Acknowledge, Renew, Deliver, Put, Acknowledge])),
        ("unclear", |history| {
            let delivery = history.wire.note(Event::Delivered { id: None, queue: "q".into(), redelivered: false });
            history.wire.note(Event::Acknowledged { delivery });
        }),
    ];
    are_named(rows);
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
