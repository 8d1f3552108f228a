//! An API server with its etcd on loopback, without the controllers of Kubernetes. It accepts only the random token
//! that the test creates.

use std::path::{Path, PathBuf};
use std::process::Command;

use image_pipeline::api::ImagePipeline;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::config::Kubeconfig;
use kube::{Api, CustomResourceExt as _};
use serde_json::json;

use support::certificates::Authority;
use support::eventually::{LIMIT, eventually};
use support::port::Port;
use support::process::{Process, directory, run, write};

/// The user of the token, who has all rights.
pub const USER: &str = "admin";

pub struct ApiServer {
    /// Path of the kubeconfig for `kubectl` and the operator.
    pub kubeconfig: PathBuf,
    process: Process,
    _store: Process,
    _ports: [Port; 3],
}

impl ApiServer {
    /// Starts `program`, a kube-apiserver, with these arguments besides its own.
    pub fn start(program: &Path, arguments: &[String]) -> Self {
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
            command.args(arguments);
        });
        let file = pki.join("kubeconfig");
        write(&file, kubeconfig(&pki, &format!("https://{}", server.address()), &token));
        Self { kubeconfig: file, process, _store: etcd, _ports: ports }
    }

    /// Waits until the API server knows ImagePipelines.
    pub async fn install_crd(&self) {
        let client = self.client().await;
        let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
        eventually("the API server to know an ImagePipeline", LIMIT, async || {
            self.must_run();
            match crds.create(&Default::default(), &ImagePipeline::crd()).await {
                Err(kube::Error::Api(status)) if status.is_already_exists() => {}
                made => drop(made.map_err(|error| error.to_string())?),
            }
            let pipelines: Api<ImagePipeline> = Api::all(client.clone());
            pipelines.list(&Default::default()).await.map(drop).map_err(|error| error.to_string())
        })
        .await;
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
    let paths = run(&mut Command::new(support::repository().join("tests/cluster/paths")));
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
    let authority = Authority::new("tests");
    let certificate = authority.server("IP:127.0.0.1");
    let token = format!("{:032x}", fastrand::u128(..));
    write(&pki.join("ca.crt"), &authority.certificate);
    write(&pki.join("tls.crt"), &certificate.chain);
    write(&pki.join("tls.key"), &certificate.key);
    write(&pki.join("tokens"), format!("{token},{USER},{USER},system:masters\n"));
    token
}

fn kubeconfig(pki: &Path, server: &str, token: &str) -> String {
    let cluster = json!({ "server": server, "certificate-authority": pki.join("ca.crt") });
    let text = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "tests",
        "clusters": [{ "name": "tests", "cluster": cluster }],
        "users": [{ "name": "tests", "user": { "token": token } }],
        "contexts": [{ "name": "tests", "context": { "cluster": "tests", "user": "tests" } }],
    });
    text.to_string()
}
