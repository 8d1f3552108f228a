//! The operator's own look at a queue of a real broker, told by an API server in memory: as whom it
//! looks and where, and that it looks elsewhere once it is told so.

use serde_json::{Value, json};

use crate::api_server::ApiServer;
use crate::broker::{Broker, Version};
use crate::client::Client;
use crate::operator::{self, until};

fn pipeline(generation: u32, vhost: &str) -> Value {
    json!({
        "apiVersion": "greench.dev/v1alpha1",
        "kind": "ImagePipeline",
        "metadata": { "name": "tiles", "namespace": "forest", "uid": "tiles", "generation": generation },
        "spec": {
            "source": { "rabbitmq": {
                "queue": "tiles", "vhost": vhost, "credentialsSecret": { "name": "reader" },
                "rabbitmqClusterReference": { "connectionSecret": { "name": "broker" } },
            } },
            "destination": { "s3": { "bucket": "tiles" } },
            "scaling": { "pollInterval": "500ms" },
        },
    })
}

fn secret(name: &str, keys: &[(&str, &str)]) -> Value {
    let keys: serde_json::Map<_, _> = keys.iter().map(|(key, value)| ((*key).to_owned(), base64(value))).collect();
    json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name, "namespace": "forest" }, "data": keys })
}

fn base64(text: &str) -> Value {
    base64::Engine::encode(&base64::engine::general_purpose::STANDARD, text).into()
}

/// The user in the connection Secret may see nothing: only the reader's own may.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_reads_a_queue_as_whom_and_where_it_is_told() {
    let broker = Broker::shared(Version::Three).await;
    let (here, there) = (broker.tenant("operator-here"), broker.tenant("operator-there"));
    broker.control(&["set_permissions", "--vhost", "operator-there", "operator-here", ".*", ".*", ".*"]);
    broker.control(&["add_user", "nobody", "nobody"]);
    for (address, messages) in [(&here, 3), (&there, 5)] {
        let client = Client::connect(address).await.expect("a connection");
        client.declare("tiles", Version::Three.queue_type()).await;
        for _ in 0..messages {
            client.publish("tiles", b"body").await;
        }
    }
    let reader = |password| secret("reader", &[("username", "operator-here"), ("password", password)]);
    let port = here.port.to_string();
    let connection = [("host", "127.0.0.1"), ("port", &port), ("username", "nobody"), ("password", "nobody")];
    let secrets = vec![secret("broker", &connection)];
    let (server, client) = ApiServer::start(vec![pipeline(1, "operator-here")], secrets, vec![]).await;
    server.put("secrets", reader("wrong"));
    let backlog = async |messages| {
        let what = format!("a backlog of {messages}");
        until(&what, || server.status("tiles")["backlog"] == messages).await;
    };
    operator::during(client, async {
        let refused = "False AuthenticationFailed";
        until("the wrong password to be named", || {
            let found = server.condition("tiles", "BrokerReachable");
            found.starts_with(refused) && found.contains("user \"operator-here\"")
        })
        .await;
        server.put("secrets", reader("operator-here"));
        backlog(3).await;
        server.put("imagepipelines", pipeline(2, "operator-there"));
        backlog(5).await;
    })
    .await;
}
