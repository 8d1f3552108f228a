//! The operator and the Secrets that a pipeline references: each is used for its purpose, an error names its field,
//! and a change reaches the pods.

use image_pipeline::api::names::SECRETS_ANNOTATION;
use image_pipeline::controller::Settings;
use image_pipeline::rabbitmq::DialPolicy;
use serde_json::{Value, json};

use servers::objects;
use servers::operator::{self, until};
use support::api_server::ApiServer;

const FOREST: &str = "forest";
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
const KEY: &str = "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n";

/// Port of a broker that does not run: it was free a moment ago.
async fn nowhere() -> String {
    tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port().to_string()
}

/// A pipeline that is reconciled only after a change: its poll interval is five minutes.
fn pipeline(mut rabbitmq: Value, s3: Value) -> Value {
    rabbitmq["rabbitmqClusterReference"] = objects::connection_secret("broker");
    let changes = json!({
        "source": { "rabbitmq": rabbitmq }, "destination": { "s3": s3 }, "scaling": { "pollInterval": "5m" },
    });
    objects::pipeline(FOREST, "tiles", &changes)
}

fn secret(name: &str, keys: &[(&str, &str)]) -> Value {
    objects::secret(FOREST, name, keys)
}

async fn says(server: &ApiServer, expected: &str) {
    until(&format!("BrokerReachable to say {expected:?}"), || {
        server.condition("tiles", "BrokerReachable").starts_with(expected)
    })
    .await;
}

/// A Secret, its new keys, and the expected message.
type Step<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);

/// The connection Secret has no user and the user's Secret has no host, so that neither can replace the other.
#[tokio::test]
async fn every_secret_of_the_broker_is_read_and_named_by_its_field() {
    let rabbitmq = json!({
        "credentialsSecret": { "name": "reader" },
        "tls": { "caSecret": { "name": "ca" }, "clientCertSecret": { "name": "client" } },
    });
    let (server, client) = ApiServer::start(vec![pipeline(rabbitmq, json!({}))], vec![], vec![]).await;
    let port = nowhere().await;
    let steps: [Step<'_>; 10] = [
        (
            "broker",
            &[("port", &port)],
            "False SecretNotFound Secret \"reader\" of source.rabbitmq.credentialsSecret does not exist",
        ),
        (
            "reader",
            &[("username", "u")],
            "False SecretNotFound Secret \"ca\" of source.rabbitmq.tls.caSecret does not exist",
        ),
        (
            "ca",
            &[("ca.crt", "no PEM")],
            "False SecretNotFound Secret \"client\" of source.rabbitmq.tls.clientCertSecret does not exist",
        ),
        (
            "client",
            &[("tls.crt", CERTIFICATE)],
            "False SecretInvalid The Secret of source.rabbitmq.tls.caSecret has a key ca.crt that holds no certificate",
        ),
        (
            "ca",
            &[("ca.crt", CERTIFICATE)],
            "False SecretInvalid The Secret of source.rabbitmq.tls.clientCertSecret needs the key tls.key",
        ),
        (
            "client",
            &[("tls.crt", CERTIFICATE), ("tls.key", KEY)],
            "False SecretInvalid The Secret of source.rabbitmq.credentialsSecret needs the key password",
        ),
        (
            "reader",
            &[("password", "p")],
            "False SecretInvalid The Secret of source.rabbitmq.credentialsSecret needs the key username",
        ),
        (
            "reader",
            &[("username", "u"), ("password", "p")],
            "False SecretInvalid The Secret of source.rabbitmq.rabbitmqClusterReference needs the key host",
        ),
        ("broker", &[("host", "127.0.0.1"), ("port", &port)], "False TlsFailed TLS with the broker at 127.0.0.1"),
        (
            "ca",
            &[],
            "False SecretNotFound The Secret of source.rabbitmq.tls.caSecret is missing, or has none of the keys ca.crt",
        ),
    ];
    operator::during(client, async {
        says(
            &server,
            "False SecretNotFound Secret \"broker\" of source.rabbitmq.rabbitmqClusterReference does not exist",
        )
        .await;
        for (name, keys, expected) in steps {
            server.put("secrets", secret(name, keys));
            says(&server, expected).await;
        }
        server.delete("secrets", &secret("reader", &[]));
        let gone = "False SecretNotFound Secret \"reader\" of source.rabbitmq.credentialsSecret does not exist";
        says(&server, gone).await;
    })
    .await;
}

#[tokio::test]
async fn a_user_of_its_own_is_who_looks_at_the_queue() {
    let rabbitmq = json!({ "credentialsSecret": { "name": "reader" } });
    let port = nowhere().await;
    let secrets = vec![
        secret("broker", &[("host", "127.0.0.1"), ("port", &port)]),
        secret("reader", &[("username", "u"), ("password", "p")]),
    ];
    let (server, client) = ApiServer::start(vec![pipeline(rabbitmq, json!({}))], secrets, vec![]).await;
    let unreachable = format!("False BrokerUnreachable The broker at 127.0.0.1:{port} can't be reached");
    operator::during(client, says(&server, &unreachable)).await;
}

/// The old broker does not answer, and a poll of it may be under way.
#[tokio::test]
async fn a_secret_that_leads_away_from_a_broker_that_hangs_is_followed_within_seconds() {
    let hangs = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let keys =
        |port: &str| secret("broker", &[("host", "127.0.0.1"), ("port", port), ("username", "u"), ("password", "p")]);
    let there = hangs.local_addr().unwrap().port().to_string();
    let (server, client) = ApiServer::start(vec![pipeline(json!({}), json!({}))], vec![keys(&there)], vec![]).await;
    server.put("pods", operator::pod("ours", "tiles"));
    operator::during(client, async {
        let _held = hangs.accept().await.unwrap();
        let (port, rotated) = (nowhere().await, std::time::Instant::now());
        let version = server.put("secrets", keys(&port))["metadata"]["resourceVersion"].clone();
        says(&server, &format!("False BrokerUnreachable The broker at 127.0.0.1:{port} can't be reached")).await;
        until("the pod's annotation to change", || {
            server.list("pods")[0]["metadata"]["annotations"][SECRETS_ANNOTATION] == version
        })
        .await;
        let after = rotated.elapsed();
        assert!(after < std::time::Duration::from_secs(5), "{after:?}");
    })
    .await;
}

/// Otherwise anybody who may write a Secret could probe the servers beside the operator, and read the result in the
/// status.
#[tokio::test]
async fn a_secret_that_leads_to_the_operator_itself_is_refused_and_dialled_never() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let keys = |host| secret("broker", &[("host", host), ("port", &port), ("username", "u"), ("password", "p")]);
    let (server, client) =
        ApiServer::start(vec![pipeline(json!({}), json!({}))], vec![keys("localhost")], vec![]).await;
    let elsewhere = Settings { dial_policy: DialPolicy::RemoteOnly, ..operator::settings(&[]) };
    operator::run(elsewhere, client, Default::default(), async {
        says(&server, "False AddressRefused The broker's host \"localhost\" resolves to ").await;
        server.put("secrets", keys("169.254.169.254"));
        let metadata =
            "False AddressRefused The broker's host \"169.254.169.254\" resolves to 169.254.169.254, a cloud's";
        says(&server, metadata).await;
    })
    .await;
    let accepted = tokio::time::timeout(std::time::Duration::from_millis(1), listener.accept()).await;
    assert!(accepted.is_err(), "the operator connected to its own host");
}

/// The kubelet takes up to two minutes to read a Secret again, unless the pod changes.
#[tokio::test]
async fn a_change_of_any_secret_reaches_the_pods_at_once() {
    let rabbitmq = json!({
        "credentialsSecret": { "name": "reader" },
        "tls": { "caSecret": { "name": "ca" }, "clientCertSecret": { "name": "client" } },
    });
    let s3 = json!({ "credentialsSecret": { "name": "s3" }, "tls": { "caSecret": { "name": "s3-ca" } } });
    let names = ["broker", "reader", "ca", "client", "s3", "s3-ca"];
    let (server, client) = ApiServer::start(vec![pipeline(rabbitmq, s3)], vec![], vec![]).await;
    for name in &names[1..] {
        server.put("secrets", secret(name, &[]));
    }
    server.put("pods", operator::pod("ours", "tiles"));
    server.put("pods", operator::pod("theirs", "others"));
    let told = |pod: &str| {
        let pods = server.list("pods");
        let pod = pods.iter().find(|found| found["metadata"]["name"] == pod).expect("a pod");
        pod["metadata"]["annotations"][SECRETS_ANNOTATION].as_str().unwrap_or_default().to_owned()
    };
    let patches = || server.writes().iter().filter(|write| write.contains("/pods/ours")).count();
    operator::during(client, async {
        until("the pod's annotation to change", || told("ours").starts_with("absent.")).await;
        for (round, name) in names.into_iter().enumerate() {
            let before = told("ours");
            // A Secret of the same name in another namespace must have no effect.
            let mut foreign = secret(name, &[]);
            foreign["metadata"]["namespace"] = json!("field");
            server.put("secrets", foreign);
            let written = server.put("secrets", secret(name, &[("key", "value")]));
            until(&format!("the annotation to follow {name}"), || told("ours") != before).await;
            let version = written["metadata"]["resourceVersion"].as_str().expect("a version");
            assert_eq!(told("ours").split('.').nth(round), Some(version), "{name}");
            // Two requests occur if the next Secret changed before the watch delivered the pod's last annotation.
            let changes = round + 2;
            assert!((changes..=2 * changes).contains(&patches()), "{} requests for {changes} changes", patches());
        }
        server.delete("secrets", &secret("s3", &[]));
        until("the annotation to report s3 as absent", || told("ours").split('.').nth(4) == Some("absent")).await;
    })
    .await;
    assert_eq!(told("theirs"), "", "a pod of another pipeline");
    operator::has_leave_for(&server.transcript());
}
