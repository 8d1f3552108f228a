//! A cluster of three RabbitMQ nodes on loopback. Tests may kill the node that leads a queue. The cluster shares
//! nothing with a broker of this machine.

use std::sync::Arc;

use super::broker::{Broker, Version};
use support::eventually::{LIMIT, eventually};
use support::port::Port;
use support::process::Process;
use support::proxy::Proxy;

const NODES: [&str; 3] = ["one@localhost", "two@localhost", "three@localhost"];

pub struct Cluster {
    /// The nodes, in the order of their names: one, two, three.
    pub nodes: [Broker; 3],
    /// epmd in a process of its own, so that it outlives each node.
    _registry: Process,
}

impl Cluster {
    /// Starts a cluster. Returns once all nodes are members and accept connections.
    pub async fn start(version: Version) -> Self {
        let names = Arc::new(Port::reserve());
        let mut settings = "cluster_formation.peer_discovery_backend = classic_config\n\
                            cluster_formation.target_cluster_size_hint = 3\n"
            .to_owned();
        for (number, node) in NODES.iter().enumerate() {
            settings += &format!("cluster_formation.classic_config.nodes.{} = {node}\n", number + 1);
        }
        let registry = Broker::epmd(version, &names);
        let nodes = NODES.map(|node| Broker::member(version, node, &names, &settings));
        let cluster = Self { nodes, _registry: registry };
        for node in &cluster.nodes {
            node.ready().await;
        }
        cluster.has_members(NODES.len()).await;
        cluster
    }

    /// One address for all nodes, as a Service has: each connection goes to the first node that accepts it.
    pub fn front(&self) -> Proxy {
        let nodes: Vec<_> = self.nodes.iter().map(Broker::listener).collect();
        Proxy::before(&nodes)
    }

    /// Kills the node that leads a quorum queue of the default vhost. Returns its index in `nodes`.
    pub fn kill_leader(&mut self, queue: &str) -> usize {
        let node = self.leader(queue);
        self.nodes[node].kill();
        node
    }

    /// Index in `nodes` of the node that leads a quorum queue.
    pub fn leader(&self, queue: &str) -> usize {
        let listed = self.control(&["list_queues", "--no-table-headers", "name", "leader"]);
        let leader = listed.lines().find_map(|line| line.strip_prefix(queue)?.strip_prefix('\t'));
        let leader = leader.unwrap_or_else(|| panic!("no leader of {queue} in {listed:?}"));
        NODES.iter().position(|node| *node == leader.trim()).unwrap_or_else(|| panic!("no such node: {leader:?}"))
    }

    /// Runs `rabbitmqctl` on a running node and returns its output.
    pub fn control(&self, arguments: &[&str]) -> String {
        self.running().control(arguments)
    }

    /// Starts a killed node again.
    pub async fn restart(&mut self, node: usize) {
        self.nodes[node].restart().await;
    }

    async fn has_members(&self, members: usize) {
        eventually("all nodes to be members", LIMIT, async || {
            let status = self.running().control(&["cluster_status", "--formatter", "json"]);
            let status: serde_json::Value = serde_json::from_str(&status).map_err(|error| error.to_string())?;
            let running = status["running_nodes"].as_array().map_or(0, Vec::len);
            if running == members { Ok(()) } else { Err(format!("{running} of {members}")) }
        })
        .await;
    }

    fn running(&self) -> &Broker {
        self.nodes.iter().find(|node| node.is_running()).expect("a node that runs")
    }
}
