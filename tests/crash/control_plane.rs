//! A real control plane on loopback: etcd, kube-apiserver and kube-controller-manager, with neither a
//! scheduler nor a kubelet. It must never outlive the tests, nor let anyone in without the token that
//! it was started with.

use std::path::{Path, PathBuf};
use std::process::Command;

use image_pipeline::api::ImagePipeline;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::config::Kubeconfig;
use kube::{Api, CustomResourceExt as _};
use serde_json::json;
use tokio::sync::OnceCell;

use crate::certificates::Authority;
use crate::eventually::{LIMIT, eventually};
use crate::port::Port;
use crate::process::{Process, directory, run, write};

/// What turns Deployments into pods and takes away what has lost its owner.
const CONTROLLERS: &str = "deployment-controller,replicaset-controller,garbage-collector-controller,\
                           namespace-controller,serviceaccount-controller";

/// The running programs, and how to speak to them.
pub struct ControlPlane {
    kubeconfig: Kubeconfig,
    _programs: [Process; 3],
    _ports: [Port; 3],
}

impl ControlPlane {
    /// The one that all tests of this process share, each in namespaces of its own.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();
        SHARED.get_or_init(Self::start).await
    }

    /// A client of the API server that may do everything, for the test's own runtime.
    pub async fn client(&self) -> kube::Client {
        client(&self.kubeconfig).await
    }

    async fn start() -> Self {
        let (bin, pki) = (programs(), directory("kubernetes"));
        let ports = [Port::reserve(), Port::reserve(), Port::reserve()];
        let [store, peers, server] = &ports;
        let store_url = format!("http://{}", store.address());
        let etcd = Process::start("etcd", &directory("etcd"), |command| {
            etcd(command.arg(bin.join("etcd")), &pki.join("etcd"), &store_url, &format!("http://{}", peers.address()));
        });
        let token = make_credentials(&pki);
        let api_server = Process::start("kube-apiserver", &directory("kube-apiserver"), |command| {
            api_server(command.arg(bin.join("kube-apiserver")), &pki, &store_url, server.number());
        });
        let kubeconfig = kubeconfig(&pki, &format!("https://{}", server.address()), &token);
        let read = Kubeconfig::from_yaml(&kubeconfig).expect("a kubeconfig");
        install(&client(&read).await, &api_server).await;
        write(&pki.join("kubeconfig"), kubeconfig);
        // Once the kind is there: it looks for kinds whose children it is to take away twice a minute.
        let manager = Process::start("kube-controller-manager", &directory("kube-controller-manager"), |command| {
            command.arg(bin.join("kube-controller-manager")).arg("--kubeconfig").arg(pki.join("kubeconfig"));
            command.args(["--leader-elect=false", "--secure-port=0", "--kube-api-qps=2000", "--kube-api-burst=4000"]);
            command.arg(format!("--controllers={CONTROLLERS}"));
        });
        Self { kubeconfig: read, _programs: [etcd, api_server, manager], _ports: ports }
    }
}

/// Where `tests/cluster/build` has put what it built.
fn programs() -> PathBuf {
    let paths = run(&mut Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cluster/paths")));
    let bin = PathBuf::from(paths.lines().nth(1).expect("the directory of the programs"));
    assert!(bin.join("kube-apiserver").exists(), "no kube-apiserver in {}: run tests/cluster/build", bin.display());
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
    command.arg("--token-auth-file").arg(pki.join("tokens"));
}

/// The server's certificate, and the one token.
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

/// It never tries again by itself: what the API server says is what the test sees.
async fn client(kubeconfig: &Kubeconfig) -> kube::Client {
    let config = kube::Config::from_custom_kubeconfig(kubeconfig.clone(), &Default::default()).await;
    let mut config = config.expect("a configuration");
    config.default_retry = false;
    kube::Client::try_from(config).expect("a client")
}

async fn install(client: &kube::Client, server: &Process) {
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    eventually("the API server to know an ImagePipeline", LIMIT, async || {
        assert!(server.is_running(), "kube-apiserver has ended:\n{}", server.log());
        match crds.create(&Default::default(), &ImagePipeline::crd()).await {
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            made => drop(made.map_err(|error| error.to_string())?),
        }
        let pipelines: Api<ImagePipeline> = Api::all(client.clone());
        pipelines.list(&Default::default()).await.map(drop).map_err(|error| error.to_string())
    })
    .await;
}
