//! `kubectl` for an API server of these tests.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use servers::control_plane::{ApiServer, programs};
use support::eventually::{LIMIT, eventually};

/// Runs `kubectl`: standard output, or standard error.
pub struct Kubectl<'a> {
    pub api_server: &'a ApiServer,
    pub home: PathBuf,
}

impl Kubectl<'_> {
    pub fn run(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new(programs().join("kubectl"));
        command.args(arguments).env("KUBECONFIG", &self.api_server.kubeconfig).env("HOME", &self.home);
        let output = command.stdin(Stdio::null()).output().expect("kubectl");
        match String::from_utf8_lossy(&output.stderr).trim() {
            "" if output.status.success() => Ok(String::from_utf8(output.stdout).expect("text")),
            said => Err(said.to_owned()),
        }
    }

    /// Fails on warnings too, because they are on standard error.
    pub fn applies(&self, file: &Path, options: &[&str]) {
        let file = file.to_str().expect("a path of text");
        let applied = self.run(&[&["apply", "--server-side", "--filename", file], options].concat());
        assert!(applied.is_ok(), "{file}: {}", applied.unwrap_err());
    }

    /// Applies a CRD, and waits until its resources can be written.
    pub fn establishes(&self, file: &Path) {
        self.applies(file, &[]);
        let file = file.to_str().expect("a path of text");
        self.run(&["wait", "--for=condition=Established", "--timeout=60s", "--filename", file]).expect("established");
    }

    /// Creates a namespace and the ServiceAccount that a controller would create.
    pub fn makes_namespace(&self, name: &str) {
        self.run(&["create", "namespace", name]).expect("a namespace");
        self.run(&["--namespace", name, "create", "serviceaccount", "default"]).expect("a ServiceAccount");
    }

    /// Waits until the API server answers.
    pub async fn is_ready(&self) {
        eventually("the API server", LIMIT, async || {
            self.api_server.must_run();
            self.run(&["get", "--raw=/readyz"])
        })
        .await;
    }

    /// Version of the API server, such as v1.34.4.
    pub fn version(&self) -> String {
        let version = self.run(&["get", "--raw=/version"]).expect("a version");
        let version: serde_json::Value = serde_json::from_str(&version).expect("JSON");
        version["gitVersion"].as_str().expect("text").to_owned()
    }
}
