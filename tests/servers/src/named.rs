//! Runs `image-pipeline check` by name against one API server. The process can find no other cluster and no
//! writable directory.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output};

use axum::http::Uri;

/// Namespace of the kubeconfig's context.
pub const NAMESPACE: &str = "forest";

/// Output of the command with these arguments.
pub fn check(program: &str, server: &Uri, arguments: &[&str]) -> Output {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    let kubeconfig = format!(
        "apiVersion: v1
kind: Config
clusters: [{{name: memory, cluster: {{server: {server:?}}}}}]
users: [{{name: user, user: {{token: token}}}}]
contexts: [{{name: memory, context: {{cluster: memory, user: user, namespace: {NAMESPACE}}}}}]
current-context: memory
"
    );
    file.write_all(kubeconfig.as_bytes()).expect("written");
    check_with(program, file.path(), arguments)
}

/// Output of the command with this kubeconfig.
pub fn check_with(program: &str, kubeconfig: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.env_clear().env("KUBECONFIG", kubeconfig).env("HOME", "/nonexistent").env("TMPDIR", "/nonexistent");
    command.arg("check").args(arguments).output().expect("the program")
}
