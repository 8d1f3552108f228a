//! The Warning event for messages that consumers publish again before the delivery limit drops them: pods report a
//! count, and the operator reports its growth.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::routing::get;
use axum::{Json, Router};
use image_pipeline::api::names;
use serde_json::{Value, json};

use servers::loopback::listen;
use servers::objects;
use servers::operator::{self, until};
use support::api_server::ApiServer;

/// A fake consumer that answers `/status`.
#[derive(Clone, Default)]
struct Consumer {
    renewed: Arc<AtomicU64>,
    polls: Arc<AtomicU64>,
}

impl Consumer {
    /// Starts the server and returns its address.
    async fn start(&self) -> Ipv4Addr {
        let consumer = self.clone();
        let router = Router::new().route("/status", get(async move || Json(consumer.status())));
        let (listener, address) = listen().await;
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        address
    }

    fn status(&self) -> Value {
        self.polls.fetch_add(1, Ordering::SeqCst);
        json!({
            "state": "Running", "consuming": true, "inFlight": 0, "processed": 0, "parked": 0,
            "renewed": self.renewed.load(Ordering::SeqCst),
            "broker": "Unknown", "storage": "Unknown", "parking": "Unknown", "lastError": null,
        })
    }

    /// Returns when the operator has finished a reconcile with the current count.
    async fn is_read(&self) {
        let polls = self.polls.load(Ordering::SeqCst);
        until("the operator to poll the pod", || self.polls.load(Ordering::SeqCst) >= polls + 3).await;
    }
}

fn pipeline() -> Value {
    let changes = json!({
        "source": { "rabbitmq": { "queue": "flights" } },
        "scaling": { "minReplicas": 1, "pollInterval": "500ms" },
    });
    objects::pipeline("forest", "tiles", &changes)
}

fn pod(name: &str, address: Ipv4Addr) -> Value {
    let mut pod = operator::pod(name, "tiles");
    pod["status"] = json!({
        "phase": "Running",
        "podIP": address,
        "conditions": [{ "type": "Ready", "status": "True" }],
        "containerStatuses": [{
            "name": names::CONTAINER, "image": "", "imageID": "", "ready": true, "restartCount": 0,
            "state": { "running": {} },
        }],
    });
    pod
}

#[tokio::test]
async fn messages_that_are_renewed_are_an_event_that_names_queue_cause_and_next_step() {
    let (server, client) = ApiServer::start(vec![pipeline()], vec![], vec![]).await;
    let [one, other] = [Consumer::default(), Consumer::default()];
    one.renewed.store(7, Ordering::SeqCst);
    server.put("pods", pod("tiles-1", one.start().await));
    let told =
        || -> Vec<Value> { server.events().into_iter().filter(|event| event["reason"] == "MessagesRenewed").collect() };
    operator::during(client, async {
        one.is_read().await;
        let going = server.put("pods", pod("tiles-2", other.start().await));
        other.is_read().await;
        server.delete("pods", &going);
        one.is_read().await;
        assert_eq!(told(), Vec::<Value>::new(), "old renewals and a deleted pod are no growth");
        one.renewed.store(10, Ordering::SeqCst);
        until("an event", || told().len() == 1).await;
        one.is_read().await;
    })
    .await;
    let told = told();
    assert_eq!(told.len(), 1, "no growth, no event: {told:#?}");
    assert_eq!((&told[0]["type"], &told[0]["regarding"]["name"]), (&json!("Warning"), &json!("tiles")));
    let note = told[0]["note"].as_str().unwrap();
    for part in
        ["3 messages", "queue \"flights\"", "crashed", "connections closed", "failures.holdingTime", "kubectl get pods"]
    {
        assert!(note.contains(part), "{part:?} in {note}");
    }
}
