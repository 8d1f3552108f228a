//! The scene of the soak: RabbitMQ and S3 in a namespace of the tests' cluster, the pipelines between them, and the
//! taps in this program that all traffic passes. Uses only the tests' own cluster.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client, ResourceExt as _};
use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

use super::bodies::{self, Bodies};
use super::commands;
use super::faults::secrets;
use super::plan::{LED, PLANS, Plan};
use super::restarts::Pods;
use super::unreadable;
use accounting::amqp::connect;
use accounting::amqp_tap;
use accounting::ledger::{Entry, Id, Ledger};
use accounting::publisher::Publisher;
use accounting::store_tap::StoreTap;
use accounting::wire::Wire;
use servers::broker::{Broker, Version};
use servers::broker_cluster::Cluster;
use servers::bucket::Storage;
use servers::cluster::{self, Namespace};
use support::eventually::{LIMIT, eventually};
use support::port::Port;
use support::proxy::Proxy;

/// Namespace of all parts.
pub const NAMESPACE: &str = "soak";

/// Maximum of unconfirmed messages of one pipeline.
pub const IN_FLIGHT: u32 = 32;

/// A pipeline and its taps.
pub struct Pipeline {
    /// Configuration of the pipeline.
    pub plan: Plan,
    /// Tap between RabbitMQ and the pipeline's pods and operator.
    pub amqp: Proxy,
    /// Tap between S3 and the pipeline's pods.
    pub store: StoreTap,
    /// URI of the pipeline's RabbitMQ from here, for the user with all rights.
    pub broker: String,
    /// One permit for each message that may be unconfirmed.
    pub sending: Arc<Semaphore>,
    publisher: Publisher,
    /// Publishes messages whose headers the consumer's library can't read.
    unreadable: Publisher,
    turns: AtomicUsize,
}

pub struct Scene {
    pub client: Client,
    /// The RabbitMQ cluster of the pipeline that has its own.
    pub cluster: Mutex<Cluster>,
    /// Proxy before that cluster.
    _front: Proxy,
    /// URL, access key and secret key of S3's root user.
    pub store: [String; 3],
    /// Uids of the RabbitMQ pod and the S3 pod.
    pub parts: [String; 2],
    pub pipelines: Vec<Pipeline>,
    pub pods: Pods,
    pub bodies: Bodies,
    pub ledger: Ledger,
    /// The events that the taps recorded.
    pub wire: Wire,
}

impl Scene {
    /// Starts everything and waits until each pipeline is ready. The seed determines the messages.
    pub async fn new(seed: u64) -> Self {
        let namespace = Namespace::with_parts(NAMESPACE);
        let client = cluster::client().await;
        keep_broker(&namespace);
        let (rabbit, s3) = (namespace.way_to("rabbit", 5672), namespace.way_to("s3", 7070));
        let root = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"].map(|key| namespace.secret("s3", key));
        let [access, secret] = root;
        let (ledger, wire) = (Ledger::default(), Wire::default());
        let bridge = bridge_address(&namespace);
        let at = |host: &str, port| SocketAddr::new(host.parse().expect("an address"), port);
        let brokers = Cluster::start(Version::FourThree).await;
        let front = brokers.front();
        let mut pipelines = Vec::new();
        for plan in &PLANS {
            let (listener, broker) = if plan.name == PLANS[LED].name {
                (front.address(), Broker::uri(front.address()))
            } else {
                (at(&rabbit.host, rabbit.port), namespace.broker_uri(&rabbit))
            };
            let changing = unreadable::before(listener).await;
            let changed = broker.replace(&listener.to_string(), &changing.to_string());
            pipelines.push(Pipeline {
                plan: *plan,
                amqp: amqp_tap::start(Port::at(SocketAddr::new(bridge, 0)), listener, &wire),
                store: StoreTap::start(Port::at(SocketAddr::new(bridge, 0)), at(&s3.host, s3.port), &wire),
                publisher: Publisher::new(&broker, &ledger),
                unreadable: Publisher::new(&changed, &ledger).with_headers(unreadable::headers()),
                broker,
                sending: Arc::new(Semaphore::new(IN_FLIGHT as usize)),
                turns: AtomicUsize::new(0),
            });
        }
        let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
        let uid = async |pod: &str| pods.get(pod).await.expect("a pod").uid().expect("a uid");
        let scene = Self {
            cluster: Mutex::new(brokers),
            _front: front,
            store: [format!("http://{}:{}", s3.host, s3.port), access, secret],
            parts: [uid("rabbit-0").await, uid("s3-0").await],
            pipelines,
            pods: Pods::default(),
            bodies: Bodies::draw(seed),
            client,
            ledger,
            wire,
        };
        scene.broker_answers().await;
        let storage = Storage::of(&namespace);
        for index in 0..scene.pipelines.len() {
            scene.make(&storage, index).await;
        }
        for pipeline in &scene.pipelines {
            scene.ready(pipeline.plan.name).await;
        }
        scene
    }

    /// Changes a pipeline's spec; `null` removes a field.
    pub async fn change(&self, pipeline: usize, spec: Value) {
        let api = self.resources();
        let patch = Patch::Merge(json!({ "spec": spec }));
        let name = self.pipelines[pipeline].plan.name;
        eventually(&format!("a change of {name}"), LIMIT, async || {
            api.patch(name, &PatchParams::default(), &patch).await.map_err(|error| error.to_string())
        })
        .await;
    }

    /// Creates or replaces a Secret.
    pub async fn secret(&self, name: &str, data: Value) {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), NAMESPACE);
        let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "stringData": data });
        let (force, patch) = (PatchParams::apply("soak").force(), Patch::Apply(secret));
        eventually(&format!("a Secret {name}"), LIMIT, async || {
            api.patch(name, &force, &patch).await.map_err(|error| error.to_string())
        })
        .await;
    }

    /// Declares a pipeline's queue.
    pub async fn declare(&self, pipeline: usize) {
        let Pipeline { plan: Plan { name, queue_type, .. }, broker, .. } = &self.pipelines[pipeline];
        eventually(&format!("the queue {name}"), LIMIT, async || {
            let mut arguments = FieldTable::default();
            arguments.insert("x-queue-type".into(), AMQPValue::LongString((*queue_type).into()));
            let declared = async {
                let connection = connect(broker).await?;
                let channel = connection.create_channel().await?;
                channel.queue_declare((*name).into(), QueueDeclareOptions::durable(), arguments).await?;
                connection.close(200, "declared".into()).await
            };
            let answered = tokio::time::timeout(Duration::from_secs(10), declared).await;
            answered.map_err(|_| "no answer".to_owned())?.map_err(|error| error.to_string())
        })
        .await;
    }

    /// Publishes a message to a pipeline. The task returns whether RabbitMQ confirmed it.
    pub fn send(&self, pipeline: usize, (entry, body): (Entry, Vec<u8>)) -> JoinHandle<Result<Id, String>> {
        let Pipeline { publisher, unreadable, .. } = &self.pipelines[pipeline];
        let publisher = if bodies::has_unreadable_headers(&entry) { unreadable } else { publisher }.clone();
        tokio::spawn(async move { publisher.publish(entry, &body).await })
    }

    /// A huge image for a pipeline.
    pub fn huge(&self, pipeline: usize) -> (Entry, Vec<u8>) {
        self.bodies.huge(&self.pipelines[pipeline].plan, self.turn(pipeline))
    }

    /// An image that crashes a consumer with too little memory.
    pub fn crashing(&self, pipeline: usize) -> (Entry, Vec<u8>) {
        self.bodies.crashing(&self.pipelines[pipeline].plan, self.turn(pipeline))
    }

    /// Deletes the pods with these uids; the Deployment replaces them.
    pub async fn delete_pods(&self, uids: &[&str]) {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), NAMESPACE);
        let pods = api.list(&ListParams::default()).await.expect("pods").items;
        for pod in pods.into_iter().filter(|pod| pod.uid().is_some_and(|uid| uids.contains(&uid.as_str()))) {
            match api.delete(&pod.name_any(), &DeleteParams::default()).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.is_not_found() => {}
                Err(error) => panic!("{} is not deleted: {error}", pod.name_any()),
            }
        }
    }

    /// Waits until RabbitMQ accepts connections.
    pub async fn broker_answers(&self) {
        eventually("the broker to answer", LIMIT * 2, async || {
            let connected = tokio::time::timeout(Duration::from_secs(10), connect(&self.pipelines[0].broker)).await;
            let connection = connected.map_err(|_| "no answer".to_owned())?.map_err(|error| error.to_string())?;
            connection.close(200, "answered".into()).await.map_err(|error| error.to_string())
        })
        .await;
    }

    /// Evaluates an Erlang expression in RabbitMQ.
    pub async fn broker_evaluates(&self, expression: &str) -> String {
        self.ctl(&["eval", expression]).await
    }

    /// Runs rabbitmqctl in RabbitMQ's pod.
    pub async fn ctl(&self, arguments: &[&str]) -> String {
        let exec = [&["exec", "rabbit-0", "--", "rabbitmqctl", "--quiet"][..], arguments].concat();
        commands::kubectl_in(NAMESPACE, &exec).await
    }

    /// Number of messages in each pipeline's queue, unacknowledged deliveries included; `None` if the queue does
    /// not exist.
    pub async fn depths(&self) -> Vec<Option<u64>> {
        let question = ["list_queues", "--no-table-headers", "name", "messages"];
        let said = self.ctl(&question).await + "\n" + &self.cluster.lock().await.control(&question);
        let of = |pipeline: &Pipeline| {
            let line = said.lines().find_map(|line| line.strip_prefix(pipeline.plan.name)?.strip_prefix('\t'));
            line.and_then(|count| count.trim().parse().ok())
        };
        self.pipelines.iter().map(of).collect()
    }

    /// Waits until all sent messages are confirmed or given up, and stops publishing to the pipeline while the
    /// permit lives.
    pub async fn hold(&self, pipeline: usize) -> OwnedSemaphorePermit {
        let sending = Arc::clone(&self.pipelines[pipeline].sending);
        sending.acquire_many_owned(IN_FLIGHT).await.expect("never closed")
    }

    /// Number of earlier calls for this pipeline.
    pub fn turn(&self, pipeline: usize) -> usize {
        self.pipelines[pipeline].turns.fetch_add(1, Ordering::Relaxed)
    }

    async fn make(&self, storage: &Storage, index: usize) {
        let Pipeline { plan, store, .. } = &self.pipelines[index];
        self.declare(index).await;
        storage.ensure(plan.name).await;
        secrets::renew(self, index).await;
        let pipeline = serde_json::from_value(plan.manifest(&store.url())).expect("a resource");
        self.resources().create(&PostParams::default(), &pipeline).await.expect("a new ImagePipeline");
    }

    async fn ready(&self, name: &str) {
        let api = self.resources();
        eventually(&format!("{name} to be ready"), LIMIT * 2, async || {
            let resource = api.get(name).await.map_err(|error| error.to_string())?;
            let conditions = &resource.data["status"]["conditions"];
            let is = |kind: &str| {
                let mut conditions = conditions.as_array().into_iter().flatten();
                conditions.any(|one| one["type"] == kind && one["status"] == "True")
            };
            if is("Ready") && is("ConsumersAvailable") { Ok(()) } else { Err(conditions.to_string()) }
        })
        .await;
    }

    /// The ImagePipelines of the soak, without the product's types.
    fn resources(&self) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("greench.dev", "v1alpha1", "ImagePipeline");
        Api::namespaced_with(self.client.clone(), NAMESPACE, &ApiResource::from_gvk(&kind))
    }
}

/// Restarts a killed RabbitMQ in the same container, so that it keeps the data on the pod's disk. The kubelet would
/// wait longer each time.
fn keep_broker(namespace: &Namespace) {
    let script = "while :; do /usr/lib/rabbitmq/bin/rabbitmq-server; sleep 0.2; done";
    let container = json!({ "name": "rabbitmq", "command": ["/bin/sh", "-c", script] });
    let patch = json!({ "spec": { "template": { "spec": { "containers": [container] } } } }).to_string();
    namespace.kubectl(&["patch", "statefulset", "rabbit", "--patch", &patch]);
    namespace.kubectl(&["rollout", "status", "statefulset/rabbit", "--timeout=120s"]);
}

/// This machine's address on the cluster's network, which pods can reach: the API server's address.
fn bridge_address(namespace: &Namespace) -> IpAddr {
    let template = "jsonpath={.subsets[0].addresses[0].ip}";
    let address = namespace.kubectl(&["--namespace", "default", "get", "endpoints", "kubernetes", "-o", template]);
    address.parse().unwrap_or_else(|_| panic!("{address:?} is no address"))
}
