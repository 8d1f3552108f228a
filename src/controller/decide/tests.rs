//! The decision for single polls, over time, and its properties for any load.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use jiff::SignedDuration;
use proptest::prelude::*;

use super::*;
use crate::controller::observation::ObservedPod;

fn at(seconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1_700_000_000 + seconds)
}

fn scaling(min: i32, max: i32, messages: i32) -> Scaling {
    Scaling { min_replicas: min, max_replicas: max, messages_per_replica: Some(messages), ..Scaling::default() }
}

fn automatic(scaling: &Scaling) -> SizeSpec<'_> {
    SizeSpec { replicas: None, paused: false, scaling }
}

fn load(current: impl Into<Option<i32>>, ready: impl Into<Option<u32>>) -> Load {
    let depth = ready.into().map(|ready| QueueDepth { ready, consumers: 1 });
    Load {
        current: current.into(),
        depth,
        in_flight: 0,
        progress: Progress::default(),
        consuming: false,
        unasked: false,
        held: false,
        away: false,
        throughput: None,
    }
}

fn observed(pods: Vec<ObservedPod>) -> Observation {
    Observation {
        at: jiff::Timestamp::UNIX_EPOCH,
        deployment: None,
        spec: String::new(),
        hold: None,
        written: None,
        depth: Ok(QueueDepth { ready: 0, consumers: 1 }),
        parked: None,
        foreign: 0,
        credentials: None,
        secrets: String::new(),
        pods,
    }
}

fn held(load: Load) -> Load {
    Load { held: true, ..load }
}

/// The sizes after each poll, where the size before each poll has been applied.
fn sizes(asked: &SizeSpec<'_>, start: i32, readings: &[(i64, Load)]) -> Vec<i32> {
    let (mut current, mut memory) = (start, Memory::default());
    let step = |(seconds, load): &(i64, Load)| {
        let load = Load { current: Some(current), ..load.clone() };
        let (decision, next) = decide(asked, &load, &memory, at(*seconds));
        memory = next;
        current = decision.replicas;
        current
    };
    readings.iter().map(step).collect()
}

/// Second and size of each change, with the backlogs polled every 2 s.
fn changes(start: i32, backlogs: impl IntoIterator<Item = u32>) -> Vec<(i64, i32)> {
    let readings: Vec<_> = (0..).step_by(2).zip(backlogs).map(|(at, ready)| (at, load(None, ready))).collect();
    let sizes = sizes(&automatic(&scaling(0, 20, 50)), start, &readings);
    let mut before = start;
    let changed = readings.iter().zip(sizes).filter_map(|((at, _), size)| {
        let changed = size != before;
        before = size;
        changed.then_some((*at, size))
    });
    changed.collect()
}

#[test]
fn one_reading_decides() {
    let automatic = |min, max| (None, false, scaling(min, max, 50));
    let fixed = |replicas| (Some(replicas), false, scaling(2, 4, 50));
    let paused = (None, true, scaling(2, 4, 50));
    let cases = [
        ("no deployment, empty", automatic(0, 20), load(None, 0), 0, Basis::BacklogCounted),
        ("no deployment, backlog", automatic(0, 20), load(None, 101), 3, Basis::ScaledUp),
        ("no deployment, unknown", automatic(2, 20), load(None, None), 2, Basis::DepthUnknown),
        ("zero to many in one step", automatic(0, 20), load(0, 1001), 20, Basis::ScaledUp),
        ("one message is enough", automatic(0, 20), load(0, 1), 1, Basis::ScaledUp),
        ("exact multiple", automatic(0, 20), load(2, 100), 2, Basis::BacklogCounted),
        ("unknown keeps the size", automatic(0, 20), load(7, None), 7, Basis::DepthUnknown),
        ("minimum raised", automatic(4, 20), load(1, 0), 4, Basis::BacklogCounted),
        ("a lower maximum acts immediately", automatic(0, 3), load(9, 900), 3, Basis::BacklogCounted),
        ("lower need waits", automatic(0, 20), load(9, 1), 9, Basis::BacklogCounted),
        ("held does not grow", automatic(0, 20), held(load(3, 900)), 3, Basis::GrowthHeld),
        ("held, a first pod starts", automatic(0, 20), held(load(0, 900)), 1, Basis::GrowthHeld),
        ("held, the minimum stays", automatic(2, 20), held(load(None, 900)), 2, Basis::GrowthHeld),
        ("held, no more pods needed", automatic(0, 20), held(load(3, 150)), 3, Basis::BacklogCounted),
        ("held at zero, no pod needed", automatic(0, 20), held(load(0, 0)), 0, Basis::BacklogCounted),
        ("fixed", fixed(7), load(3, 900), 7, Basis::FixedSize),
        ("fixed, more pods would not help", fixed(7), held(load(3, 900)), 7, Basis::FixedSize),
        ("fixed at zero", fixed(0), load(3, 900), 0, Basis::FixedSize),
        ("fixed, unknown", fixed(1), load(3, None), 1, Basis::FixedSize),
        ("fixed and paused", (Some(7), true, scaling(2, 4, 50)), load(3, 900), 7, Basis::FixedSize),
        ("paused", paused.clone(), load(3, 900), 3, Basis::Paused),
        ("paused beyond the limits", paused.clone(), load(9, 0), 9, Basis::Paused),
        ("paused, unknown", paused.clone(), load(3, None), 3, Basis::Paused),
        ("paused from the start", paused, load(None, 900), 2, Basis::Paused),
    ];
    for (name, (replicas, paused, scaling), load, size, basis) in cases {
        let asked = SizeSpec { replicas, paused, scaling: &scaling };
        let (decision, _) = decide(&asked, &load, &Memory::default(), at(0));
        assert_eq!((decision.replicas, decision.basis), (size, basis), "{name}");
    }
}

#[test]
fn what_pods_hold_counts() {
    let holding = Load { in_flight: 60, ..load(2, 0) };
    let (decision, _) = decide(&automatic(&scaling(0, 20, 50)), &holding, &Memory::default(), at(0));
    assert_eq!((decision.replicas, decision.backlog), (2, Some(60)));
}

#[test]
fn zero_messages_and_zero_consumers_while_a_pod_consumes_is_unknown() {
    let scaling = scaling(0, 20, 50);
    let lie = Load { depth: Some(QueueDepth { ready: 0, consumers: 0 }), consuming: true, ..load(3, None) };
    assert_eq!(sizes(&automatic(&scaling), 3, &[(0, lie.clone()), (61, lie.clone()), (122, lie.clone())]), [3, 3, 3]);
    let truth = Load { consuming: false, ..lie };
    assert_eq!(sizes(&automatic(&scaling), 3, &[(0, truth.clone()), (61, truth)]), [3, 0]);
}

#[test]
fn shrinks_to_the_most_that_was_needed_within_the_window() {
    let readings = [(0, load(None, 0)), (30, load(None, 120)), (59, load(None, 0)), (60, load(None, 0))];
    assert_eq!(sizes(&automatic(&scaling(0, 20, 50)), 8, &readings), [8, 8, 8, 3]);
}

#[test]
fn each_step_down_comes_as_soon_as_its_own_window_has_passed() {
    let backlogs = |second: u32| if second < 10 { 300 } else { 210u32.saturating_sub(10 * (second - 10)) };
    assert_eq!(
        changes(6, (0..200).step_by(2).map(backlogs)),
        // 6 pods were needed for the last time at second 10, 5 at 12, 4 at 16, 3 at 22, 2 at 26, 1 at 32.
        [(70, 5), (72, 4), (76, 3), (82, 2), (86, 1), (92, 0)],
    );
}

/// Six pods of 25 messages per second each: 20 s with a backlog, then a load of 62.5 messages per second.
#[test]
fn pods_that_keep_up_with_an_even_load_stay_and_the_others_go() {
    let (mut current, mut memory, mut finished, mut sizes) = (6, Memory::default(), 0, vec![]);
    for second in (0..600).step_by(2) {
        let ready = if second < 20 { 294 } else { 0 };
        finished += if second < 20 { 300 } else { 125 };
        let progress = Progress { finished, pods: current as u32 };
        let load = Load { progress, in_flight: 6, ..load(current, ready) };
        let (decision, next) = decide(&automatic(&scaling(0, 20, 50)), &load, &memory, at(second));
        (current, memory) = (decision.replicas, next);
        if sizes.last() != Some(&current) {
            sizes.push(current);
        }
    }
    assert_eq!(sizes, [6, 3]);
}

#[test]
fn a_need_that_comes_back_is_met_at_once_and_waits_its_own_window() {
    let backlogs = |second| match second {
        0 | 40 => 300,
        _ => 0,
    };
    assert_eq!(changes(0, (0..200).step_by(2).map(backlogs)), [(0, 6), (102, 0)]);
}

#[test]
fn an_unknown_reading_starts_the_window_anew() {
    let readings = [(0, load(None, 0)), (59, load(None, None)), (61, load(None, 0)), (122, load(None, 0))];
    assert_eq!(sizes(&automatic(&scaling(0, 20, 50)), 2, &readings), [2, 2, 2, 0]);
}

#[test]
fn a_restart_of_the_operator_and_a_size_handed_back_start_it_anew_too() {
    let scaling = scaling(0, 20, 50);
    let (_, before) = decide(&automatic(&scaling), &load(5, 0), &Memory::default(), at(0));
    let again = |memory: &Memory| decide(&automatic(&scaling), &load(5, 0), memory, at(60)).0.replicas;
    assert_eq!((again(&before), again(&Memory::default())), (0, 5));
    for (replicas, paused) in [(Some(5), false), (None, true)] {
        let (_, memory) = decide(&SizeSpec { replicas, paused, scaling: &scaling }, &load(5, 0), &before, at(30));
        assert_eq!(again(&memory), 5);
    }
}

#[test]
fn a_size_that_growing_was_held_at_shrinks_as_any_other() {
    let readings = [(0, held(load(None, 900))), (2, held(load(None, 0))), (62, held(load(None, 0)))];
    assert_eq!(sizes(&automatic(&scaling(0, 20, 50)), 3, &readings), [3, 3, 0]);
}

#[test]
fn the_last_pod_needs_two_readings_a_poll_apart() {
    let immediate = Scaling { scale_down_after: Duration::ZERO.into(), ..scaling(0, 20, 50) };
    let readings = [0, 1, 2].map(|at| (at, load(None, 0)));
    assert_eq!(sizes(&automatic(&immediate), 1, &readings), [1, 1, 0]);
}

#[test]
fn a_pod_that_could_not_be_asked_keeps_the_size() {
    let unasked = Load { unasked: true, ..load(None, 0) };
    assert_eq!(sizes(&automatic(&scaling(0, 20, 50)), 2, &[(0, unasked.clone()), (70, unasked)]), [2, 2]);
}

#[test]
fn a_pod_that_may_hold_messages_nobody_counted_is_one_that_runs_ready_or_not() {
    let silent = |ready, running, ending| {
        let pod = ObservedPod { ready, running, ending, ..ObservedPod::default() };
        Load::of(&observed(vec![pod])).unasked
    };
    assert!(silent(true, true, false) && silent(false, true, false) && silent(true, true, true));
    assert!(!silent(false, false, false), "does not run yet");
    assert!(!silent(false, true, true), "terminating, perhaps on a lost node");
}

/// Six pods finish 25 messages per second each while messages wait. Then S3 is down, and afterwards 5 messages per
/// second arrive.
#[test]
fn what_pods_do_while_the_store_is_away_is_no_speed() {
    let scaling = scaling(0, 20, 50);
    let (asked, mut memory) = (automatic(&scaling), Memory::default());
    let (mut finished, mut size) = (0, 6);
    let mut looks = |range: std::ops::RangeInclusive<i64>, each: u64, ready: u32, away: bool| {
        for second in range.step_by(2) {
            finished += each;
            let progress = Progress { finished, pods: 6 };
            let load = Load { progress, held: away, away, ..load(size, ready) };
            let (decision, next) = decide(&asked, &load, &memory, at(second));
            (size, memory) = (decision.replicas, next);
        }
        size
    };
    looks(0..=8, 300, 250, false);
    looks(10..=60, 0, 250, true);
    assert_eq!(looks(62..=200, 10, 0, false), 0, "no message waits at any poll");
}

/// Seconds until the next reading, after readings every ten minutes.
fn pauses(poll_interval: Duration, readings: &[Load]) -> Vec<f64> {
    let scaling = Scaling { poll_interval: poll_interval.into(), ..scaling(0, 20, 50) };
    let mut memory = Memory::default();
    let step = |(number, load): (i64, &Load)| {
        let (decision, next) = decide(&automatic(&scaling), load, &memory, at(number * 600));
        memory = next;
        decision.check_again_in.as_secs_f64()
    };
    (0..).zip(readings).map(step).collect()
}

#[test]
fn a_queue_that_is_empty_for_half_an_hour_is_read_less_often() {
    let (empty, full, unknown) = (load(0, 0), load(0, 1), load(0, None));
    let readings = [vec![empty; 5], vec![full, unknown]].concat();
    let seconds = |poll| pauses(poll, &readings);
    assert_eq!(seconds(Duration::from_secs(2)), [2., 2., 2., 10., 10., 2., 2.]);
    assert_eq!(seconds(Duration::from_millis(500)), [0.5, 0.5, 0.5, 2.5, 2.5, 0.5, 0.5]);
    assert_eq!(seconds(Duration::from_secs(60)), [60.; 7]);
    let busy = vec![Load { in_flight: 1, ..load(1, 0) }; 5];
    assert_eq!(pauses(Duration::from_secs(2), &busy), [2.; 5], "a pod works on a message");
}

#[test]
fn the_maximum_is_told_when_it_binds() {
    let scaling = scaling(0, 6, 50);
    let limited = |asked: &SizeSpec<'_>| decide(asked, &load(0, 301), &Memory::default(), at(0)).0.limited;
    assert!(limited(&automatic(&scaling)));
    assert!(
        !limited(&SizeSpec { replicas: Some(1), ..automatic(&scaling) }),
        "the maximum does not limit a fixed size"
    );
}

#[test]
fn a_backlog_is_drained_within_the_time_that_is_given_once_the_pods_have_a_speed() {
    let within = |seconds| Scaling {
        drain_within: Some(Duration::from_secs(seconds).into()),
        messages_per_replica: None,
        ..scaling(0, 20, 50)
    };
    let cases = [
        ("nothing measured", within(60), None, 6),
        ("5 per second", within(60), Some(5.0), 1),
        ("0.5 per second", within(60), Some(0.5), 10),
        ("less than one within the time", within(1), Some(0.01), 20),
        ("the largest number", within(86_400), Some(f64::MAX), 1),
        ("no drainWithin", scaling(0, 20, 100), Some(5.0), 3),
        ("neither field set", Scaling::default(), Some(5.0), 6),
    ];
    for (name, scaling, throughput, size) in cases {
        let load = Load { throughput, ..load(0, 300) };
        assert_eq!(decide(&automatic(&scaling), &load, &Memory::default(), at(0)).0.replicas, size, "{name}");
    }
}

#[test]
fn a_speed_that_was_measured_counts_for_the_next_burst_too() {
    let within = Scaling {
        drain_within: Some(Duration::from_secs(60).into()),
        messages_per_replica: None,
        ..scaling(0, 20, 50)
    };
    let asked = automatic(&within);
    let measured = Load { throughput: Some(0.5), ..load(3, 10) };
    let (_, memory) = decide(&asked, &measured, &Memory::default(), at(0));
    for (between, asked, seen) in [
        ("nothing", &asked, load(0, 0)),
        ("a fixed size", &SizeSpec { replicas: Some(0), ..asked.clone() }, load(0, 0)),
        ("a pause", &SizeSpec { paused: true, ..asked.clone() }, load(0, 0)),
        ("an unknown depth", &asked, load(0, None)),
    ] {
        let (_, memory) = decide(asked, &seen, &memory, at(100));
        let burst = load(0, 300);
        assert_eq!(decide(&automatic(&within), &burst, &memory, at(200)).0.replicas, 10, "after {between}");
        let faster = Load { throughput: Some(5.0), ..burst };
        assert_eq!(decide(&automatic(&within), &faster, &memory, at(200)).0.replicas, 1, "the current report counts");
    }
}

#[test]
fn the_speed_is_the_mean_of_what_pods_say() {
    let pod = |in_flight, throughput| PodStatus { in_flight, throughput, ..crate::pod_status::healthy() };
    let pods = [
        pod(3, Some(4.0)),
        pod(0, Some(8.0)),
        pod(2, None),
        pod(2, Some(0.0)),
        pod(2, Some(-1.0)),
        pod(2, Some(f64::INFINITY)),
    ];
    let throughput = |pods: &[PodStatus]| {
        let reported = |pod: &PodStatus| ObservedPod { report: Some(pod.clone()), ..ObservedPod::default() };
        Load::of(&observed(pods.iter().map(reported).collect())).throughput
    };
    assert_eq!(throughput(&pods), Some(6.0));
    assert_eq!(throughput(&pods[2..]), None);
}

/// Otherwise a backlog that falls while the watch lags would reduce a size that has just grown.
#[test]
fn a_size_that_was_just_written_is_the_present_one_though_the_watch_lags() {
    let deployment = serde_json::json!({ "spec": { "replicas": 0, "selector": {}, "template": {} } });
    let seen = |written| Observation {
        deployment: Some(std::sync::Arc::new(serde_json::from_value(deployment.clone()).unwrap())),
        written,
        depth: Ok(QueueDepth { ready: 30, consumers: 0 }),
        ..observed(vec![])
    };
    let size = |written| {
        let load = Load::of(&seen(written));
        decide(&automatic(&scaling(0, 20, 50)), &load, &Memory::default(), at(0)).0.replicas
    };
    assert_eq!((size(None), size(Some(6))), (1, 6));
}

#[test]
fn the_work_is_what_the_pods_that_consume_have_finished() {
    let pod = |consuming, processed, parked| PodStatus { consuming, processed, parked, ..crate::pod_status::healthy() };
    let pods = [pod(true, 5, 1), pod(true, 10, 0), pod(false, 100, 100), pod(true, 0, 0)];
    assert_eq!(progress(pods.iter()), Progress { finished: 16, pods: 3 });
}

fn any_load() -> impl Strategy<Value = Load> {
    let depth = (0u32..100_000, 0u32..100).prop_map(|(ready, consumers)| QueueDepth { ready, consumers });
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    let throughput = prop::option::of(1e-6f64..1e6);
    let progress = (0u64..100_000, 0u32..5).prop_map(|(finished, pods)| Progress { finished, pods });
    let held_and_done = (0u64..10_000, progress);
    (prop::option::of(0i32..2000), prop::option::of(depth), held_and_done, flags, throughput).prop_map(
        |(current, depth, (in_flight, progress), (consuming, unasked, held, away), throughput)| Load {
            current,
            depth,
            in_flight,
            progress,
            consuming,
            unasked,
            held,
            away,
            throughput,
        },
    )
}

fn any_scaling() -> impl Strategy<Value = Scaling> {
    let within = (1u64..86_400).prop_map(|seconds| (None, Some(Duration::from_secs(seconds).into())));
    let one_of_the_two = prop_oneof![(1i32..100_000).prop_map(|messages| (Some(messages), None)), within];
    (0i32..1000, 0i32..1000, one_of_the_two).prop_map(|(min, more, (messages_per_replica, drain_within))| Scaling {
        messages_per_replica,
        drain_within,
        ..scaling(min, (min + more).clamp(1, 1000), 1)
    })
}

/// Loads at times in rising order.
fn any_history() -> impl Strategy<Value = Vec<(i64, Load)>> {
    prop::collection::vec((0i64..40, any_load()), 1..20).prop_map(|steps| {
        let mut now = 0;
        let step = |(pause, load)| {
            now += pause;
            (now, load)
        };
        steps.into_iter().map(step).collect()
    })
}

fn remembered(asked: &SizeSpec<'_>, history: &[(i64, Load)]) -> Memory {
    history.iter().fold(Memory::default(), |memory, (seconds, load)| decide(asked, load, &memory, at(*seconds)).1)
}

proptest! {
    #[test]
    fn stays_within_bounds(scaling in any_scaling(), history in any_history()) {
        let asked = automatic(&scaling);
        let memory = remembered(&asked, &history);
        let (now, load) = history.last().unwrap();
        let (decision, _) = decide(&asked, load, &memory, at(*now + 1));
        prop_assert!((scaling.min_replicas..=scaling.max_replicas).contains(&decision.replicas));
    }

    #[test]
    fn unknown_never_shrinks(scaling in any_scaling(), history in any_history(), load in any_load(), later in 0i64..1_000) {
        let asked = automatic(&scaling);
        let current = load.current.unwrap_or(0).clamp(scaling.min_replicas, scaling.max_replicas);
        let load = Load { depth: None, current: Some(current), ..load };
        let (decision, _) = decide(&asked, &load, &remembered(&asked, &history), at(1_000 + later));
        prop_assert_eq!(decision.replicas, current);
    }

    #[test]
    fn held_never_grows(scaling in any_scaling(), history in any_history(), load in any_load()) {
        let asked = automatic(&scaling);
        let current = load.current.unwrap_or(0).clamp(scaling.min_replicas, scaling.max_replicas);
        let load = Load { current: Some(current), ..held(load) };
        let (decision, _) = decide(&asked, &load, &remembered(&asked, &history), at(1_000));
        prop_assert!(decision.replicas <= current.max(1));
    }

    #[test]
    fn fixed_is_fixed_and_paused_is_as_it_was(
        replicas in 0i32..=1000, scaling in any_scaling(), history in any_history(), load in any_load()
    ) {
        let fixed = SizeSpec { replicas: Some(replicas), paused: false, scaling: &scaling };
        let paused = SizeSpec { replicas: None, paused: true, scaling: &scaling };
        let memory = remembered(&automatic(&scaling), &history);
        prop_assert_eq!(decide(&fixed, &load, &memory, at(1_000)).0.replicas, replicas);
        let current = load.current.unwrap_or(scaling.min_replicas);
        prop_assert_eq!(decide(&paused, &load, &memory, at(1_000)).0.replicas, current);
    }

    #[test]
    fn more_backlog_never_means_fewer(
        scaling in any_scaling(), history in any_history(), load in any_load(), ready in 0u32..50_000, more in 0u32..50_000
    ) {
        let asked = automatic(&scaling);
        let memory = remembered(&asked, &history);
        let with = |ready| Load { depth: Some(QueueDepth { ready, consumers: 1 }), ..load.clone() };
        let (few, _) = decide(&asked, &with(ready), &memory, at(1_000));
        let (many, _) = decide(&asked, &with(ready + more), &memory, at(1_000));
        prop_assert!(many.replicas >= few.replicas);
    }

    #[test]
    fn deciding_again_changes_nothing(scaling in any_scaling(), history in any_history(), load in any_load()) {
        let asked = automatic(&scaling);
        let (first, memory) = decide(&asked, &load, &remembered(&asked, &history), at(1_000));
        let (second, again) = decide(&asked, &Load { current: Some(first.replicas), ..load }, &memory, at(1_000));
        prop_assert_eq!(first.replicas, second.replicas);
        prop_assert_eq!(memory, again);
    }
}
