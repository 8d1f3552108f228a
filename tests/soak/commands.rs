//! Runs programs for the soak (kubectl, helm, the cluster's scripts) without blocking a thread, each with a
//! timeout. Uses only the tests' own cluster.

use std::process::Command;
use std::time::Duration;

use servers::cluster::kubectl;
use support::eventually::eventually;

/// Timeout of one run.
const LIMIT: Duration = Duration::from_secs(60);

/// Limit for repeating a command until it succeeds: longer than the API server is away.
const PERSISTS: Duration = Duration::from_secs(90);

/// Runs a program to its end. Returns its standard output, or an error with its standard error.
pub async fn output(command: Command) -> Result<String, String> {
    let what = format!("{command:?}");
    let run = tokio::process::Command::from(command).kill_on_drop(true).output();
    let output = tokio::time::timeout(LIMIT, run).await.map_err(|_| format!("{what} has not ended in {LIMIT:?}"))?;
    let output = output.map_err(|error| format!("{what}: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(format!("{what}: {}", text(&output.stderr))) }
}

/// Repeats a program until it succeeds.
pub async fn persist(make: impl Fn() -> Command) -> String {
    let what = format!("{:?} to succeed", make());
    eventually(&what, PERSISTS, async || output(make()).await).await
}

/// Repeats kubectl in a namespace until it succeeds.
pub async fn kubectl_in(namespace: &str, arguments: &[&str]) -> String {
    persist(|| {
        let mut command = kubectl();
        command.args(["--request-timeout=20s", "--namespace", namespace]).args(arguments);
        command
    })
    .await
}
