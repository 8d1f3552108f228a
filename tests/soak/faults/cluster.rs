//! Kubernetes faults: an API server that does not answer, and a kubelet that stops for a while.

use std::process::Command;

use futures::future::FutureExt as _;
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::ListParams;

use super::super::commands;
use super::super::kind::Kind;
use super::super::processes;
use super::super::scene::Scene;
use super::Heal;
use support::eventually::{LIMIT, eventually};

const API_SERVER: &str = "kube-apiserver";

pub async fn inject(scene: &Scene, kind: Kind) -> Heal<'_> {
    if kind == Kind::ApiServerAway {
        processes::signal(processes::part(API_SERVER), "STOP");
    } else {
        kubelet("stop").await;
    }
    heal(scene).boxed_local()
}

/// Resumes the API server, starts the kubelet, and waits until the node is ready.
pub async fn heal(scene: &Scene) {
    processes::signal(processes::part(API_SERVER), "CONT");
    kubelet("start").await;
    let nodes: Api<Node> = Api::all(scene.client.clone());
    eventually("the node to be ready", LIMIT, async || {
        let nodes = nodes.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        let conditions = nodes.items.into_iter().filter_map(|node| node.status?.conditions).flatten();
        let ready = conditions.filter(|condition| condition.type_ == "Ready").all(|ready| ready.status == "True");
        if ready { Ok(()) } else { Err("not ready".to_owned()) }
    })
    .await;
}

async fn kubelet(what: &'static str) {
    commands::persist(|| {
        let mut command = Command::new(support::repository().join("tests/cluster/kubelet"));
        command.arg(what);
        command
    })
    .await;
}
