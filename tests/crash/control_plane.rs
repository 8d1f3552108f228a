//! A real control plane on loopback: etcd, kube-apiserver and kube-controller-manager, without scheduler and
//! kubelet. It ends with the tests. The API server accepts only the random token that the test creates.

use std::path::{Path, PathBuf};
use std::process::Command;

use image_pipeline::api::ImagePipeline;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::PostParams;
use kube::config::Kubeconfig;
use kube::{Api, CustomResourceExt as _};
use serde_json::json;
use tokio::sync::OnceCell;

use crate::chart::{OPERATOR, limits, rendered};
use crate::kubectl::Kubectl;
use support::certificates::Authority;
use support::eventually::{LIMIT, eventually};
use support::port::Port;
use support::process::{Process, directory, run, write};

/// Controllers that create pods for Deployments, delete objects without an owner, and check the types of expressions.
const CONTROLLERS: &str = "deployment-controller,replicaset-controller,garbage-collector-controller,\
                           namespace-controller,serviceaccount-controller,validatingadmissionpolicy-status-controller";

pub struct ControlPlane {
    pub api_server: ApiServer,
    _manager: Process,
}

/// An API server with an etcd of its own.
pub struct ApiServer {
    /// Path of the kubeconfig for `kubectl`.
    pub kubeconfig: PathBuf,
    process: Process,
    _store: Process,
    _ports: [Port; 3],
}

impl ControlPlane {
    /// The control plane that all tests of this process share. Each test uses its own namespaces.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();
        SHARED.get_or_init(Self::start).await
    }

    /// A client with all rights, for the test's own runtime.
    pub async fn client(&self) -> kube::Client {
        self.api_server.client().await
    }

    async fn start() -> Self {
        let api_server = ApiServer::start(&programs().join("kube-apiserver"));
        install(&api_server).await;
        limit(&api_server).await;
        // Started after the CRD exists: the garbage collector looks for new kinds only twice a minute.
        let manager = Process::start("kube-controller-manager", &directory("kube-controller-manager"), |command| {
            let kubeconfig = &api_server.kubeconfig;
            command.arg(programs().join("kube-controller-manager")).arg("--kubeconfig").arg(kubeconfig);
            command.args(["--leader-elect=false", "--secure-port=0", "--kube-api-qps=2000", "--kube-api-burst=4000"]);
            command.arg(format!("--controllers={CONTROLLERS}"));
        });
        Self { api_server, _manager: manager }
    }
}

impl ApiServer {
    /// Starts `program`, a kube-apiserver.
    pub fn start(program: &Path) -> Self {
        let pki = directory("kubernetes");
        let ports = [Port::reserve(), Port::reserve(), Port::reserve()];
        let [store, peers, server] = &ports;
        let store_url = format!("http://{}", store.address());
        let etcd = Process::start("etcd", &directory("etcd"), |command| {
            let program = programs().join("etcd");
            etcd(command.arg(program), &pki.join("etcd"), &store_url, &format!("http://{}", peers.address()));
        });
        let token = make_credentials(&pki);
        let process = Process::start("kube-apiserver", &directory("kube-apiserver"), |command| {
            api_server(command.arg(program), &pki, &store_url, server.number());
        });
        let file = pki.join("kubeconfig");
        write(&file, kubeconfig(&pki, &format!("https://{}", server.address()), &token));
        Self { kubeconfig: file, process, _store: etcd, _ports: ports }
    }

    /// Panics if the process has ended.
    pub fn must_run(&self) {
        assert!(self.process.is_running(), "kube-apiserver has ended:\n{}", self.process.log());
    }

    /// A client with all rights.
    pub async fn client(&self) -> kube::Client {
        let config = self.config().await;
        kube::Client::try_from(config).expect("a client")
    }

    /// A client with the rights of a user, or of the ServiceAccount of a token.
    pub async fn client_as(&self, change: impl FnOnce(&mut kube::config::AuthInfo)) -> kube::Client {
        let mut config = self.config().await;
        change(&mut config.auth_info);
        kube::Client::try_from(config).expect("a client")
    }

    /// Without retries, so that the test sees every answer of the API server.
    async fn config(&self) -> kube::Config {
        let kubeconfig = Kubeconfig::read_from(&self.kubeconfig).expect("a kubeconfig");
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await;
        let mut config = config.expect("a configuration");
        config.default_retry = false;
        config
    }
}

/// The directory of the cluster's own programs.
pub fn programs() -> PathBuf {
    built(1)
}

/// The kube-apiserver of the oldest Kubernetes that the chart supports.
pub fn oldest_api_server() -> PathBuf {
    built(3).join("kube-apiserver")
}

/// The directory in this line of the output of `tests/cluster/paths`, where `tests/cluster/build` puts its
/// programs.
fn built(line: usize) -> PathBuf {
    let paths = run(&mut Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cluster/paths")));
    let bin = PathBuf::from(paths.lines().nth(line).expect("the directory of the programs"));
    assert!(
        bin.join("kube-apiserver").exists(),
        "no kube-apiserver in {}: run tests/cluster/build oldest",
        bin.display()
    );
    bin
}

fn etcd(command: &mut Command, data: &Path, clients: &str, peers: &str) {
    command.args(["--unsafe-no-fsync", "--data-dir"]).arg(data);
    command.args(["--listen-client-urls", clients, "--advertise-client-urls", clients]);
    command.args(["--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers]);
    command.args(["--initial-cluster", &format!("default={peers}")]);
}

fn api_server(command: &mut Command, pki: &Path, store: &str, port: u16) {
    let (certificate, key) = (pki.join("tls.crt"), pki.join("tls.key"));
    command.args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none"]);
    command.args(["--secure-port", &port.to_string(), "--etcd-servers", store, "--authorization-mode=RBAC"]);
    command.args(["--service-cluster-ip-range=10.0.0.0/24", "--service-account-issuer=https://kubernetes.default.svc"]);
    command.arg("--tls-cert-file").arg(&certificate).arg("--tls-private-key-file").arg(&key);
    command.arg("--service-account-key-file").arg(&certificate).arg("--service-account-signing-key-file").arg(&key);
    // Otherwise validation refuses privileged containers before the admission policies do.
    command.arg("--allow-privileged").arg("--token-auth-file").arg(pki.join("tokens"));
}

/// Writes the server's certificate and the only token, and returns the token.
fn make_credentials(pki: &Path) -> String {
    let authority = Authority::new("crash tests");
    let certificate = authority.server("IP:127.0.0.1");
    let token = format!("{:032x}", fastrand::u128(..));
    write(&pki.join("ca.crt"), &authority.certificate);
    write(&pki.join("tls.crt"), &certificate.chain);
    write(&pki.join("tls.key"), &certificate.key);
    write(&pki.join("tokens"), format!("{token},admin,admin,system:masters\n"));
    token
}

fn kubeconfig(pki: &Path, server: &str, token: &str) -> String {
    let cluster = json!({ "server": server, "certificate-authority": pki.join("ca.crt") });
    let text = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "crash",
        "clusters": [{ "name": "crash", "cluster": cluster }],
        "users": [{ "name": "crash", "user": { "token": token } }],
        "contexts": [{ "name": "crash", "context": { "cluster": "crash", "user": "crash" } }],
    });
    text.to_string()
}

async fn install(api_server: &ApiServer) {
    let client = api_server.client().await;
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    eventually("the API server to know an ImagePipeline", LIMIT, async || {
        api_server.must_run();
        match crds.create(&Default::default(), &ImagePipeline::crd()).await {
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            made => drop(made.map_err(|error| error.to_string())?),
        }
        let pipelines: Api<ImagePipeline> = Api::all(client.clone());
        pipelines.list(&Default::default()).await.map(drop).map_err(|error| error.to_string())
    })
    .await;
}

/// Puts the limits of the chart on the operator, and waits until the API server enforces them: it reads roles and
/// policies from caches.
async fn limit(api_server: &ApiServer) {
    let kubectl = Kubectl { api_server, home: directory("limits") };
    kubectl.applies(&limits(&rendered(&kubectl.version(), &[])), &[]);
    let operator = api_server.client_as(|user| user.impersonate = Some(OPERATOR.to_owned())).await;
    let deployments: Api<Deployment> = Api::namespaced(operator, "default");
    let foreign = json!({
        "metadata": { "name": "foreign" },
        "spec": {
            "selector": { "matchLabels": { "app": "foreign" } },
            "template": {
                "metadata": { "labels": { "app": "foreign" } },
                "spec": { "containers": [{ "name": "foreign", "image": "foreign" }] },
            },
        },
    });
    let foreign = serde_json::from_value(foreign).expect("a Deployment");
    eventually("the operator's limits", LIMIT, async || {
        match deployments.create(&PostParams { dry_run: true, ..Default::default() }, &foreign).await {
            Err(kube::Error::Api(status)) if status.message.contains("ValidatingAdmissionPolicy") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}
