//! Waits until the cluster has recovered from the previous test: the API server, the nodes, the operator, and the
//! network to RabbitMQ and the S3 server.

use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::cluster::{Namespace, kubectl};

const OPERATOR: &str = "image-pipeline-system";

/// A node that was marked as lost, or an operator that lost its Lease, is back within 20 s.
const LIMIT: Duration = Duration::from_secs(180);

const PAUSE: Duration = Duration::from_millis(100);

/// Waits until the API server answers, every node is ready, and one operator leads.
pub fn wait_for_cluster() {
    until("the API server", || get(&["--raw=/readyz"]).map(drop));
    until("the nodes", nodes_are_ready);
    until("the operator", operator_leads);
}

/// Waits until the Services of a namespace lead to their pods. Kubernetes withdraws endpoints on a node that is not
/// ready, and kube-proxy follows later.
pub fn wait_for_services(namespace: &Namespace) {
    for (service, port) in [("rabbit", 5672), ("s3", 7070)] {
        let way = namespace.way_to(service, port);
        let address = (way.host.as_str(), way.port).to_socket_addrs().ok().and_then(|mut found| found.next());
        let address = address.unwrap_or_else(|| panic!("no address of {service}: {}", way.host));
        let connects = || TcpStream::connect_timeout(&address, Duration::from_secs(1)).map(drop);
        until(service, || connects().map_err(|error| format!("{address}: {error}")));
    }
}

fn until(what: &str, is: impl Fn() -> Result<(), String>) {
    let began = Instant::now();
    while let Err(seen) = is() {
        assert!(began.elapsed() < LIMIT, "waited {LIMIT:?} for {what}; last seen: {seen}");
        #[expect(clippy::disallowed_methods, reason = "between two runs of kubectl, which block this thread as well")]
        std::thread::sleep(PAUSE);
    }
}

fn get(arguments: &[&str]) -> Result<String, String> {
    let output = kubectl().args(["--request-timeout=5s", "get"]).args(arguments).output().expect("kubectl");
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

fn items(arguments: &[&str]) -> Result<Vec<Value>, String> {
    let listed = get(&[arguments, &["--output=json"]].concat())?;
    let listed: Value = serde_json::from_str(&listed).map_err(|error| error.to_string())?;
    Ok(listed["items"].as_array().cloned().unwrap_or_default())
}

fn is_ready(object: &Value) -> bool {
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

fn nodes_are_ready() -> Result<(), String> {
    let nodes = items(&["nodes"])?;
    if !nodes.is_empty() && nodes.iter().all(is_ready) { Ok(()) } else { Err(format!("{nodes:#?}")) }
}

/// Requires a single ready pod that holds the Lease: a pod that is still ending would hand over in the middle of a
/// test.
fn operator_leads() -> Result<(), String> {
    let pods = items(&["pods", "--namespace", OPERATOR, "--selector=app.kubernetes.io/component=operator"])?;
    let holder =
        get(&["lease", "image-pipeline", "--namespace", OPERATOR, "--output=jsonpath={.spec.holderIdentity}"])?;
    match pods.as_slice() {
        [pod] if is_ready(pod) && pod["metadata"]["name"] == holder.as_str() => Ok(()),
        pods => {
            let names: Vec<_> = pods.iter().map(|pod| (&pod["metadata"]["name"], is_ready(pod))).collect();
            Err(format!("pods and whether each is ready: {names:?}; the Lease is held by {holder:?}"))
        }
    }
}
