//! Upgrades the release and rolls it back with helm. The operator's pod is replaced each time, and its image and
//! options stay the same; no consumer may be replaced.

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::commands;
use super::super::kind::Kind;
use super::operator::{NAME, NAMESPACE};
use super::{Heal, nothing};
use servers::cluster::own_kubeconfig;

pub async fn inject<'a>(kind: Kind) -> Heal<'a> {
    if kind == Kind::ReleaseUpgraded {
        upgrade().await;
    } else {
        // A rollback needs an earlier revision.
        if revisions().await < 2 {
            upgrade().await;
        }
        commands::persist(|| helm(&["rollback", NAME, "--wait", "--timeout=50s"])).await;
    }
    nothing()
}

async fn upgrade() {
    static NUMBER: AtomicUsize = AtomicUsize::new(1);
    let annotation = format!("podAnnotations.soak=upgrade-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let chart = support::repository().join("charts/image-pipeline");
    let chart = chart.to_str().expect("text");
    commands::persist(|| {
        helm(&["upgrade", NAME, chart, "--reuse-values", "--set", &annotation, "--wait", "--timeout=50s"])
    })
    .await;
}

async fn revisions() -> usize {
    let history = commands::persist(|| helm(&["history", NAME, "--output=json"])).await;
    let history: serde_json::Value = serde_json::from_str(&history).expect("JSON");
    history.as_array().map_or(0, Vec::len)
}

fn helm(arguments: &[&str]) -> Command {
    let mut command = Command::new("helm");
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HELM_KUBE")) {
        command.env_remove(name);
    }
    command.env("KUBECONFIG", own_kubeconfig().expect("the tests' own cluster"));
    command.args(["--namespace", NAMESPACE]).args(arguments);
    command
}
