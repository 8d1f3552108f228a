//! The operator's own look at a queue of a real broker, told by an API server in memory: as whom it
//! looks and where, and that it looks elsewhere once it is told so.

use serde_json::{Value, json};

use crate::api_server::ApiServer;
use crate::broker::{Broker, Version};
use crate::client::Client;
use crate::operator::{self, until};

/// One of a namespace, which reads as the reader there.
fn reading(namespace: &str) -> Value {
    let mut pipeline = pipeline(1, "operator-shared");
    pipeline["metadata"]["namespace"] = json!(namespace);
    (pipeline["metadata"]["name"], pipeline["metadata"]["uid"]) = (json!(namespace), json!(namespace));
    pipeline
}

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn namespaces_that_read_as_one_user_share_its_connection() {
    let broker = Broker::shared(Version::Three).await;
    let address = broker.tenant("operator-shared");
    let client = Client::connect(&address).await.expect("a connection");
    client.declare("tiles", Version::Three.queue_type()).await;
    client.publish("tiles", b"body").await;
    let port = address.port.to_string();
    let connection = [("host", "127.0.0.1"), ("port", &port), ("username", "nobody"), ("password", "nobody")];
    let reader = [("username", "operator-shared"), ("password", "operator-shared")];
    let of = |namespace: &str| {
        [secret("broker", &connection), secret("reader", &reader)].map(|mut secret| {
            secret["metadata"]["namespace"] = json!(namespace);
            secret
        })
    };
    let secrets = [of("forest"), of("meadow")].concat();
    let pipelines = vec![reading("forest"), reading("meadow")];
    let (server, client) = ApiServer::start(pipelines, secrets, vec![]).await;
    operator::run(operator::settings(&["forest", "meadow"]), client, Default::default(), async {
        until("both to be read", || ["forest", "meadow"].iter().all(|name| server.status(name)["backlog"] == 1)).await;
        let connections = broker.control(&["list_connections", "user", "client_properties"]);
        let ours = connections
            .lines()
            .filter(|line| line.starts_with("operator-shared\t") && line.contains("image-pipeline controller"));
        assert_eq!(ours.count(), 1, "{connections}");
    })
    .await;
}
