//! Spreads the rollouts that an upgrade of the operator causes. A limited number of pipelines replace their pods at a
//! time, and none begins while one of those before it fails. A change of the spec is rolled out immediately. Pure: the
//! time is an argument.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Resource as _;
use kube::runtime::reflector::ObjectRef;
use parking_lot::Mutex;

use super::live::LiveDeployment;
use crate::api::ImagePipeline;
use crate::api::conditions::{ConditionStatus, ConditionType};

/// How long a pipeline counts after its rollout has begun: a namespace without room for its pods, or whose store fails,
/// does not hold up all others for longer. A pipeline that did not work before counts for the shorter time.
const COUNTS_FOR: SignedDuration = SignedDuration::from_hours(1);
const FAILED_COUNTS_FOR: SignedDuration = SignedDuration::from_mins(10);

/// Why the pods of a pipeline keep an earlier template.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Hold {
    /// The annotation `greench.dev/pin-image`.
    Pinned,
    /// It is the turn of other pipelines.
    Turn,
}

/// A pipeline whose rollout has begun.
struct Place {
    counts_until: Timestamp,
    is_replacing: bool,
    /// It did not work before its rollout, so a failure says nothing of the new version.
    failed_before: bool,
    is_failing: bool,
}

impl Place {
    fn new(failed_before: bool, now: Timestamp) -> Self {
        let counts_for = if failed_before { FAILED_COUNTS_FOR } else { COUNTS_FOR };
        let counts_until = now.checked_add(counts_for).unwrap_or(Timestamp::MAX);
        Self { counts_until, is_replacing: true, failed_before, is_failing: false }
    }
}

/// The rollouts of the last hour.
pub struct Rollouts {
    at_once: usize,
    places: Mutex<HashMap<ObjectRef<ImagePipeline>, Place>>,
}

impl Rollouts {
    pub fn new(at_once: usize) -> Self {
        Self { at_once, places: Mutex::default() }
    }

    /// Counts rollouts that an operator before this one may have begun.
    pub fn count_running(&self, pipelines: impl Iterator<Item = ObjectRef<ImagePipeline>>, now: Timestamp) {
        self.places.lock().extend(pipelines.map(|key| (key, Place::new(false, now))));
    }

    /// Whether the pipeline may replace its pods now, or has begun to. `failed_before`: it does not work already.
    pub fn begin(&self, key: &ObjectRef<ImagePipeline>, failed_before: bool, now: Timestamp) -> bool {
        let mut places = self.places.lock();
        places.retain(|_, place| now < place.counts_until);
        if places.contains_key(key) {
            return true;
        }
        let replacing = places.values().filter(|place| place.is_replacing).count();
        let may = replacing < self.at_once && !places.values().any(|place| place.is_failing);
        if may {
            places.insert(key.clone(), Place::new(failed_before, now));
        }
        may
    }

    /// Notes what a pipeline that may replace its pods does now.
    pub fn note(&self, key: &ObjectRef<ImagePipeline>, is_replacing: bool, is_failing: bool) {
        if let Some(place) = self.places.lock().get_mut(key) {
            place.is_replacing = is_replacing;
            place.is_failing = is_failing && !place.failed_before;
        }
    }

    pub fn forget(&self, key: &ObjectRef<ImagePipeline>) {
        self.places.lock().remove(key);
    }
}

/// What an earlier reconcile decided about a template.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Verdict {
    pub digest: String,
    pub is_held: bool,
}

/// The digest of the live template, if another version of the operator wrote it for the present spec. `observed`: the
/// generation that the status names, so the one that the operator has built a template for. `before`: the verdict of
/// the last reconcile. It stands while the digest does, also if the spec changes or a write fails.
pub fn outdated<'a>(
    live: &'a LiveDeployment,
    generation: Option<i64>,
    observed: Option<i64>,
    digest: &str,
    before: Option<&Verdict>,
) -> Option<&'a str> {
    let earlier = live.digest().filter(|earlier| *earlier != digest)?;
    let is_held = match before.filter(|before| before.digest == digest) {
        Some(before) => before.is_held,
        None => observed.is_none() || observed == generation,
    };
    is_held.then_some(earlier)
}

/// Whether a Deployment has pods of an earlier template, or too few that are available.
pub fn is_replacing(live: &LiveDeployment) -> bool {
    let available = live.status.as_ref().map_or(0, |status| status.available);
    has_earlier_pods(live) || available < live.replicas
}

/// Whether a Deployment has pods of an earlier template, or has not been seen by its controller.
pub fn has_earlier_pods(live: &LiveDeployment) -> bool {
    let Some(status) = &live.status else { return true };
    status.observed_generation < live.meta().generation || status.replicas > status.updated
}

/// Whether storage or broker fail, by the conditions of the last reconcile.
pub fn is_failing(conditions: &[Condition]) -> bool {
    let kinds = [ConditionType::StorageAvailable.as_str(), ConditionType::BrokerReachable.as_str()];
    conditions.iter().any(|condition| {
        kinds.contains(&condition.type_.as_str()) && condition.status == ConditionStatus::False.as_str()
    })
}

#[cfg(test)]
mod tests;
