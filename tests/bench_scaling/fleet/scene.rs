//! The API server, RabbitMQ with a queue for each pipeline, the operator, and the pipelines.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use futures::{StreamExt as _, stream};
use image_pipeline::api::{ImagePipeline, ImagePipelineStatus};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::super::follow::{Statuses, has};
use super::super::operator::Operator;
use super::{PODS, POLL_INTERVAL};
use servers::broker::{Broker, Version};
use servers::client::{self, QueueType};
use servers::control_plane::{ApiServer, USER, programs};
use servers::objects;
use support::eventually::{equal, eventually};
use support::port::Port;
use support::process::{Process, directory, write};

/// Requests to the API server, or to RabbitMQ, at the same time.
pub const AT_ONCE: usize = 16;

/// For steps without a target. Ten thousand pipelines take minutes on a loaded machine.
pub const LIMIT: Duration = Duration::from_secs(900);

/// Pipelines of one namespace.
const OF_A_NAMESPACE: usize = 100;

/// The login of all pipelines.
const TENANT: &str = "fleet";

/// The limit of open files with which containerd starts a container under systemd; the container may set it higher.
const OPEN_FILES: &str = "--nofile=1024:";

/// As in the chart's Deployment of the operator.
const CHART_ENVIRONMENT: [(&str, &str); 1] = [("MALLOC_MMAP_THRESHOLD_", "131072")];

pub struct Scene {
    pub client: Client,
    pub queues: client::Client,
    pub operator: Operator,
    pipelines: usize,
    statuses: Statuses,
    process: Process,
    _parts: (ApiServer, Broker, Port),
}

impl Scene {
    /// Starts everything; the queues of this many pipelines exist afterwards, the pipelines do not.
    pub async fn new(pipelines: usize) -> Self {
        let broker = Broker::own(Version::Four).await;
        let address = broker.tenant(TENANT);
        let queues = client::Client::connect(&address).await.expect("a connection");
        for number in 0..pipelines {
            queues.declare(&name(number), QueueType::Classic).await;
        }
        let home = directory("fleet");
        let audit = home.join("audit.log");
        let api_server = ApiServer::start(&programs().join("kube-apiserver"), &arguments(&home, &audit));
        api_server.install_crd().await;
        let client = api_server.client().await;
        let create = |number: usize| namespace(&client, number, address.port);
        stream::iter(0..pipelines.div_ceil(OF_A_NAMESPACE)).map(create).buffer_unordered(AT_ONCE).count().await;
        let port = Port::reserve();
        let process = controller(&api_server, &port);
        let operator = Operator::of(process.id(), USER, audit);
        let statuses = Statuses::all(&client);
        Self { client, queues, operator, pipelines, statuses, process, _parts: (api_server, broker, port) }
    }

    pub async fn create_pipelines(&self) {
        let create = async |number: usize| {
            let place = namespace_of(number);
            let mut pipeline = objects::pipeline(&place, &name(number), &spec(number));
            pipeline["metadata"].as_object_mut().expect("metadata").remove("uid");
            let pipeline: ImagePipeline = serde_json::from_value(pipeline).expect("an ImagePipeline");
            let api: Api<ImagePipeline> = Api::namespaced(self.client.clone(), &place);
            api.create(&PostParams::default(), &pipeline).await.expect("a new ImagePipeline");
        };
        stream::iter(0..self.pipelines).map(create).buffer_unordered(AT_ONCE).count().await;
    }

    /// The Deployments of all pipelines, once they exist.
    pub async fn deployments(&self) -> Vec<Deployment> {
        let api: Api<Deployment> = Api::all(self.client.clone());
        let first = ListParams::default().limit(1);
        eventually("a Deployment for each pipeline", LIMIT, async || {
            assert!(self.process.is_running(), "the operator has ended:\n{}", self.process.log());
            let page = api.list_metadata(&first).await.map_err(|error| error.to_string())?;
            equal(page.items.len() + page.metadata.remaining_item_count.unwrap_or_default() as usize, self.pipelines)
        })
        .await;
        api.list(&ListParams::default()).await.expect("Deployments").items
    }

    /// Waits until every pipeline is ready, with all its pods.
    pub async fn all_ready(&self) {
        let is_ready =
            |status: &ImagePipelineStatus| status.ready_replicas as usize == PODS && has(status, "Ready", "True", None);
        let all = |statuses: &HashMap<_, (i64, _)>| {
            let ready = statuses.values().filter(|(_, status)| is_ready(status)).count();
            (ready == self.pipelines).then_some(())
        };
        self.statuses.until("every pipeline to be ready", LIMIT, all).await;
    }
}

/// Name of a pipeline and of its queue.
pub fn name(number: usize) -> String {
    format!("tiles-{number:05}")
}

pub fn namespace_of(number: usize) -> String {
    format!("forest-{:03}", number / OF_A_NAMESPACE)
}

fn spec(number: usize) -> Value {
    json!({
        "source": { "rabbitmq": {
            "queue": name(number), "vhost": TENANT, "rabbitmqClusterReference": objects::connection_secret("broker"),
        } },
        "destination": { "s3": { "prefix": format!("{}/", name(number)), "credentialsSecret": { "name": "s3" } } },
        "scaling": {
            "pollInterval": format!("{}s", POLL_INTERVAL.as_secs()), "minReplicas": PODS, "maxReplicas": 20,
            "messagesPerReplica": 5,
        },
    })
}

/// Creates a namespace with its Secrets.
async fn namespace(client: &Client, number: usize, port: u16) {
    let name = namespace_of(number * OF_A_NAMESPACE);
    let made: Namespace = serde_json::from_value(json!({ "metadata": { "name": name } })).expect("a namespace");
    Api::all(client.clone()).create(&PostParams::default(), &made).await.expect("a new namespace");
    let port = port.to_string();
    let broker = [("host", "127.0.0.1"), ("port", &*port), ("username", TENANT), ("password", TENANT)];
    let store = [("AWS_ACCESS_KEY_ID", "k"), ("AWS_SECRET_ACCESS_KEY", "s")];
    let api: Api<Secret> = Api::namespaced(client.clone(), &name);
    for secret in [objects::secret(&name, "broker", &broker), objects::secret(&name, "s3", &store)] {
        let secret: Secret = serde_json::from_value(secret).expect("a Secret");
        api.create(&PostParams::default(), &secret).await.expect("a new Secret");
    }
}

/// Settings of the API server: no ServiceAccounts, because nothing creates them, and a log of all writes.
fn arguments(home: &Path, audit: &Path) -> [String; 3] {
    let policy = home.join("audit-policy.yaml");
    let rule = json!({ "level": "Metadata", "verbs": ["create", "update", "patch", "delete", "deletecollection"] });
    let rules = json!({
        "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
        "rules": [rule, { "level": "None" }],
    });
    write(&policy, rules.to_string());
    [
        "--disable-admission-plugins=ServiceAccount".to_owned(),
        format!("--audit-policy-file={}", policy.display()),
        format!("--audit-log-path={}", audit.display()),
    ]
}

fn controller(api_server: &ApiServer, port: &Port) -> Process {
    let program = std::env::current_exe().expect("the path of this program").with_file_name("image-pipeline");
    Process::start("image-pipeline controller", &directory("operator"), |command| {
        command.args(["prlimit", OPEN_FILES]).arg(program).args(["controller", "--consumer-image", "fleet:1"]);
        command.args(["--lease-namespace", "default", "--allow-local-brokers"]);
        command.arg("--listen").arg(port.address().to_string()).env("KUBECONFIG", &api_server.kubeconfig);
        command.envs(CHART_ENVIRONMENT);
    })
}
