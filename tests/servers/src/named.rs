//! `image-pipeline check` by name, as a process that is told of one API server. It must never find another
//! cluster, nor a directory that it can write.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output};

use axum::http::Uri;

/// Where everybody's namespace is who names none.
pub const NAMESPACE: &str = "forest";

/// What it says with these arguments.
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

/// What it says with this kubeconfig.
pub fn check_with(program: &str, kubeconfig: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.env_clear().env("KUBECONFIG", kubeconfig).env("HOME", "/nonexistent").env("TMPDIR", "/nonexistent");
    command.arg("check").args(arguments).output().expect("the program")
}
