//! Broken neighbors: every fault between the operator and RabbitMQ, each on its own pipeline. The fake brokers
//! listen only on the address of the cluster's bridge.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};

use super::follow::has;
use super::scene::Scene;
use support::certificates::Authority;

/// The operator gives up a silent broker after ten seconds, and only its own pipeline waits for it.
const NAMED_WITHIN: Duration = Duration::from_secs(60);

/// A fault: the condition that it makes false, the reason, and the changes to the source.
struct Fault {
    name: &'static str,
    condition: &'static str,
    reason: &'static str,
    /// Host and port for the Secret, if the fault changes them.
    broker: Option<(String, u16)>,
    /// Password for the Secret, if the fault changes it.
    password: Option<&'static str>,
    source: Value,
}

/// Breaks these pipelines, each with its own fault, and waits until each status reports it.
pub async fn breaks(scene: &Scene, pipelines: &[(String, String)]) {
    let bridge: IpAddr = bridge_address(scene);
    let faults = faults(bridge);
    assert_eq!(pipelines.len(), faults.len(), "a pipeline for each fault");
    for ((namespace, name), fault) in pipelines.iter().zip(&faults) {
        let mut source = fault.source.clone();
        if fault.broker.is_some() || fault.password.is_some() {
            let (host, port) = fault.broker.clone().unwrap_or((format!("rabbit.{}.svc", scene.parts.name), 5672));
            let password = fault.password.unwrap_or(&scene.broker.address.password);
            let username = &scene.broker.address.username;
            let data = json!({ "host": host, "port": port.to_string(), "username": username, "password": password });
            scene.secret(namespace, fault.name, data).await;
            source["rabbitmqClusterReference"] = json!({ "name": null, "connectionSecret": { "name": fault.name } });
        }
        scene.change(namespace, name, json!({ "source": { "rabbitmq": source } })).await;
    }
    for ((namespace, name), fault) in pipelines.iter().zip(&faults) {
        let Fault { name: what, condition, reason, .. } = fault;
        let broken = |status: &_| has(status, condition, "False", Some(reason));
        scene.statuses.shows((namespace, name), &format!("{reason}, by {what}"), NAMED_WITHIN, broken).await;
    }
}

/// Number of faults.
pub const WAYS: usize = 8;

fn faults(bridge: IpAddr) -> [Fault; WAYS] {
    let reachable = |name, reason| Fault {
        name,
        condition: "BrokerReachable",
        reason,
        broker: None,
        password: None,
        source: json!({}),
    };
    let at = |port| Some((bridge.to_string(), port));
    [
        Fault { broker: at(refusing(bridge)), ..reachable("refusing", "BrokerUnreachable") },
        Fault { broker: at(silent(bridge)), ..reachable("silent", "BrokerUnreachable") },
        Fault { broker: Some(("nowhere.invalid".to_owned(), 5672)), ..reachable("nameless", "DnsFailed") },
        Fault { password: Some("wrong"), ..reachable("wrong-password", "AuthenticationFailed") },
        Fault { source: json!({ "vhost": "nowhere" }), ..reachable("no-vhost", "VhostNotFound") },
        Fault {
            source: json!({ "queue": "nowhere" }),
            condition: "QueueFound",
            ..reachable("no-queue", "QueueNotFound")
        },
        Fault { broker: at(unknown(bridge)), source: json!({ "tls": {} }), ..reachable("untrusted", "TlsFailed") },
        Fault {
            source: json!({ "rabbitmqClusterReference": { "name": "nowhere" } }),
            ..reachable("no-secret", "SecretNotFound")
        },
    ]
}

/// This machine's address on the cluster's network, which pods can reach: the API server's address.
fn bridge_address(scene: &Scene) -> IpAddr {
    let template = "jsonpath={.subsets[0].addresses[0].ip}";
    let address = scene.parts.kubectl(&["--namespace", "default", "get", "endpoints", "kubernetes", "-o", template]);
    address.parse().unwrap_or_else(|_| panic!("{address:?} is no address"))
}

fn listener(address: IpAddr) -> (TcpListener, u16) {
    let listener = TcpListener::bind((address, 0)).expect("a free port");
    let port = listener.local_addr().expect("its address").port();
    (listener, port)
}

/// A port without a listener.
fn refusing(address: IpAddr) -> u16 {
    listener(address).1
}

/// A server that accepts every connection and sends nothing.
fn silent(address: IpAddr) -> u16 {
    let (listener, port) = listener(address);
    std::thread::spawn(move || {
        let mut held: Vec<TcpStream> = Vec::new();
        held.extend(listener.incoming().flatten());
    });
    port
}

/// A TLS server with a certificate of an unknown authority.
fn unknown(address: IpAddr) -> u16 {
    let (listener, port) = listener(address);
    let certificate = Authority::new("nobody").server(&format!("IP:{address}"));
    let chain = CertificateDer::pem_slice_iter(certificate.chain.as_bytes()).collect::<Result<Vec<_>, _>>();
    let key = PrivateKeyDer::from_pem_slice(certificate.key.as_bytes()).expect("a key");
    let config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain.expect("PEM"), key);
    let config = Arc::new(config.expect("a certificate with its key"));
    std::thread::spawn(move || {
        for mut connection in listener.incoming().flatten() {
            let mut session = rustls::ServerConnection::new(Arc::clone(&config)).expect("a session");
            let mut stream = rustls::Stream::new(&mut session, &mut connection);
            // The client ends the session, as expected.
            let _ended = stream.read(&mut [0; 1]).and_then(|_| stream.flush());
        }
    });
    port
}
