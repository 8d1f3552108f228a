//! The answers of S3 and the broker in a plan.

use delivery_policy::{Scope, Time};
use fastrand::Rng;

use super::plan::{Body, Plan};

pub enum Upload {
    Stored,
    Failed(Scope),
}

impl Plan {
    pub fn upload(&self, body: Body, now: Time, random: &mut Rng) -> Upload {
        if let Some((_, scope)) = self.storage_outages.iter().find(|(window, _)| window.contains(now)) {
            return Upload::Failed(*scope);
        }
        let (percent, scope) = self.flaky;
        match body {
            Body::Refused => Upload::Failed(Scope::MaybeObject),
            Body::TooLarge => Upload::Failed(Scope::MaybeTooLarge),
            _ if percent > 0 && random.u32(..100) < percent => Upload::Failed(scope),
            _ => Upload::Stored,
        }
    }

    pub fn parks(&self, now: Time) -> bool {
        !self.parking_outages.iter().any(|window| window.contains(now))
    }

    /// `Err(true)`: the broker refuses the copy; `Err(false)`: the broker can't answer.
    pub fn renews(&self, now: Time) -> Result<(), bool> {
        self.renewal_outages
            .iter()
            .find(|(window, _)| window.contains(now))
            .map_or(Ok(()), |(_, refused)| Err(*refused))
    }
}
