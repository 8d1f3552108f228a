//! Leader election by a Lease: of several operators one works, and the others wait until it lets go of
//! the Lease or has not renewed it for the length of it. As client-go does it, and with a term that a
//! write must fall into. It must never compare another machine's clock with this one's: what counts is
//! when a change of the Lease was seen here. (The crates there are for this compare them.)

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

/// How long others wait for a leader that renews no more.
const LEASE_DURATION: Duration = Duration::from_secs(15);

/// How long a leader that can't renew goes on. What it sent last has the rest of the Lease to arrive.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);

/// How often a leader renews, and how often the others look.
const RENEW_EVERY: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long the API server may take to answer before it is asked anew.
const ANSWERS_WITHIN: Duration = Duration::from_secs(3);

/// The time for which an operator leads for certain. Clones share it.
#[derive(Clone, Debug)]
pub struct Term(Arc<Mutex<Instant>>);

impl Term {
    /// A term without an end, for an operator that is known to be alone.
    pub fn unlimited() -> Self {
        Self::ending(Instant::now() + Duration::from_secs(100 * 365 * 24 * 3600))
    }

    /// Whether no other operator can lead yet.
    pub fn is_valid(&self) -> bool {
        Instant::now() < self.end()
    }

    pub(super) fn ending(end: Instant) -> Self {
        Self(Arc::new(Mutex::new(end)))
    }

    fn end(&self) -> Instant {
        *self.locked()
    }

    fn extend(&self, end: Instant) {
        *self.locked() = end;
    }

    fn locked(&self) -> MutexGuard<'_, Instant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One operator's part in the election.
pub struct Election {
    api: Api<Lease>,
    name: String,
    identity: String,
    /// What another wrote last, and when that was seen first.
    seen: Option<(LeaseSpec, Instant)>,
}

impl Election {
    /// For the Lease of this name; `identity` must be no other process's.
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str) -> Self {
        let (name, identity) = (name.to_owned(), identity.to_owned());
        Self { api: Api::namespaced(client, namespace), name, identity, seen: None }
    }

    /// Waits until this operator leads; `None` if it is told to stop before. `waits` is told that the
    /// Lease could be read and is another's.
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
                        tracing::warn!(%error, lease = self.name, "the lease can't be had; trying again");
                    }
                }
            }
            drop(timeout(LOOK_EVERY, stop.cancelled()).await);
        }
    }

    /// Renews the Lease until it is another's or the term has ended.
    pub async fn hold(&mut self, term: &Term) {
        loop {
            sleep_until(term.end().min(Instant::now() + RENEW_EVERY)).await;
            if !term.is_valid() {
                return tracing::warn!(lease = self.name, "the lease could not be renewed in time");
            }
            // A process that stood still may find an answer from before: what counts is when it was asked.
            match timeout_at(term.end(), self.claim()).await {
                Ok(Ok(Some(since))) => term.extend(since + RENEW_DEADLINE),
                Ok(Ok(None)) => return tracing::warn!(lease = self.name, "the lease is another's"),
                Ok(Err(error)) => tracing::warn!(%error, lease = self.name, "the lease can't be renewed; trying again"),
                Err(_) => {}
            }
        }
    }

    /// Lets go of the Lease, so that another need not wait.
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
            tracing::warn!(%error, lease = self.name, "the lease could not be released; it runs out by itself");
        }
    }

    /// Takes the Lease or renews it: since when it is surely this operator's. `None`: it is another's.
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

    /// Only in the version that was read: of two that take it at once, one is refused.
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
