//! The parts that the scenes of one test share: the control plane and the broker. No scene changes them for
//! another.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use image_pipeline::rabbitmq::address::BrokerAddress;
use tokio::sync::OnceCell;

use crate::control_plane::ControlPlane;
use servers::broker::{Broker, Version};
use servers::client::Client;

/// The vhost, and two users that may read it. Each user's password is its name.
pub const USERS: [&str; 2] = ["crash", "other"];

pub const VERSION: Version = Version::Three;

/// The servers, and the test's own connections to them.
pub struct World {
    /// Address and user of the broker.
    pub broker: BrokerAddress,
    /// A client with all rights on the API server.
    pub kubernetes: kube::Client,
    /// The test's connection to the broker.
    pub queues: Client,
}

impl World {
    /// Connects to the shared servers.
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
