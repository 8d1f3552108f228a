//! The plan of one schedule, generated from its seed.

use std::time::Duration;

use delivery_policy::{Scope, Settings, Time};
use fastrand::Rng;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    Everything,
    Outage,
    CrashingBody,
    RefusedObjects,
    Kills,
    Flaky,
}

impl Kind {
    pub fn named(name: &str) -> Option<Self> {
        let all = [Self::Everything, Self::Outage, Self::CrashingBody, Self::RefusedObjects, Self::Kills, Self::Flaky];
        all.into_iter().find(|kind| format!("{kind:?}") == name)
    }
}

/// The kind of a message's body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Body {
    Good,
    /// Can't be decoded.
    Bad,
    /// Crashes the process that decodes it. If redelivered or renewed, it is decoded in a separate process and refused.
    Crashing,
    /// S3 refuses only this object.
    Refused,
    /// The connection breaks whenever this object is sent.
    TooLarge,
}

impl Body {
    pub fn is_refused_by_s3(self) -> bool {
        matches!(self, Self::Refused | Self::TooLarge)
    }
}

#[derive(Clone, Copy, Debug)]
pub enum Fault {
    Kill(usize),
    CloseConnection(usize),
    Terminate(usize),
    BrokerRestart,
}

const SCOPES: [Scope; 4] = [Scope::Store, Scope::Environment, Scope::MaybeObject, Scope::MaybeTooLarge];

pub struct Window {
    pub from: Time,
    pub to: Time,
}

pub struct Plan {
    pub kind: Kind,
    pub seed: u64,
    pub settings: Settings,
    pub consumers: usize,
    pub bodies: Vec<Body>,
    pub faults: Vec<(Time, Fault)>,
    pub storage_outages: Vec<(Window, Scope)>,
    pub parking_outages: Vec<Window>,
    /// The broker refuses renewed copies (`true`), or can't answer (`false`).
    pub renewal_outages: Vec<(Window, bool)>,
    /// Percentage of uploads that fail by chance, and what each failure says.
    pub flaky: (u32, Scope),
    /// Longest duration of an upload, in milliseconds.
    pub longest_upload: u64,
    /// Longest time until a consumer restarts or reconnects, in milliseconds.
    pub longest_restart: u64,
}

impl Plan {
    pub fn new(seed: u64, kind: Kind) -> Self {
        let mut random = Rng::with_seed(seed ^ (kind as u64) << 56);
        let random = &mut random;
        let holding = [1, 4, 30, 900][random.usize(..4)];
        let mut plan = Self {
            kind,
            seed,
            settings: Settings {
                prefetch: [1, 2, 4, 10][random.usize(..4)],
                delivery_limit: 20,
                holding_time: Duration::from_secs(holding),
                parks: true,
            },
            consumers: [1, 1, 2, 3][random.usize(..4)],
            bodies: vec![Body::Good; random.usize(1..8)],
            faults: Vec::new(),
            storage_outages: Vec::new(),
            parking_outages: Vec::new(),
            renewal_outages: Vec::new(),
            flaky: (0, Scope::Store),
            longest_upload: 300,
            longest_restart: 2_000,
        };
        match kind {
            Kind::Everything => plan.everything(random),
            Kind::Outage => {
                plan.make_large(random);
                let scope = SCOPES[random.usize(..SCOPES.len())];
                let length = [3, 30, 300, 3_000, 3_000][random.usize(..5)];
                plan.storage_outages.push((window(random, 3, length), scope));
            }
            Kind::CrashingBody => {
                plan.make_large(random);
                plan.settings.delivery_limit = [2, 3, 20][random.usize(..3)];
                for _ in 0..random.usize(1..=4) {
                    plan.put(random, Body::Crashing);
                }
            }
            Kind::RefusedObjects => {
                plan.settings.prefetch = 10;
                plan.settings.holding_time = Duration::from_secs(900);
                plan.bodies = vec![Body::Refused; 10];
                plan.bodies.extend([Body::Good; 20]);
                plan.consumers = random.usize(1..4);
            }
            Kind::Kills => {
                plan.settings.prefetch = 10;
                plan.bodies = vec![Body::Good; 50];
                plan.consumers = random.usize(1..3);
                plan.longest_upload = 6_000;
                let kill = random.bool();
                for n in 0..25 {
                    let at = Duration::from_millis(n * 4_800 + random.u64(..2_000));
                    let victim = random.usize(..plan.consumers);
                    plan.faults.push((at, if kill { Fault::Kill(victim) } else { Fault::CloseConnection(victim) }));
                }
            }
            Kind::Flaky => {
                plan.settings.prefetch = 600;
                plan.settings.holding_time = Duration::from_secs(1);
                plan.bodies = vec![Body::Good; 620];
                plan.consumers = 1;
                plan.flaky = (5, [Scope::Store, Scope::MaybeTooLarge][random.usize(..2)]);
            }
        }
        plan
    }

    fn everything(&mut self, random: &mut Rng) {
        self.settings.delivery_limit = [10, 20][random.usize(..2)];
        match random.u32(..1_000) {
            0..5 => self.make_large(random),
            5..50 => {
                self.consumers = random.usize(1..8);
                self.bodies = vec![Body::Good; random.usize(1..30)];
            }
            _ => {}
        }
        for body in [Body::Bad, Body::Crashing, Body::Refused, Body::TooLarge] {
            for _ in 0..random.usize(..6).saturating_sub(3) {
                self.put(random, body);
            }
        }
        for _ in 0..random.usize(..5) {
            let victim = random.usize(..self.consumers);
            let fault = match random.u32(..4) {
                0 => Fault::Kill(victim),
                1 => Fault::CloseConnection(victim),
                2 => Fault::Terminate(victim),
                _ => Fault::BrokerRestart,
            };
            self.faults.push((Duration::from_millis(random.u64(..20_000)), fault));
        }
        // At most one outage per schedule: S3 does not alternate between denying and allowing.
        if random.u32(..4) == 0 {
            let length = [1, 5, 20, 200][random.usize(..4)];
            let scope = SCOPES[random.usize(..SCOPES.len())];
            self.storage_outages.push((window(random, 10, length), scope));
        }
        if random.u32(..8) == 0 {
            self.parking_outages.push(window(random, 10, 60));
        }
        if random.u32(..8) == 0 {
            self.renewal_outages.push((window(random, 10, 60), random.bool()));
        }
        if random.u32(..8) == 0 {
            // Six broken connections of one object in a row would count as a refusal.
            self.flaky = match random.bool() {
                true => (random.u32(1..30), Scope::Store),
                false => (random.u32(1..4), Scope::MaybeTooLarge),
            };
        }
    }

    fn make_large(&mut self, random: &mut Rng) {
        self.consumers = random.usize(1..=50);
        self.bodies = vec![Body::Good; random.usize(1..100)];
    }

    fn put(&mut self, random: &mut Rng, body: Body) {
        let place = random.usize(..=self.bodies.len());
        self.bodies.insert(place, body);
    }
}

fn window(random: &mut Rng, latest: u64, length: u64) -> Window {
    let from = Duration::from_millis(random.u64(..latest * 1_000));
    Window { from, to: from + Duration::from_millis(random.u64(..=length * 1_000)) }
}

impl Window {
    pub fn contains(&self, now: Time) -> bool {
        (self.from..self.to).contains(&now)
    }
}
