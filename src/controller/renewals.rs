//! Counts the messages that consumers renewed, as the pods report them, and decides when a Warning event is due. Counts
//! are kept per pod, so that a pod that goes, restarts or misses a poll changes no sum.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

use super::observation::ObservedPod;
use super::transitions::Transition;
use crate::reason::Reason;

/// The shortest time between two events of one pipeline. The text of each event differs, so without a limit a long
/// outage would create an Event object at every poll.
const EVERY: SignedDuration = SignedDuration::from_mins(10);

#[derive(Clone, Debug, Default)]
pub struct Renewals {
    /// By pod, the count in its last report; `None`: the pod existed at the first poll and has not answered yet. The
    /// whole map is `None` before the first poll.
    pods: Option<HashMap<String, Option<u64>>>,
    /// Messages renewed since the last event.
    unreported: u64,
    reported_at: Option<Timestamp>,
}

impl Renewals {
    /// Takes the reports of one poll and returns how many messages were renewed since the last poll. The first poll
    /// counts none: the pods may have renewed them long ago.
    pub fn count(&mut self, pods: &[ObservedPod]) -> u64 {
        let earlier = self.pods.take();
        let mut grown = 0_u64;
        let counts = pods.iter().map(|pod| {
            // A new pod starts at 0.
            let before = earlier.as_ref().and_then(|earlier| earlier.get(&pod.name).copied().unwrap_or(Some(0)));
            let Some(now) = pod.report.as_ref().map(|report| report.renewed) else { return (pod.name.clone(), before) };
            // A smaller count comes from a restarted process.
            let since = before.map_or(0, |before| now.checked_sub(before).unwrap_or(now));
            grown = grown.saturating_add(since);
            (pod.name.clone(), Some(now))
        });
        self.pods = Some(counts.collect());
        self.unreported = self.unreported.saturating_add(grown);
        grown
    }

    /// The event that is due for `queue`, if any.
    pub fn event(&self, queue: &str, now: Timestamp) -> Option<Transition> {
        let is_recent = self.reported_at.is_some_and(|reported| now.duration_since(reported) < EVERY);
        (self.unreported > 0 && !is_recent).then(|| Transition {
            warning: true,
            reason: Reason::MessagesRenewed,
            note: note(queue, self.unreported),
        })
    }

    /// Notes that the API server has the event.
    pub fn reported(&mut self, now: Timestamp) {
        (self.unreported, self.reported_at) = (0, Some(now));
    }
}

fn note(queue: &str, messages: u64) -> String {
    let messages = if messages == 1 { "1 message".to_owned() } else { format!("{messages} messages") };
    format!(
        "Consumers moved {messages} to the end of queue {queue:?} by publishing copies: the messages came near the \
         queue's delivery limit, because consumers crashed or connections closed; or S3 refused every image that was \
         tried; or S3 or the parking queue refused them for longer than failures.holdingTime. No message is lost. To find the cause, check restarts of the pods \
         (kubectl get pods), errors in their logs, and the conditions BrokerReachable, StorageAvailable, \
         ParkingAvailable and ConsumersAvailable."
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::pod_status::{PodStatus, healthy};

    fn pod(name: &str, renewed: Option<u64>) -> ObservedPod {
        let report = renewed.map(|renewed| PodStatus { renewed, ..healthy() });
        ObservedPod { name: name.to_owned(), report, ..ObservedPod::default() }
    }

    #[test]
    fn only_what_pods_renewed_since_the_last_poll_counts() {
        let mut renewals = Renewals::default();
        for (what, pods, expected) in [
            ("the first poll", vec![pod("a", Some(7)), pod("b", None)], 0),
            ("the first answer of a pod from the first poll", vec![pod("a", Some(7)), pod("b", Some(5))], 0),
            ("both pods renew", vec![pod("a", Some(9)), pod("b", Some(6))], 3),
            ("a pod does not answer", vec![pod("a", None), pod("b", Some(6))], 0),
            ("the pod answers again", vec![pod("a", Some(9)), pod("b", Some(6))], 0),
            ("a pod is gone, another renews", vec![pod("b", Some(8))], 2),
            ("a new pod renews", vec![pod("b", Some(8)), pod("c", Some(1))], 1),
            ("a process starts again", vec![pod("b", Some(0)), pod("c", Some(1))], 0),
            ("and renews", vec![pod("b", Some(4)), pod("c", Some(1))], 4),
            ("no pod", vec![], 0),
        ] {
            assert_eq!(renewals.count(&pods), expected, "{what}");
        }
    }

    #[test]
    fn an_event_sums_up_what_happened_since_the_last_one() {
        let at = |minutes| Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minutes);
        let mut renewals = Renewals::default();
        assert_eq!(renewals.count(&[pod("a", Some(2))]), 0);
        assert_eq!(renewals.event("tiles", at(0)), None);
        renewals.count(&[pod("a", Some(3))]);
        let event = renewals.event("tiles", at(0)).unwrap();
        assert!(event.warning && event.note.contains("1 message to the end of queue \"tiles\""), "{event:?}");
        assert!(renewals.event("tiles", at(0)).is_some(), "not published yet");
        renewals.reported(at(0));
        renewals.count(&[pod("a", Some(5))]);
        assert_eq!(renewals.event("tiles", at(9)), None, "too soon");
        renewals.count(&[pod("a", Some(6))]);
        let event = renewals.event("tiles", at(10)).unwrap();
        assert!(event.note.contains("3 messages"), "{event:?}");
        renewals.reported(at(10));
        assert_eq!(renewals.event("tiles", at(60)), None, "nothing new");
    }
}
