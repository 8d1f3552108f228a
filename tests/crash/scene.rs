//! One namespace with a pipeline's Secrets and queue, its own operator behind a gate, and a kubelet. Scenes share
//! nothing that one of them could change.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use image_pipeline::api::ImagePipeline;
use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::fault::{Fault, Write};
use crate::gate::Gate;
use crate::kubelet::Kubelet;
use crate::lives::Operator;
use crate::scenario::lacking;
use crate::state::{self, State};
use crate::world::{USERS, VERSION, World};
use servers::objects;
use support::eventually::{LIMIT, eventually};
use support::proxy::{Mode, Proxy};

/// Name of the pipeline.
pub const NAME: &str = "tiles";
/// Name of the broker's Secret.
pub const BROKER_SECRET: &str = "broker";

/// Three poll intervals of `pipeline`.
const QUIET: Duration = Duration::from_millis(1500);

/// A running scene. The operator ends before the other parts.
pub struct Scene {
    /// Name of the namespace and of the queue.
    pub namespace: String,
    /// Proxy between the operator and the API server.
    pub gate: Gate,
    /// Proxy before the gate, which can refuse connections.
    pub api_server: Proxy,
    pub kubelet: Kubelet,
    world: Arc<World>,
    broker: Proxy,
    // Dropped first, because it uses all fields above.
    operator: Option<Operator>,
}

impl Scene {
    /// Creates a scene with a running operator.
    pub async fn start(world: &Arc<World>, name: &str, planned: Option<(Write, Fault)>) -> Self {
        let mut scene = Self::without_operator(world, name, planned).await;
        scene.start_operator();
        scene
    }

    /// Creates a scene without an operator.
    pub async fn without_operator(world: &Arc<World>, name: &str, planned: Option<(Write, Fault)>) -> Self {
        let namespace = world.new_name(name);
        make_namespace(&world.kubernetes, &namespace).await;
        world.queues.declare(&namespace, VERSION.queue_type()).await;
        let target = format!("{}:{}", world.broker.host, world.broker.port).parse().expect("an address");
        let broker = Proxy::start(target, Mode::Pass);
        let gate = Gate::start(world.kubernetes.clone(), &namespace, planned).await;
        let api_server = Proxy::start(gate.address, Mode::Pass);
        let kubelet = Kubelet::start(world.kubernetes.clone(), &namespace).await;
        let scene = Self { namespace, gate, api_server, kubelet, world: world.clone(), broker, operator: None };
        scene.put_broker_secret(USERS[0]).await;
        scene.put_secret("s3", &[("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "key")]).await;
        scene
    }

    /// Starts the operator.
    pub fn start_operator(&mut self) {
        let url = format!("http://{}", self.api_server.address());
        self.operator = Some(Operator::start(self.gate.shared(), url));
    }

    /// Number of the operator's starts.
    pub fn lives(&self) -> usize {
        self.operator.as_ref().map_or(0, Operator::lives)
    }

    /// A pipeline with two polls per second and no delay before it scales down.
    pub fn pipeline(&self) -> Value {
        let changes = json!({
            "source": { "rabbitmq": {
                "queue": self.namespace, "vhost": self.world.broker.vhost,
                "rabbitmqClusterReference": objects::connection_secret(BROKER_SECRET),
            } },
            "destination": { "s3": { "credentialsSecret": { "name": "s3" } } },
            "scaling": { "messagesPerReplica": 10, "pollInterval": "500ms", "scaleDownAfter": "0s" },
        });
        let mut pipeline = objects::pipeline(&self.namespace, NAME, &changes);
        // The API server gives the object a uid.
        pipeline["metadata"] = json!({ "name": NAME, "namespace": self.namespace });
        pipeline
    }

    /// The ImagePipelines, including those that can't be parsed.
    pub fn pipelines(&self) -> Api<DynamicObject> {
        let kind = ApiResource::erase::<ImagePipeline>(&());
        Api::namespaced_with(self.world.kubernetes.clone(), &self.namespace, &kind)
    }

    /// The objects of another kind.
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.world.kubernetes.clone(), &self.namespace)
    }

    /// Creates the pipeline.
    pub async fn create(&self, pipeline: Value) {
        let object = serde_json::from_value(pipeline).expect("an object");
        self.pipelines().create(&PostParams::default(), &object).await.expect("created");
    }

    /// Changes the pipeline, as `kubectl patch --type=merge` does.
    pub async fn patch(&self, patch: &Value) {
        let patched = self.pipelines().patch(NAME, &PatchParams::default(), &Patch::Merge(patch)).await;
        patched.expect("patched");
    }

    /// Replaces the pipeline by its original. Fields that were added are removed.
    pub async fn restore(&self) {
        eventually("the pipeline to be as it was", LIMIT, async || {
            let present = self.pipelines().get(NAME).await.expect("there");
            let mut object: DynamicObject = serde_json::from_value(self.pipeline()).expect("an object");
            object.metadata.resource_version = present.metadata.resource_version;
            // A status update by the operator may cause a conflict.
            let restored = self.pipelines().replace(NAME, &PostParams::default(), &object).await;
            restored.map(drop).map_err(|error| error.to_string())
        })
        .await;
    }

    /// Deletes the pipeline.
    pub async fn delete(&self) {
        self.pipelines().delete(NAME, &DeleteParams::default()).await.expect("deleted");
    }

    /// Creates or changes the broker's Secret.
    pub async fn put_broker_secret(&self, user: &str) {
        let port = self.broker.address().port().to_string();
        let keys = [("host", "127.0.0.1"), ("port", &port), ("username", user), ("password", user)];
        self.put_secret(BROKER_SECRET, &keys).await;
    }

    /// Creates or changes a Secret.
    pub async fn put_secret(&self, name: &str, keys: &[(&str, &str)]) {
        let data: serde_json::Map<_, _> = keys.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
        let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "stringData": data });
        let parameters = PatchParams::apply("user").force();
        self.api::<Secret>().patch(name, &parameters, &Patch::Apply(secret)).await.expect("applied");
    }

    /// Sets the number of messages in the queue. The operator sees no depth in between.
    pub async fn fill(&self, messages: usize) {
        self.cut_broker();
        self.world.queues.take(&self.namespace).await;
        join_all((0..messages).map(|_| self.world.queues.publish(&self.namespace, b"message"))).await;
        self.world.queues.holds(&self.namespace, u32::try_from(messages).expect("few")).await;
        self.mend_broker();
    }

    /// Drops all traffic to the broker.
    pub fn cut_broker(&self) {
        self.broker.set(Mode::Blackhole);
    }

    /// Lets traffic to the broker pass again.
    pub fn mend_broker(&self) {
        self.broker.set(Mode::Pass);
    }

    /// State of the namespace, and the number of pods started so far.
    pub async fn state(&self) -> State {
        let mut state = state::state(&self.world.kubernetes, &self.namespace).await.expect("the API server answers");
        state.insert("pods started so far".to_owned(), self.kubelet.started().into());
        state
    }

    /// Waits until nothing is lacking and no write has occurred for `QUIET`.
    pub async fn settles(&self, lacking: impl Fn(&State) -> Vec<String>) -> Result<State, String> {
        let began = Instant::now();
        let mut pause = tokio::time::interval(Duration::from_millis(100));
        loop {
            pause.tick().await;
            let state = self.state().await;
            let lacks = lacking(&state);
            let quiet = self.gate.last_write().elapsed();
            if lacks.is_empty() && quiet >= QUIET {
                return Ok(state);
            }
            if began.elapsed() > LIMIT {
                let seconds = quiet.as_secs();
                return Err(format!("no success after {LIMIT:?}, last write {seconds} s ago\n{}", lacks.join("\n")));
            }
        }
    }

    /// Waits until this many pods run as expected, without further writes.
    pub async fn settles_at(&self, size: i64) -> State {
        let settled = self.settles(|state| lacking(state, Some(size))).await;
        settled.unwrap_or_else(|lacks| panic!("{}: {lacks}", self.namespace))
    }

    /// Waits until a condition has this status and reason.
    pub async fn says(&self, kind: &str, status: &str, reason: &str) {
        eventually(&format!("{kind}={status} {reason}"), LIMIT, async || {
            let found = self.condition(kind).await;
            if found.0 == status && found.1 == reason { Ok(()) } else { Err(format!("{found:?}")) }
        })
        .await;
    }

    async fn condition(&self, kind: &str) -> (String, String, String) {
        let pipeline = self.pipelines().get(NAME).await.expect("there");
        let status = &pipeline.data["status"];
        let found = status["conditions"].as_array().into_iter().flatten().find(|condition| condition["type"] == kind);
        let present = found.filter(|found| found["observedGeneration"] == json!(pipeline.metadata.generation));
        let text = |key: &str| present.and_then(|found| found[key].as_str()).unwrap_or_default().to_owned();
        (text("status"), text("reason"), text("message"))
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        drop(self.operator.take());
    }
}

/// Creates a namespace, and waits for the ServiceAccount that pods need.
async fn make_namespace(client: &Client, name: &str) {
    let namespace = json!({ "metadata": { "name": name } });
    let namespace = serde_json::from_value(namespace).expect("a namespace");
    Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &namespace).await.expect("created");
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), name);
    eventually("the namespace's account", LIMIT, async || {
        accounts.get("default").await.map(drop).map_err(|error| error.to_string())
    })
    .await;
}
