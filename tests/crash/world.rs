//! What the scenes of one test share: the control plane and the broker. It must never hold anything
//! that one scene could change for another.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use image_pipeline::broker_address::BrokerAddress;
use tokio::sync::OnceCell;

use crate::control_plane::ControlPlane;
use servers::broker::{Broker, Version};
use servers::client::Client;

/// The virtual host, and the two users that may read it, each with its name as its password.
pub const USERS: [&str; 2] = ["crash", "other"];

/// The version of the broker.
pub const VERSION: Version = Version::Three;

/// The servers, and the test's own connections to them.
pub struct World {
    /// Where the broker is, as whom.
    pub broker: BrokerAddress,
    /// A client of the API server that may do everything.
    pub kubernetes: kube::Client,
    /// A client of the broker.
    pub queues: Client,
}

impl World {
    /// For one test.
    pub async fn new() -> Arc<Self> {
        static BROKER: OnceCell<BrokerAddress> = OnceCell::const_new();
        let (plane, broker) = tokio::join!(ControlPlane::shared(), BROKER.get_or_init(start_broker));
        let queues = Client::connect(broker).await.expect("a connection");
        Arc::new(Self { broker: broker.clone(), kubernetes: plane.client().await, queues })
    }

    /// A name that no other scene of this process has.
    pub fn new_name(&self, of: &str) -> String {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        format!("{of}-{}", NUMBER.fetch_add(1, Ordering::Relaxed))
    }
}

async fn start_broker() -> BrokerAddress {
    let broker = Broker::shared(VERSION).await;
    let [one, other] = USERS;
    let address = broker.tenant(one);
    broker.control(&["add_user", other, other]);
    broker.control(&["set_permissions", "--vhost", one, other, ".*", ".*", ".*"]);
    address
}
