//! The tests' cluster: kubectl, Secrets, and access to the RabbitMQ and the S3 server in it. An ambient KUBECONFIG
//! or context is used only with CLUSTER=current; with CLUSTER=kind, make sets the KUBECONFIG.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use image_pipeline::rabbitmq::address::BrokerAddress;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::whole;

/// A namespace of the cluster with RabbitMQ and an S3 server. Only one test at a time has a namespace, because
/// tests stop the API server, the operator and RabbitMQ.
pub struct Namespace {
    pub name: String,
    _turn: MutexGuard<'static, ()>,
}

static TURN: Mutex<()> = Mutex::new(());

/// Access from here to a port of a Service.
pub struct Way {
    /// An address of this machine, or of the tests' own cluster, whose network this machine can reach.
    pub host: String,
    pub port: u16,
    _forward: Option<Forward>,
}

/// A forwarded port on loopback that leads to a Service. Closed when dropped.
struct Forward {
    child: Child,
    port: u16,
}

impl Forward {
    fn to(namespace: &str, target: &str, port: u16) -> Self {
        let mut command = kubectl();
        command.args(["--namespace", namespace, "port-forward", target, &format!(":{port}")]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().expect("kubectl");
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().expect("stdout"));
        output.read_line(&mut line).expect("a line");
        // kubectl ends when nobody reads its output, which has a line for each connection.
        std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
        let local = line.strip_prefix("Forwarding from 127.0.0.1:").and_then(|rest| rest.split_once(' '));
        let port = local.and_then(|(port, _)| port.parse().ok()).unwrap_or_else(|| panic!("kubectl said {line:?}"));
        Self { child, port }
    }
}

/// Access to the operator's console, which listens on the pod's loopback.
pub fn way_to_console() -> Way {
    let forward = Forward::to("image-pipeline-system", "deployment/image-pipeline", 8081);
    Way { host: "localhost".to_owned(), port: forward.port, _forward: Some(forward) }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A client for the API server that `kubectl` uses here.
pub async fn client() -> kube::Client {
    let config = match own_kubeconfig() {
        Some(path) => {
            let kubeconfig = kube::config::Kubeconfig::read_from(path).expect("a kubeconfig");
            kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await.expect("a configuration")
        }
        None => kube::Config::from_kubeconfig(&Default::default()).await.expect("a current context"),
    };
    kube::Client::try_from(config).expect("a client")
}

/// Kubeconfig of the tests' own cluster; `None` with CLUSTER=current and CLUSTER=kind.
pub fn own_kubeconfig() -> Option<PathBuf> {
    if matches!(std::env::var("CLUSTER").as_deref(), Ok("current" | "kind")) {
        return None;
    }
    let directory =
        std::env::var_os("CLUSTER_DIR").expect("CLUSTER_DIR is set by make: run `make test` or `make demo`");
    Some(PathBuf::from(directory).join("kubeconfig"))
}

/// `kubectl` for the tests' own cluster, or for the cluster of KUBECONFIG with CLUSTER=current and CLUSTER=kind.
pub fn kubectl() -> Command {
    let mut command = Command::new("kubectl");
    if let Some(path) = own_kubeconfig() {
        command.env("KUBECONFIG", path);
    }
    command
}

/// Runs a program to its end and returns its standard output. Panics with its standard error.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

impl Namespace {
    /// Waits for its turn and for the cluster, then creates a namespace with a RabbitMQ and an S3 server that
    /// answer.
    pub fn with_parts(name: &str) -> Self {
        // A test that panicked during its turn has reported that itself.
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        if own_kubeconfig().is_some() {
            whole::wait_for_cluster();
        }
        run(Command::new(support::repository().join("tests/cluster/parts")).arg(name));
        let namespace = Self { name: name.to_owned(), _turn: turn };
        if own_kubeconfig().is_some() {
            whole::wait_for_services(&namespace);
        }
        namespace
    }

    /// Runs `kubectl` in this namespace.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        run(kubectl().args(["--namespace", &self.name]).args(arguments))
    }

    /// Applies a manifest, and returns kubectl's output.
    pub fn apply(&self, manifest: &str) -> Output {
        let mut command = kubectl();
        command.args(["--namespace", &self.name, "apply", "-f", "-"]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("kubectl");
        child.stdin.take().expect("stdin").write_all(manifest.as_bytes()).expect("written");
        child.wait_with_output().expect("an end")
    }

    /// Applies a manifest. Panics if it is refused.
    pub fn must_apply(&self, manifest: &str) {
        let output = self.apply(manifest);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// The value of a key in a Secret.
    pub fn secret(&self, name: &str, key: &str) -> String {
        let template = format!("go-template={{{{index .data {key:?} | base64decode}}}}");
        self.kubectl(&["get", "secret", name, "-o", &template])
    }

    /// Access to a Service: its cluster address in the tests' own cluster, which is three times as fast for a
    /// burst, otherwise a forwarded port.
    pub fn way_to(&self, service: &str, port: u16) -> Way {
        if own_kubeconfig().is_some() {
            let host = self.kubectl(&["get", "service", service, "-o", "jsonpath={.spec.clusterIP}"]);
            return Way { host, port, _forward: None };
        }
        let forward = Forward::to(&self.name, &format!("service/{service}"), port);
        Way { host: "127.0.0.1".to_owned(), port: forward.port, _forward: Some(forward) }
    }

    /// RabbitMQ's address and user, through this access.
    pub fn broker(&self, way: &Way) -> BrokerAddress {
        BrokerAddress {
            host: way.host.clone(),
            port: way.port,
            vhost: "/".to_owned(),
            username: self.secret("rabbit-default-user", "username"),
            password: self.secret("rabbit-default-user", "password"),
            tls: None,
        }
    }

    /// RabbitMQ's AMQP URI, through this access.
    pub fn broker_uri(&self, way: &Way) -> String {
        let [user, password] = ["username", "password"].map(|key| self.secret("rabbit-default-user", key));
        let encoded = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
        format!("amqp://{}:{}@{}:{}", encoded(&user), encoded(&password), way.host, way.port)
    }
}
