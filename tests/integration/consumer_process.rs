//! The real consumer as a separate process, started as the controller starts it: an assignment, and Secrets as
//! directories. The tests know only its flags, the resource's field names and its HTTP endpoints.

use std::path::PathBuf;
use std::time::Duration;

use image_pipeline::api::names::SecretRole;
use image_pipeline::controller::build::MEMORY;
use image_pipeline::pod_status::PodStatus;
use image_pipeline::rabbitmq::address::BrokerAddress;
use reqwest::StatusCode;
use serde_json::{Value, json};

use servers::store::Credentials;
use support::eventually::{LIMIT, eventually};
use support::port::Port;
use support::process::{Process, directory, write};

/// Seconds that the consumer may take to end.
pub const GRACE_SECONDS: u16 = 20;

/// Timeout for the consumer's HTTP endpoints. They must answer whatever else fails.
const ANSWER: Duration = Duration::from_secs(3);

/// Arguments: the `cgroup.procs` file of a control group, then the command.
const ENTERED: &str = r#"echo $$ > "$1" && shift && exec "$@""#;
/// Arguments: a limit in KiB, then the command.
const LIMITED: &str = r#"ulimit -c 0; ulimit -d "$1"; shift; exec "$@""#;

/// Configuration of one consumer.
pub struct Settings {
    pub queue: String,
    pub parking: String,
    pub vhost: String,
    pub bucket: String,
    /// Put before every image name.
    pub prefix: String,
    /// URL of the S3 server.
    pub endpoint: String,
    /// Number of images processed in parallel.
    pub concurrency: u16,
    /// Further fields of the assignment, applied as a JSON merge patch (RFC 7386) over the fields above.
    pub spec: Value,
    /// Environment variables of the pod.
    pub environment: Vec<(&'static str, String)>,
    /// The control group to start it in.
    pub memory_group: Option<PathBuf>,
    /// Limit of the data segment in bytes, set with `ulimit -d`.
    pub data_limit: Option<u64>,
    secrets: PathBuf,
}

pub struct Consumer {
    process: Process,
    listen: Port,
    http: reqwest::Client,
}

impl Settings {
    /// Settings with a queue and a bucket of this name. Writes the Secrets of both services.
    pub fn new(name: &str, broker: &BrokerAddress, endpoint: String, store: &Credentials) -> Self {
        let secrets = directory(name);
        for role in [SecretRole::Broker, SecretRole::Store] {
            std::fs::create_dir(secrets.join(role.as_str())).expect("a new directory");
        }
        let settings = Self {
            queue: name.to_owned(),
            parking: format!("{name}.parked"),
            vhost: broker.vhost.clone(),
            bucket: name.to_owned(),
            prefix: String::new(),
            endpoint,
            concurrency: 4,
            spec: json!({}),
            environment: Vec::new(),
            memory_group: None,
            data_limit: None,
            secrets,
        };
        settings.write_broker_secret(broker);
        settings.write_store_secret(store);
        settings
    }

    /// Replaces the RabbitMQ Secret.
    pub fn write_broker_secret(&self, broker: &BrokerAddress) {
        let BrokerAddress { host, port, username, password, .. } = broker;
        let at = |key: &str| self.broker_secret().join(key);
        write(&at("host"), host);
        write(&at("port"), port.to_string());
        write(&at("username"), username);
        write(&at("password"), password);
    }

    /// Replaces the S3 Secret.
    pub fn write_store_secret(&self, store: &Credentials) {
        write(&self.store_secret().join("AWS_ACCESS_KEY_ID"), &store.access_key);
        write(&self.store_secret().join("AWS_SECRET_ACCESS_KEY"), &store.secret_key);
    }

    /// Directory of the RabbitMQ Secret.
    pub fn broker_secret(&self) -> PathBuf {
        self.secret(SecretRole::Broker)
    }

    /// Directory of the S3 Secret.
    pub fn store_secret(&self) -> PathBuf {
        self.secret(SecretRole::Store)
    }

    /// Directory of a Secret. At first it exists only for the roles `Broker` and `Store`.
    pub fn secret(&self, role: SecretRole) -> PathBuf {
        self.secrets.join(role.as_str())
    }

    /// Creates or replaces a Secret, one key at a time.
    pub fn write_secret(&self, role: SecretRole, keys: &[(&str, &str)]) {
        std::fs::create_dir_all(self.secret(role)).expect("a directory");
        for (key, value) in keys {
            write(&self.secret(role).join(key), value);
        }
    }

    /// The assignment as the controller would write it.
    pub fn assignment(&self) -> Value {
        let Self { queue, parking, vhost, bucket, prefix, endpoint, concurrency, .. } = self;
        let mut assignment = json!({
            "source": { "rabbitmq": {
                "queue": queue, "vhost": vhost, "rabbitmqClusterReference": { "connectionSecret": { "name": "broker" } },
            } },
            "destination": { "s3": {
                "bucket": bucket, "prefix": prefix, "endpoint": endpoint, "forcePathStyle": true,
                "credentialsSecret": { "name": "store" },
            } },
            "failures": { "parkingQueue": parking },
            "concurrency": concurrency,
        });
        merge(&mut assignment, &self.spec);
        assignment
    }
}

impl Consumer {
    /// Starts a consumer without waiting for readiness.
    pub fn start(settings: &Settings) -> Self {
        let listen = Port::reserve();
        let queue = &settings.queue;
        let process = Process::start(&format!("the consumer of {queue}"), &directory(queue), |command| {
            if let Some(group) = &settings.memory_group {
                command.args(["sh", "-c", ENTERED, "sh"]).arg(group.join("cgroup.procs"));
            }
            if let Some(bytes) = settings.data_limit {
                command.args(["sh", "-c", LIMITED, "limited", &(bytes / 1024).to_string()]);
            }
            command.arg(env!("CARGO_BIN_EXE_image-pipeline")).arg("consumer");
            // The environment of the person who runs the tests must not reach the consumer.
            command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
            // `info` logs more than the product's default.
            command.env("RUST_LOG", "info").envs(MEMORY).envs(settings.environment.iter().cloned());
            for (flag, value) in [
                ("--pipeline-namespace", "greench"),
                ("--pipeline-name", "tests"),
                ("--assignment", &settings.assignment().to_string()),
                ("--grace-period-seconds", &GRACE_SECONDS.to_string()),
                ("--listen", &listen.address().to_string()),
            ] {
                command.arg(flag).arg(value);
            }
            command.arg("--secrets").arg(&settings.secrets);
        });
        let http = reqwest::Client::builder().timeout(ANSWER).build().expect("an HTTP client");
        Self { process, listen, http }
    }

    /// Starts a consumer and waits until it consumes.
    pub async fn consuming(settings: &Settings) -> Self {
        let consumer = Self::start(settings);
        consumer.status_is("to consume", LIMIT, |status| status.consuming).await;
        consumer
    }

    /// `GET /status`.
    pub async fn status(&self) -> Result<PodStatus, String> {
        assert!(self.is_running(), "the consumer has ended:\n{}", self.log());
        let (code, body) = self.get("/status").await?;
        if code != StatusCode::OK {
            return Err(format!("/status answers {code}: {body}"));
        }
        serde_json::from_str(&body).map_err(|error| format!("/status is not a PodStatus ({error}): {body}"))
    }

    /// Waits until the status satisfies `is`.
    pub async fn status_is(&self, what: &str, limit: Duration, is: impl Fn(&PodStatus) -> bool) -> PodStatus {
        eventually(&format!("the consumer's status {what}"), limit, async || {
            let status = self.status().await?;
            if is(&status) { Ok(status) } else { Err(format!("{status:?}")) }
        })
        .await
    }

    /// `GET` any path.
    pub async fn get(&self, path: &str) -> Result<(StatusCode, String), String> {
        let url = format!("http://{}{path}", self.listen.address());
        let answer = async {
            let response = self.http.get(url).send().await?;
            Ok((response.status(), response.text().await?))
        };
        answer.await.map_err(|error: reqwest::Error| format!("GET {path}: {error}"))
    }

    /// The value of a series in the consumer's metrics; 0 if it is missing.
    pub async fn counted(&self, series: &str) -> u64 {
        let (_, metrics) = self.get("/metrics").await.expect("metrics");
        let value = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse().expect("a number"))
    }

    /// Number of deliveries that the broker had delivered before.
    pub async fn redelivered(&self) -> u64 {
        self.counted("image_pipeline_redelivered_total").await
    }

    pub fn terminate(&self) {
        self.process.terminate();
    }

    /// Kills the process and waits for its end.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    pub fn is_running(&self) -> bool {
        self.process.is_running()
    }

    /// Waits for the exit code.
    pub async fn exit_code(&mut self, limit: Duration) -> i32 {
        let process = &mut self.process;
        eventually("the consumer to end", limit, async || process.exit_code().ok_or_else(|| "it runs".to_owned())).await
    }

    pub fn log(&self) -> String {
        self.process.log()
    }
}

/// JSON merge patch (RFC 7386).
fn merge(into: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    for (key, value) in patch {
        match value {
            Value::Null => drop(into.as_object_mut().expect("an object").remove(key)),
            value => merge(&mut into[key], value),
        }
    }
}
