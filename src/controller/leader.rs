//! Leader election by a Lease: one operator is active, and the others wait until it releases the Lease or the Lease
//! expires. As in client-go, clocks of different machines are never compared: a Lease expires by the time at which this
//! process last saw the Lease change. Beyond client-go, a leader checks its [`Term`] before every write.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

/// How long the other operators wait for a leader that no longer renews its Lease.
const LEASE_DURATION: Duration = Duration::from_secs(15);

/// How long a leader that can't renew keeps working. Its last write has the rest of the Lease to arrive.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);

/// How often the leader renews the Lease, and how often the other operators read it.
const RENEW_EVERY: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Timeout of one request for the Lease; after it the request is sent again.
const ANSWERS_WITHIN: Duration = Duration::from_secs(3);

/// The time until which no other operator can be the leader. Clones share it.
#[derive(Clone, Debug)]
pub struct Term(Arc<Mutex<Instant>>);

impl Term {
    /// A term without an end, for an operator that runs without leader election.
    pub fn unlimited() -> Self {
        Self::ending(Instant::now() + Duration::from_secs(100 * 365 * 24 * 3600))
    }

    /// Whether this operator is certainly the only leader.
    pub fn is_valid(&self) -> bool {
        Instant::now() < self.end()
    }

    pub(super) fn ending(end: Instant) -> Self {
        Self(Arc::new(Mutex::new(end)))
    }

    fn end(&self) -> Instant {
        *self.0.lock()
    }

    fn extend(&self, end: Instant) {
        *self.0.lock() = end;
    }
}

pub struct Election {
    api: Api<Lease>,
    name: String,
    identity: String,
    /// The last Lease of another holder, and when this process first saw that version.
    seen: Option<(LeaseSpec, Instant)>,
}

impl Election {
    /// `identity` must be unique among the operators of this Lease.
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str) -> Self {
        let (name, identity) = (name.to_owned(), identity.to_owned());
        Self { api: Api::namespaced(client, namespace), name, identity, seen: None }
    }

    /// Waits until this operator is the leader; `None` if `stop` comes first. `waits` is called each time the Lease
    /// was read and another operator holds it.
    pub async fn win(&mut self, waits: impl Fn(), stop: &CancellationToken) -> Option<Term> {
        let mut failing = false;
        loop {
            if stop.is_cancelled() {
                return None;
            }
            match self.claim().await {
                Ok(Some(since)) => return Some(Term::ending(since + RENEW_DEADLINE)),
                Ok(None) => {
                    waits();
                    failing = false;
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, lease = self.name, "the Lease can't be read or written; trying again");
                    }
                }
            }
            drop(timeout(LOOK_EVERY, stop.cancelled()).await);
        }
    }

    /// Renews the Lease until another operator holds it or the term has ended.
    pub async fn hold(&mut self, term: &Term) {
        loop {
            sleep_until(term.end().min(Instant::now() + RENEW_EVERY)).await;
            if !term.is_valid() {
                return tracing::warn!(lease = self.name, "the Lease could not be renewed in time");
            }
            // A process that was suspended may receive an old response: the term counts from the request.
            match timeout_at(term.end(), self.claim()).await {
                Ok(Ok(Some(since))) => term.extend(since + RENEW_DEADLINE),
                Ok(Ok(None)) => return tracing::warn!(lease = self.name, "another operator holds the Lease"),
                Ok(Err(error)) => tracing::warn!(%error, lease = self.name, "the Lease can't be renewed; trying again"),
                Err(_) => {}
            }
        }
    }

    /// Releases the Lease, so that another operator takes it without waiting for its expiry.
    pub async fn release(&self) {
        let released = async {
            let Some(lease) = in_time(self.api.get_opt(&self.name)).await? else { return Ok(()) };
            let spec = lease.spec.unwrap_or_default();
            if spec.holder_identity.as_deref() != Some(&self.identity) {
                return Ok(());
            }
            self.replace(lease.metadata, LeaseSpec { lease_transitions: spec.lease_transitions, ..Default::default() })
                .await
        };
        if let Err(error) = released.await {
            tracing::warn!(%error, lease = self.name, "the Lease could not be released; it will expire");
        }
    }

    /// Takes or renews the Lease. Returns the time from which this operator's term counts; `None`: another operator
    /// holds the Lease.
    async fn claim(&mut self) -> Result<Option<Instant>, kube::Error> {
        let found = in_time(self.api.get_opt(&self.name)).await?;
        let since = Instant::now();
        let Some(Lease { metadata, spec }) = found else {
            let metadata = ObjectMeta { name: Some(self.name.clone()), ..Default::default() };
            let lease = Lease { metadata, spec: Some(self.claimed(LeaseSpec::default())) };
            in_time(self.api.create(&PostParams::default(), &lease)).await?;
            return Ok(Some(since));
        };
        let spec = spec.unwrap_or_default();
        if !self.is_free(&spec, since) {
            return Ok(None);
        }
        self.replace(metadata, self.claimed(spec)).await?;
        Ok(Some(since))
    }

    /// Replaces only the resource version that was read: if two operators take the Lease, the API server refuses one.
    async fn replace(&self, metadata: ObjectMeta, spec: LeaseSpec) -> Result<(), kube::Error> {
        let lease = Lease { metadata, spec: Some(spec) };
        in_time(self.api.replace(&self.name, &PostParams::default(), &lease)).await.map(drop)
    }

    fn is_free(&mut self, spec: &LeaseSpec, now: Instant) -> bool {
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        if holder.is_empty() || holder == self.identity {
            return true;
        }
        let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        match &self.seen {
            Some((seen, since)) if seen == spec => {
                now.duration_since(*since) >= seconds.map_or(LEASE_DURATION, Duration::from_secs)
            }
            _ => {
                self.seen = Some((spec.clone(), now));
                false
            }
        }
    }

    fn claimed(&self, before: LeaseSpec) -> LeaseSpec {
        let now = Some(MicroTime(Timestamp::now()));
        let is_renewal = before.holder_identity.as_deref() == Some(&self.identity);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(LEASE_DURATION.as_secs()).ok(),
            acquire_time: if is_renewal { before.acquire_time } else { now.clone() },
            renew_time: now,
            lease_transitions: Some(before.lease_transitions.unwrap_or_default() + i32::from(!is_renewal)),
            ..before
        }
    }
}

async fn in_time<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, kube::Error> {
    timeout(ANSWERS_WITHIN, request)
        .await
        .unwrap_or_else(|_| Err(kube::Error::Service("the API server does not answer".into())))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn election() -> Election {
        let config = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        Election::new(Client::try_from(config).unwrap(), "system", "lease", "ours")
    }

    fn held(holder: &str, renewed: &str) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(15),
            renew_time: Some(MicroTime(renewed.parse().unwrap())),
            ..LeaseSpec::default()
        }
    }

    #[tokio::test]
    async fn what_counts_is_when_a_change_was_seen_and_never_what_another_clock_said() {
        let (mut election, start) = (election(), Instant::now());
        let mut free = |spec: &LeaseSpec, seconds| election.is_free(spec, start + Duration::from_secs(seconds));
        let (long_ago, to_come) = (held("theirs", "1999-01-01T00:00:00Z"), held("theirs", "2999-01-01T00:00:00Z"));
        assert!(!free(&long_ago, 0));
        assert!(!free(&long_ago, 14));
        assert!(!free(&to_come, 14), "renewed");
        assert!(!free(&to_come, 28));
        assert!(free(&to_come, 29), "15 s after it was seen");
    }

    #[tokio::test]
    async fn a_lease_that_is_nobody_s_or_ours_is_taken_at_once() {
        let (mut election, now) = (election(), Instant::now());
        assert!(election.is_free(&LeaseSpec::default(), now));
        assert!(election.is_free(&held("", "2999-01-01T00:00:00Z"), now));
        assert!(election.is_free(&held("ours", "2999-01-01T00:00:00Z"), now), "a container that was restarted");
    }

    #[tokio::test]
    async fn a_term_counts_its_transitions_and_keeps_when_it_began() {
        let election = election();
        let taken = election.claimed(held("theirs", "1999-01-01T00:00:00Z"));
        assert_eq!((taken.lease_transitions, taken.lease_duration_seconds), (Some(1), Some(15)));
        let renewed = election.claimed(taken.clone());
        assert_eq!((renewed.lease_transitions, &renewed.acquire_time), (Some(1), &taken.acquire_time));
    }
}
