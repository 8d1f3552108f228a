//! A host without Kubernetes: a folder with a manifest and its Secrets, for `image-pipeline run`. The manifest has
//! only the fields that a user must set.

use std::path::{Path, PathBuf};
use std::process::Command;

use image_pipeline::rabbitmq::address::BrokerAddress;

use super::store::Credentials;
use support::port::Port;
use support::process::{Process, directory, write};

pub struct Host {
    folder: PathBuf,
}

impl Host {
    /// Writes the manifest and the Secrets.
    pub fn new(broker: &BrokerAddress, queue: &str, endpoint: &str, store: &Credentials, bucket: &str) -> Self {
        let host = Self { folder: directory("host") };
        let vhost = &broker.vhost;
        let manifest = format!(
            "apiVersion: greench.dev/v1alpha1
kind: ImagePipeline
metadata: {{name: tiles}}
spec:
  source:
    rabbitmq: {{queue: {queue}, vhost: {vhost:?}, rabbitmqClusterReference: {{name: rabbit}}}}
  destination:
    s3: {{bucket: {bucket}, endpoint: {endpoint:?}, forcePathStyle: true, credentialsSecret: {{name: s3}}}}
"
        );
        write(&host.manifest(), manifest);
        let port = broker.port.to_string();
        host.secret(
            "rabbit-default-user",
            &[("host", &broker.host), ("port", &port), ("username", &broker.username), ("password", &broker.password)],
        );
        let keys = [("AWS_ACCESS_KEY_ID", &*store.access_key), ("AWS_SECRET_ACCESS_KEY", &store.secret_key)];
        host.secret("s3", &keys);
        host
    }

    pub fn manifest(&self) -> PathBuf {
        self.folder.join("pipeline.yaml")
    }

    pub fn secrets(&self) -> PathBuf {
        self.folder.join("secrets")
    }

    pub fn secret_directory(&self, name: &str) -> PathBuf {
        self.secrets().join(name)
    }

    /// Replaces text in the manifest. Panics if `from` is not there.
    pub fn edit(&self, from: &str, to: &str) {
        let manifest = std::fs::read_to_string(self.manifest()).expect("a file");
        assert!(manifest.contains(from), "{manifest}");
        write(&self.manifest(), manifest.replace(from, to));
    }

    /// Starts `image-pipeline run`.
    pub fn run(&self, program: &Path, listen: &Port, environment: &[(&str, String)]) -> Process {
        Process::start("image-pipeline run", &self.folder, |command| {
            command.arg(program);
            self.arguments(command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()), listen);
            command.envs(environment.iter().cloned());
        })
    }

    /// Adds the arguments of `run`.
    pub fn arguments(&self, command: &mut Command, listen: &Port) {
        command.arg("run").arg("--file").arg(self.manifest()).arg("--listen").arg(listen.address().to_string());
        for directory in ["secrets", "runtime"] {
            command.arg(format!("--{directory}")).arg(self.folder.join(directory));
        }
    }

    fn secret(&self, name: &str, keys: &[(&str, &str)]) {
        let secret = self.secret_directory(name);
        std::fs::create_dir_all(&secret).expect("a directory");
        for (key, value) in keys {
            write(&secret.join(key), value);
        }
    }
}
