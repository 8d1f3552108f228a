//! Several messages with one key, for each `onConflict` policy: the upload of one message proves nothing for
//! another.

use super::history::Step::{Acknowledge, Deliver, Head, Park, Put, PutKeyTaken, PutRefused, PutUntold};
use super::history::{History, Step, addressed, digest, first, good, object};
use super::judged::{Row, another, are_honest, are_named};
use accounting::ledger::Entry;
use accounting::wire::Event;

/// A different image with the name of `good("x.png")`.
fn other() -> Entry {
    Entry::good("q", "b", "", "x.png", digest("y"))
}

/// Stores one image, then adds these steps of another message with the same name.
fn beside(history: &mut History, [one, other]: [Entry; 2], steps: &[Step]) -> [u64; 2] {
    let one = another(history, one, &[Deliver, Put, Acknowledge]);
    history.store(one, "x.png");
    [one, another(history, other, steps)]
}

/// As `beside`, but the object is the other image.
fn replaced(history: &mut History, steps: &[Step]) {
    let [_, last] = beside(history, [good("x.png"), other()], steps);
    history.found.stored.pop();
    history.store(last, "x.png");
}

/// Publishes the same image twice, under a key made of its digest.
fn addressed_twice(history: &mut History, steps: &[Step]) {
    let one = history.publish(addressed("x", "1"));
    history.steps(one, "x-1.png", &[Deliver, Put, Acknowledge]);
    history.store(one, "x-1.png");
    let other = history.publish(addressed("x", "1"));
    history.steps(other, "x-1.png", steps);
}

#[test]
fn honest_messages_of_one_key_have_no_fault() {
    let rows: &[Row] = &[
        ("Overwrite: the second stays", |history| replaced(history, &[Deliver, Put, Acknowledge])),
        ("Overwrite: the first comes again and stays", |history| {
            let one = history.publish(good("x.png"));
            let delivery = history.step(one, "x.png", Deliver, 0);
            another(history, other(), &[Deliver, Put, Acknowledge]);
            history.step(one, "x.png", Put, delivery);
            history.step(one, "x.png", Acknowledge, delivery);
            history.store(one, "x.png");
        }),
        ("Overwrite: one image twice", |history| {
            beside(history, [good("x.png"), good("x.png")], &[Deliver, Put, Acknowledge]);
        }),
        ("Fail: the same image again", |history| {
            let same = [first("x.png", "x"), first("x.png", "x")];
            beside(history, same, &[Deliver, PutKeyTaken, Head, Acknowledge]);
        }),
        ("Fail: the same image again, looked for before it is sent", |history| {
            let same = [first("x.png", "x"), first("x.png", "x")];
            beside(history, same, &[Deliver, Head, PutKeyTaken, Acknowledge]);
        }),
        ("Fail: another image, which is parked, and again", |history| {
            let steps = [Deliver, PutKeyTaken, Head, Park, Deliver, Head, Park, Acknowledge];
            let [_, other] = beside(history, [first("x.png", "x"), first("x.png", "y")], &steps);
            history.park(other, "ObjectExists");
            history.park(other, "ObjectExists");
        }),
        ("ContentAddressed: the same image again", |history| {
            addressed_twice(history, &[Deliver, PutKeyTaken, Head, Acknowledge]);
        }),
        ("ContentAddressed: refused on the wire before the answer to the first upload", |history| {
            let [one, other] = ["1", "1"].map(|pixels| history.publish(addressed("x", pixels)));
            let [first, second] = [one, other].map(|id| history.step(id, "x-1.png", Deliver, 0));
            history.step(other, "x-1.png", PutKeyTaken, second);
            history.step(one, "x-1.png", Put, first);
            history.step(other, "x-1.png", Head, second);
            for (id, delivery) in [(one, first), (other, second)] {
                history.step(id, "x-1.png", Acknowledge, delivery);
            }
            history.store(one, "x-1.png");
        }),
        ("ContentAddressed: two images, each under a key of its own", |history| {
            for pixels in ["1", "2"] {
                let key = format!("x-{pixels}.png");
                let id = history.publish(addressed("x", pixels));
                history.steps(id, &key, &[Deliver, Put, Acknowledge]);
                history.store(id, &key);
            }
        }),
    ];
    are_honest(rows);
}

#[test]
fn overwriting_proves_nothing_for_another_message() {
    let rows: &[Row] = &[
        ("early_ack, lost", |history| {
            beside(history, [good("x.png"), good("x.png")], &[Deliver, Acknowledge]);
        }),
        ("early_ack, lost", |history| {
            beside(history, [good("x.png"), other()], &[Deliver, Acknowledge]);
        }),
        ("early_ack, lost", |history| {
            beside(history, [good("x.png"), other()], &[Deliver, PutRefused, Acknowledge]);
        }),
        // Both are delivered before one of them is stored.
        ("early_ack, lost", |history| {
            let unstored = history.publish(other());
            let delivery = history.step(unstored, "x.png", Deliver, 0);
            let id = another(history, good("x.png"), &[Deliver, Put, Acknowledge]);
            history.store(id, "x.png");
            history.step(unstored, "x.png", Acknowledge, delivery);
        }),
        ("early_ack", |history| replaced(history, &[Deliver, PutUntold, Acknowledge])),
        ("early_ack", |history| replaced(history, &[Deliver, Acknowledge, Put])),
        // The first upload of the other message had wrong pixels, and was replaced later.
        ("early_ack, lost", |history| {
            let id = history.publish(other());
            let delivery = history.step(id, "x.png", Deliver, 0);
            let (object, body, pixels) = (object("x.png"), digest("a file"), Some(digest("others")));
            history.wire.note(Event::Put { object, id: Some(id), body, pixels, status: 200, told: true });
            history.step(id, "x.png", Acknowledge, delivery);
            let last = another(history, good("x.png"), &[Deliver, Put, Acknowledge]);
            history.store(last, "x.png");
        }),
        // One message is uploaded to the key of another, and replaced later.
        ("unexpected", |history| {
            let (object, body, pixels) = (object("x.png"), digest("a file"), Some(digest("good.png")));
            history.wire.note(Event::Put { object, id: Some(0), body, pixels, status: 200, told: true });
            let id = another(history, good("x.png"), &[Deliver, Put, Acknowledge]);
            history.store(id, "x.png");
        }),
    ];
    are_named(rows);
}

#[test]
fn an_object_that_stays_proves_nothing_for_another_image() {
    let rows: &[Row] = &[
        ("early_ack, lost", |history| {
            let images = [first("x.png", "x"), first("x.png", "y")];
            beside(history, images, &[Deliver, PutKeyTaken, Head, Acknowledge]);
        }),
        ("early_ack, lost", |history| {
            beside(history, [first("x.png", "x"), first("x.png", "x")], &[Deliver, Acknowledge]);
        }),
        ("early_ack, lost", |history| {
            beside(history, [first("x.png", "x"), first("x.png", "x")], &[Deliver, Head, Acknowledge]);
        }),
        ("early_ack", |history| {
            beside(history, [first("x.png", "x"), first("x.png", "x")], &[Deliver, PutKeyTaken, Acknowledge]);
        }),
        // A message with the same image as the object is no conflict.
        ("wrongly_parked", |history| {
            let images = [first("x.png", "x"), first("x.png", "x")];
            let [_, same] = beside(history, images, &[Deliver, PutKeyTaken, Head, Park, Acknowledge]);
            history.park(same, "ObjectExists");
        }),
        // The first image was acknowledged, and the second replaced it nevertheless.
        ("lost", |history| {
            let [_, last] = beside(history, [first("x.png", "x"), first("x.png", "y")], &[Deliver, Put, Acknowledge]);
            history.found.stored.pop();
            history.store(last, "x.png");
        }),
        ("early_ack, lost", |history| addressed_twice(history, &[Deliver, Acknowledge])),
        ("early_ack, lost", |history| addressed_twice(history, &[Deliver, Head, Acknowledge])),
    ];
    are_named(rows);
}
