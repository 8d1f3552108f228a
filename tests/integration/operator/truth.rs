//! Broker faults that the operator can see, on a real broker: the pipeline's status names each fault within the
//! promised time, and clears it as fast after the fix. The pipeline has the default poll interval.

use std::time::Duration;

use serde_json::{Value, json};

use servers::broker::{Broker, Tls, Version};
use servers::client::Client;
use servers::objects;
use servers::operator;
use support::api_server::ApiServer;
use support::certificates::Authority;
use support::eventually::eventually;

/// The promised time for a fault to appear in the status, and to disappear.
const NAMED_WITHIN: Duration = Duration::from_secs(10);

/// A deviation from a scene in which everything is right.
#[derive(Clone, Default)]
struct Fault {
    queue: Option<&'static str>,
    vhost: Option<&'static str>,
    host: Option<&'static str>,
    port: Option<u16>,
    password: Option<&'static str>,
    without: Option<&'static str>,
    authority: Option<String>,
}

struct Scene {
    server: ApiServer,
    broker: Broker,
    port: u16,
    authority: String,
    generation: std::cell::Cell<u32>,
}

impl Scene {
    /// Writes the Secrets and the pipeline with a fault.
    fn show(&self, fault: &Fault) {
        let port = fault.port.unwrap_or(self.port).to_string();
        let password = fault.password.unwrap_or("truth");
        let host = fault.host.unwrap_or("localhost");
        let mut keys = vec![("host", host), ("port", &port), ("username", "truth"), ("password", password)];
        keys.retain(|(key, _)| Some(*key) != fault.without);
        self.server.put("secrets", secret("broker", &keys));
        let authority = fault.authority.as_ref().unwrap_or(&self.authority);
        self.server.put("secrets", secret("authority", &[("ca.crt", authority)]));
        self.generation.set(self.generation.get() + 1);
        self.server.put("imagepipelines", self.pipeline(fault));
    }

    fn pipeline(&self, fault: &Fault) -> Value {
        let changes = json!({ "source": { "rabbitmq": {
            "queue": fault.queue.unwrap_or("truth"), "vhost": fault.vhost.unwrap_or("truth"),
            "rabbitmqClusterReference": objects::connection_secret("broker"),
            "tls": { "caSecret": { "name": "authority" } },
        } } });
        objects::of_generation(self.generation.get().into(), objects::pipeline("forest", "truth", &changes))
    }

    async fn shows(&self, kind: &str, condition: &str) {
        eventually(&format!("{kind} {condition}"), NAMED_WITHIN, async || {
            let found = self.server.condition("truth", kind);
            if found.starts_with(condition) { Ok(()) } else { Err(found) }
        })
        .await;
    }

    async fn is_well(&self) {
        self.shows("BrokerReachable", "True Connected").await;
        self.shows("QueueFound", "True QueueFound").await;
    }
}

fn secret(name: &str, keys: &[(&str, &str)]) -> Value {
    objects::secret("forest", name, keys)
}

fn faults() -> Vec<(&'static str, &'static str, Fault)> {
    let closed = support::port::Port::reserve().number();
    let other = Authority::new("other").certificate;
    let broker = "BrokerReachable";
    vec![
        (broker, "False DnsFailed", Fault { host: Some("nowhere.invalid"), ..Fault::default() }),
        (broker, "False BrokerUnreachable", Fault { port: Some(closed), ..Fault::default() }),
        (broker, "False AuthenticationFailed", Fault { password: Some("wrong"), ..Fault::default() }),
        (broker, "False VhostNotFound", Fault { vhost: Some("nowhere"), ..Fault::default() }),
        (broker, "False TlsFailed", Fault { authority: Some(other), ..Fault::default() }),
        (broker, "False SecretInvalid", Fault { without: Some("password"), ..Fault::default() }),
        ("QueueFound", "False QueueNotFound", Fault { queue: Some("nowhere"), ..Fault::default() }),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_status_names_what_is_wrong_with_a_broker_and_that_it_is_mended() {
    let ours = Authority::new("ours");
    let certificate = ours.server("DNS:localhost");
    let tls = Tls { certificate: &certificate, authority: &ours, demanding: false };
    let broker = Broker::own_with_tls(Version::Three, &tls).await;
    let tenant = broker.tenant("truth");
    let devices = Client::connect(&tenant).await.expect("a connection");
    devices.declare("truth", Version::Three.queue_type()).await;
    drop(devices);
    // Writes the queue to disk immediately. Otherwise the broker that is killed below may lose it.
    broker.control(&["stop_app"]);
    broker.control(&["start_app"]);
    let port = broker.with_tls("localhost", &tenant).port;
    let (server, client) = ApiServer::start(vec![], vec![], vec![]).await;
    let authority = ours.certificate.clone();
    let mut scene = Scene { server, broker, port, authority, generation: Default::default() };
    operator::during(client, async {
        scene.show(&Fault::default());
        scene.is_well().await;
        for (kind, condition, fault) in faults() {
            scene.show(&fault);
            scene.shows(kind, condition).await;
            scene.show(&Fault::default());
            scene.is_well().await;
        }

        let gone = secret("broker", &[]);
        scene.server.delete("secrets", &gone);
        scene.shows("BrokerReachable", "False SecretNotFound").await;
        scene.show(&Fault::default());
        scene.is_well().await;

        scene.broker.kill();
        scene.shows("BrokerReachable", "False BrokerUnreachable").await;
        scene.broker.restart().await;
        scene.is_well().await;
    })
    .await;
}
