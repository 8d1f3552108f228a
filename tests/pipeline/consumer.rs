//! The real consumer as a process of its own, started as the controller would start it: an
//! assignment, and Secrets as directories. It must never know more of it than its flags, the
//! resource's own field names and its HTTP endpoints.

use std::path::PathBuf;
use std::time::Duration;

use image_pipeline::api::names::SecretRole;
use image_pipeline::broker_address::BrokerAddress;
use image_pipeline::controller::build::MEMORY;
use image_pipeline::pod_status::PodStatus;
use reqwest::StatusCode;
use serde_json::{Value, json};

use servers::store::Credentials;
use support::eventually::{LIMIT, eventually};
use support::port::Port;
use support::process::{Process, directory, write};

/// Seconds that the consumer may take to end.
pub const GRACE_SECONDS: u16 = 20;

/// How long an answer may take: whatever goes wrong, the endpoints are for telling it.
const ANSWER: Duration = Duration::from_secs(3);

/// Arguments: where a control group takes processes, then the command.
const ENTERED: &str = r#"echo $$ > "$1" && shift && exec "$@""#;
/// Arguments: a limit in KiB, then the command.
const LIMITED: &str = r#"ulimit -c 0; ulimit -d "$1"; shift; exec "$@""#;

/// What one consumer is told.
pub struct Settings {
    /// The queue.
    pub queue: String,
    /// The parking queue.
    pub parking: String,
    /// The virtual host.
    pub vhost: String,
    /// The bucket.
    pub bucket: String,
    /// Before every image name.
    pub prefix: String,
    /// The store's URL.
    pub endpoint: String,
    /// Images at once.
    pub concurrency: u16,
    /// Whatever else the assignment is to say, merged over what the fields above make of it: an
    /// object's members one by one, anything else as a whole, `null` taking a field away.
    pub spec: Value,
    /// Variables that its pod has.
    pub environment: Vec<(&'static str, String)>,
    /// The control group to start it in.
    pub memory_group: Option<PathBuf>,
    /// Bytes that its data may take, as `ulimit -d` sets it.
    pub data_limit: Option<u64>,
    secrets: PathBuf,
}

/// A running consumer.
pub struct Consumer {
    process: Process,
    listen: Port,
    http: reqwest::Client,
}

impl Settings {
    /// Of a queue and a bucket of this name, with Secrets for their places.
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

    /// Replaces the broker's Secret.
    pub fn write_broker_secret(&self, broker: &BrokerAddress) {
        let BrokerAddress { host, port, username, password, .. } = broker;
        let at = |key: &str| self.broker_secret().join(key);
        write(&at("host"), host);
        write(&at("port"), port.to_string());
        write(&at("username"), username);
        write(&at("password"), password);
    }

    /// Replaces the store's Secret.
    pub fn write_store_secret(&self, store: &Credentials) {
        write(&self.store_secret().join("AWS_ACCESS_KEY_ID"), &store.access_key);
        write(&self.store_secret().join("AWS_SECRET_ACCESS_KEY"), &store.secret_key);
    }

    /// Where the broker's Secret is.
    pub fn broker_secret(&self) -> PathBuf {
        self.secret(SecretRole::Broker)
    }

    /// Where the store's Secret is.
    pub fn store_secret(&self) -> PathBuf {
        self.secret(SecretRole::Store)
    }

    /// Where any Secret is. The directory is there for the broker's and the store's alone.
    pub fn secret(&self, role: SecretRole) -> PathBuf {
        self.secrets.join(role.as_str())
    }

    /// Puts a Secret there, or replaces it, a key at a time.
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
    /// Starts one. It need not become ready.
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
            // Nothing of what the person running the tests has set may reach it.
            command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
            // What a person sets who wants to see more; it says more than our own default.
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

    /// Starts one and waits until it consumes.
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

    /// Waits for a status.
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

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        self.process.terminate();
    }

    /// Kills it and returns when it is gone.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Whether it is the same process still.
    pub fn is_running(&self) -> bool {
        self.process.is_running()
    }

    /// Waits for its end.
    pub async fn exit_code(&mut self, limit: Duration) -> i32 {
        let process = &mut self.process;
        eventually("the consumer to end", limit, async || process.exit_code().ok_or_else(|| "it runs".to_owned())).await
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.process.log()
    }
}

/// RFC 7386.
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
