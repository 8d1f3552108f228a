//! The prefetch of a consumer: 1 at the beginning of each session, and no subscription while S3 fails.

use std::time::Duration;

use delivery_policy::{Action, Event, Id, Policy, Scope, Settings};

const PREFETCH: u16 = 10;

fn policy() -> Policy {
    let holding_time = Duration::from_secs(900);
    Policy::new(Settings { prefetch: PREFETCH, delivery_limit: 20, holding_time, parks: true }, 1)
}

/// Sends one event per second to the policy and returns the actions.
fn all(policy: &mut Policy, events: &[Event]) -> Vec<Action> {
    let at = |second: usize| Duration::from_secs(u64::try_from(second).unwrap_or(u64::MAX));
    events.iter().enumerate().flat_map(|(second, event)| policy.handle(*event, at(second))).collect()
}

fn delivered(id: u64) -> Event {
    Event::Delivered { id: Id(id), returns: 0, renewals: 0 }
}

/// The prefetch of each `Subscribe` action.
fn prefetches(actions: &[Action]) -> Vec<u16> {
    let of = |action: &Action| if let Action::Subscribe { prefetch } = action { Some(*prefetch) } else { None };
    actions.iter().filter_map(of).collect()
}

/// Stores one message after another until the prefetch is reached.
fn grown(policy: &mut Policy) -> Vec<u16> {
    let mut actions = policy.handle(Event::Connected, Duration::ZERO);
    let mut next = 0;
    while let Some(prefetch) = prefetches(&actions).last().copied()
        && prefetch < PREFETCH
        && next < 1_000
    {
        let granted = u64::from(prefetch);
        actions.extend(policy.handle(Event::Subscribed, Duration::ZERO));
        for id in next..next + granted {
            actions.extend(all(policy, &[delivered(id), Event::Converted(Id(id))]));
        }
        for id in next..next + granted {
            actions.extend(policy.handle(Event::Stored(Id(id)), Duration::ZERO));
        }
        actions.extend(policy.handle(Event::Unsubscribed, Duration::ZERO));
        next += granted;
    }
    prefetches(&actions)
}

#[test]
fn a_session_begins_with_one_message_and_each_stored_message_doubles_the_prefetch() {
    let mut policy = policy();
    assert_eq!(grown(&mut policy).first(), Some(&1), "a process that has just started");
    let actions = all(&mut policy, &[Event::Subscribed, Event::Disconnected, Event::Connected]);
    assert_eq!(prefetches(&actions), [1], "a session after an error");
    let mut policy = self::policy();
    assert_eq!(grown(&mut policy), [1, 2, 8, PREFETCH]);
}

#[test]
fn a_consumer_cancels_its_subscription_when_s3_fails_and_begins_again_with_one_message() {
    for scope in [Scope::Store, Scope::Environment] {
        let mut policy = policy();
        grown(&mut policy);
        all(&mut policy, &[Event::Subscribed, delivered(100), Event::Converted(Id(100))]);
        let failed = Event::UploadFailed { id: Id(100), scope, object: 1 };
        let actions = policy.handle(failed, Duration::from_secs(1));
        assert_eq!(actions, [Action::Unsubscribe { is_full: false }], "{scope:?}");
        let actions = policy.handle(Event::Unsubscribed, Duration::from_secs(1));
        assert_eq!(prefetches(&actions), [0; 0], "{scope:?}: messages that other pods return stay queued");
        assert!(!policy.has_room());
        let retried = policy.handle(Event::TimePassed, Duration::from_secs(20));
        assert_eq!(retried, [Action::Upload(Id(100))]);
        let stored = policy.handle(Event::Stored(Id(100)), Duration::from_secs(21));
        assert_eq!(prefetches(&stored), [2], "{scope:?}: one message was settled");
    }
}

/// Sends an event to the policy, answers each upload of message 101 and 102 with a broken connection, and returns the
/// other actions.
fn broken_off(policy: &mut Policy, event: Event, second: u64) -> Vec<Action> {
    let (mut events, mut actions) = (vec![event], Vec::new());
    while let Some(event) = events.pop() {
        for action in policy.handle(event, Duration::from_secs(second)) {
            match action {
                Action::Upload(id @ Id(101 | 102)) => {
                    events.push(Event::UploadFailed { id, scope: Scope::MaybeTooLarge, object: id.0 });
                }
                other => actions.push(other),
            }
        }
    }
    actions
}

/// A proxy breaks off two large objects, and S3 stores the others.
#[test]
fn objects_that_may_be_too_large_wait_for_the_next_stored_image_and_are_no_outage() {
    let mut policy = policy();
    grown(&mut policy);
    let mut actions = Vec::new();
    for event in [Event::Subscribed, delivered(101), delivered(102), delivered(103)] {
        actions.extend(broken_off(&mut policy, event, 1));
    }
    for event in [101, 102, 103].map(|id| Event::Converted(Id(id))).into_iter().chain([Event::Stored(Id(103))]) {
        actions.extend(broken_off(&mut policy, event, 1));
    }
    actions.extend(broken_off(&mut policy, Event::Unsubscribed, 2));
    for second in 3..63 {
        actions.extend(broken_off(&mut policy, Event::TimePassed, second));
    }
    assert_eq!(policy.fault(), None);
    let moved = |action: &&Action| matches!(action, Action::Renew(_) | Action::HandBack(_) | Action::Park(_));
    assert_eq!(actions.iter().find(moved), None, "there is room for others");

    let mut actions = Vec::new();
    for event in [Event::Subscribed, delivered(104), Event::Converted(Id(104)), Event::Stored(Id(104))] {
        actions.extend(broken_off(&mut policy, event, 64));
    }
    for second in 65..75 {
        actions.extend(broken_off(&mut policy, Event::TimePassed, second));
    }
    let parked = |id| actions.contains(&Action::Park(Id(id)));
    assert!(parked(101) && parked(102), "{actions:?}");
}
