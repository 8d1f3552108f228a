//! Leader election: one of several operators is active, and another takes over however the first ends. An operator
//! that was stopped, or has lost the Lease, writes nothing.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use axum::body::{Body, to_bytes};
use axum::http::Request;
use image_pipeline::console::{self, About};
use image_pipeline::controller::{self, Election, Error, Instruments};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use servers::objects;
use servers::operator::{self, until};
use support::api_server::{ApiServer, LEASE};

/// Time that other operators wait for a leader that has disappeared, and the promised limits.
const LEASE_DURATION: Duration = Duration::from_secs(15);
const TAKES_OVER_WITHIN: Duration = Duration::from_secs(20);
const HANDS_OVER_WITHIN: Duration = Duration::from_secs(3);

/// One of several operators, in this process.
struct Operator {
    name: &'static str,
    instruments: Instruments,
    registry: Registry,
    stop: CancellationToken,
    task: JoinHandle<Result<(), Error>>,
}

impl Operator {
    fn start(name: &'static str, server: &ApiServer) -> Self {
        let (client, stop) = (server.client_of(name), CancellationToken::new());
        let (instruments, mut registry) = (Instruments::default(), Registry::default());
        instruments.metrics.register(&mut registry);
        let election = Election::new(client.clone(), "system", "image-pipeline", name);
        let settings = operator::settings(&[]);
        let task = tokio::spawn(controller::lead(election, client, settings, instruments.clone(), stop.clone()));
        Self { name, instruments, registry, stop, task }
    }

    /// Whether its metrics and its console show the pipeline, and its console says that it leads.
    async fn tells(&self) -> [bool; 3] {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let page = self.page().await;
        [text.contains("desired_replicas{"), page.contains("<article"), !page.contains("This operator waits")]
    }

    async fn page(&self) -> String {
        let Instruments { console, listed, .. } = self.instruments.clone();
        let routes =
            console::routes(console, move || listed.is_complete(), About::default(), ([0, 0, 0, 0], 8081).into());
        let answer = routes.oneshot(Request::get("/").body(Body::empty()).unwrap()).await.unwrap();
        String::from_utf8(to_bytes(answer.into_body(), usize::MAX).await.unwrap().to_vec()).unwrap()
    }

    /// Waits until it has read the Lease this many more times.
    async fn looks(&self, server: &ApiServer, times: usize) {
        looks(self.name, server, times).await;
    }
}

async fn looks(name: &str, server: &ApiServer, times: usize) {
    let count = || server.requests_of(name).iter().filter(|request| **request == format!("GET {LEASE}")).count();
    let before = count();
    until(&format!("{name} to look at the lease"), || count() >= before + times).await;
}

/// Its write requests, except those for the Lease.
fn work(name: &str, server: &ApiServer) -> Vec<String> {
    let work = |request: &String| !request.starts_with("GET ") && !request.contains("/leases");
    server.requests_of(name).into_iter().filter(work).collect()
}

fn pipeline(size: u64) -> Value {
    let changes = json!({ "replicas": size, "scaling": { "pollInterval": "500ms" } });
    objects::of_generation(size, objects::pipeline("forest", "tiles", &changes))
}

async fn server() -> ApiServer {
    ApiServer::start(vec![pipeline(1)], vec![], vec![]).await.0
}

/// Changes the size in the spec and waits until the Deployment has it.
async fn is_sized(server: &ApiServer, size: u64) {
    server.put("imagepipelines", pipeline(size));
    until(&format!("size {size}"), || {
        server.list("deployments").first().is_some_and(|deployment| deployment["spec"]["replicas"] == size)
    })
    .await;
}

#[tokio::test]
async fn of_two_one_works_and_hands_over_when_it_is_told_to_stop() {
    let server = server().await;
    let first = Operator::start("first", &server);
    is_sized(&server, 2).await;
    let second = Operator::start("second", &server);
    second.looks(&server, 3).await;
    assert_eq!(server.lease()["spec"]["holderIdentity"], "first");
    assert_eq!(server.lease()["spec"]["leaseDurationSeconds"], 15);
    assert_eq!(work("second", &server), [""; 0]);
    assert!(second.instruments.listed.is_complete(), "a waiting operator must be ready, or a rollout would hang");

    let told = Instant::now();
    first.stop.cancel();
    first.task.await.unwrap().unwrap();
    let wrote = work("first", &server);
    is_sized(&server, 3).await;
    assert!(told.elapsed() < HANDS_OVER_WITHIN, "{:?}", told.elapsed());
    assert_eq!(work("first", &server), wrote);
    assert_eq!(server.lease()["spec"]["leaseTransitions"], 2);
    second.stop.cancel();
    second.task.await.unwrap().unwrap();
    assert_eq!(server.lease()["spec"]["holderIdentity"], Value::Null);
}

#[tokio::test]
async fn a_killed_one_is_followed_when_its_lease_has_run_out() {
    let server = server().await;
    let first = Operator::start("first", &server);
    is_sized(&server, 2).await;
    first.task.abort();
    assert!(first.task.await.is_err_and(|error| error.is_cancelled()));
    let killed = Instant::now();
    let _second = Operator::start("second", &server);
    is_sized(&server, 3).await;
    let after = killed.elapsed();
    assert!(LEASE_DURATION <= after && after < TAKES_OVER_WITHIN, "{after:?}");
}

#[tokio::test]
async fn one_that_lost_the_lease_leaves_the_work_and_waits_for_its_turn() {
    let server = server().await;
    let first = Operator::start("first", &server);
    is_sized(&server, 2).await;
    assert_eq!(first.tells().await, [true; 3]);
    server.change_lease(&json!({ "holderIdentity": "another" }));
    first.looks(&server, 2).await;
    assert_eq!(first.tells().await, [false; 3], "an operator without the Lease still reports the pipeline");
    let wrote = work("first", &server);
    server.put("imagepipelines", pipeline(3));
    first.looks(&server, 3).await;
    assert_eq!(work("first", &server), wrote);
    server.change_lease(&json!({ "holderIdentity": null }));
    is_sized(&server, 4).await;
    assert!(!first.task.is_finished());
}

#[tokio::test]
async fn one_whose_api_server_is_away_leaves_the_work_and_goes_on_later() {
    let server = server().await;
    server.forbid("/pods");
    let first = Operator::start("first", &server);
    first.looks(&server, 2).await;
    assert!(!first.instruments.listed.is_complete());
    let lists = || server.requests_of("first").iter().filter(|request| request.ends_with("/secrets")).count();
    server.forbid("/");
    // Some requests within its term, every two seconds, and some after it.
    first.looks(&server, 9).await;
    let before = lists();
    server.allow();
    is_sized(&server, 2).await;
    assert!(first.instruments.listed.is_complete(), "still waits for a list of its former term");
    assert!(lists() > before, "used its old lists again");
    assert!(!first.task.is_finished());
}

/// An operator in a process of its own, which can be stopped.
struct Process(Child);

impl Process {
    fn start(name: &str, server: &ApiServer, folder: &std::path::Path) -> Self {
        let kubeconfig = folder.join("kubeconfig");
        let context = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u" } }],
            "clusters": [{ "name": "c", "cluster": { "server": server.uri.to_string() } }],
            "users": [{ "name": "u", "user": { "token": name } }],
        });
        std::fs::write(&kubeconfig, context.to_string()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_image-pipeline"));
        command.args(["controller", "--consumer-image=image:1", "--listen=127.0.0.1:0", "--lease-namespace=system"]);
        command.env_clear().env("KUBECONFIG", kubeconfig).stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args(["-s", signal, &self.0.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[tokio::test]
async fn one_that_stood_still_past_its_term_writes_nothing_when_it_goes_on() {
    let server = server().await;
    let folder = tempfile::tempdir().unwrap();
    let first = Process::start("first", &server, folder.path());
    is_sized(&server, 2).await;
    // A request that is under way when the process is stopped is sent when it goes on.
    looks("first", &server, 2).await;
    first.signal("STOP");
    let second = Operator::start("second", &server);
    is_sized(&server, 3).await;
    let wrote = work("first", &server);
    server.put("imagepipelines", pipeline(4));
    first.signal("CONT");
    looks("first", &server, 3).await;
    assert_eq!(work("first", &server), wrote);
    assert!(work("second", &server).iter().any(|write| write.contains("/deployments/")));
    assert_eq!(server.lease()["spec"]["holderIdentity"], "second");
    drop(second);
}
