//! The measured services, started as in production: our consumer as the controller starts it, the Python consumers
//! as scripts. All get the same resources.

use std::path::{Path, PathBuf};

use image_pipeline::controller::build::MEMORY;
use image_pipeline::rabbitmq::address::BrokerAddress;
use serde_json::json;

use servers::store::Credentials;
use support::port::Port;
use support::process::{Process, directory, write};

/// Grace period of our consumer, which is idle when it ends.
const GRACE_SECONDS: &str = "20";

const ORIGINAL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/original.py");

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Service {
    /// The Python consumer, which creates an S3 client for every message.
    Original,
    /// Our consumer.
    ImagePipeline(Mode),
    /// The Python consumer with one S3 client.
    OriginalOneSession,
}

/// Settings of our consumer: `image.encoding`, with `image.reencode: Always`; the last variant is `Fast` with
/// `image.reencode: WhenNotPng`.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, strum::IntoStaticStr)]
pub enum Mode {
    /// Least CPU time.
    Fast,
    /// Smaller files.
    Balanced,
    /// Smallest files.
    Smallest,
    /// Stores a PNG unchanged.
    WhenNotPng,
}

/// Addresses, credentials and programs for the services.
pub struct Places {
    pub broker: BrokerAddress,
    /// URL of the S3 server.
    pub endpoint: String,
    /// Credentials for writing to S3.
    pub credentials: Credentials,
    pub binary: PathBuf,
    /// Python interpreter with the packages that original.py imports.
    pub python: PathBuf,
}

impl Service {
    /// Name in the results.
    pub fn name(self) -> &'static str {
        match self {
            Service::Original => "original",
            Service::OriginalOneSession => "original-one-session",
            Service::ImagePipeline(_) => "image-pipeline",
        }
    }

    /// Mode in the results. The Python consumers have only one.
    pub fn mode(self) -> &'static str {
        match self {
            Service::Original | Service::OriginalOneSession => "default",
            Service::ImagePipeline(mode) => mode.into(),
        }
    }

    /// Starts the service on a queue and a bucket with this name. `concurrency` applies to our consumer; the Python
    /// consumers process one message at a time.
    pub fn start(self, places: &Places, name: &str, concurrency: u16) -> Process {
        match self {
            Service::ImagePipeline(mode) => consumer(places, name, mode, concurrency),
            Service::Original => original(places, name, ""),
            Service::OriginalOneSession => original(places, name, "yes"),
        }
    }
}

fn consumer(places: &Places, name: &str, mode: Mode, concurrency: u16) -> Process {
    let (home, listen) = (directory(name), Port::reserve());
    let secrets = home.join("secrets");
    write_secrets(places, &secrets);
    let (encoding, reencode) = match mode {
        Mode::WhenNotPng => ("Fast", "WhenNotPng"),
        mode => (mode.into(), "Always"),
    };
    let assignment = json!({
        "source": {"rabbitmq": {"queue": name, "rabbitmqClusterReference": {"connectionSecret": {"name": "broker"}}}},
        "image": {"encoding": encoding, "reencode": reencode},
        "destination": {"s3": {
            "bucket": name,
            "endpoint": places.endpoint,
            "forcePathStyle": true,
            "credentialsSecret": {"name": "store"},
        }},
        "concurrency": concurrency,
    });
    Process::start(&format!("image-pipeline {encoding} {reencode}"), &home, |command| {
        command.arg(&places.binary).arg("consumer").env_clear().envs(MEMORY);
        command.args(["--pipeline-namespace", "greench", "--pipeline-name", "bench"]);
        command.args(["--assignment", &assignment.to_string(), "--grace-period-seconds", GRACE_SECONDS]);
        command.args(["--listen", &listen.address().to_string()]);
        command.arg("--secrets").arg(secrets);
    })
}

fn write_secrets(places: &Places, secrets: &Path) {
    let BrokerAddress { host, port, username, password, .. } = &places.broker;
    let Credentials { access_key, secret_key } = &places.credentials;
    for (role, key, value) in [
        ("broker", "host", host),
        ("broker", "port", &port.to_string()),
        ("broker", "username", username),
        ("broker", "password", password),
        ("store", "AWS_ACCESS_KEY_ID", access_key),
        ("store", "AWS_SECRET_ACCESS_KEY", secret_key),
    ] {
        std::fs::create_dir_all(secrets.join(role)).expect("a directory");
        write(&secrets.join(role).join(key), value);
    }
}

fn original(places: &Places, name: &str, one_session: &str) -> Process {
    let Places { broker, endpoint, credentials, python, .. } = places;
    Process::start("original.py", &directory(name), |command| {
        command.arg(python).arg(ORIGINAL).env_clear();
        command.env("BROKER_HOST", &broker.host).env("BROKER_PORT", broker.port.to_string());
        command.env("QUEUE", name).env("BUCKET", name).env("ONE_SESSION", one_session);
        command.env("AWS_ENDPOINT_URL", endpoint).env("AWS_DEFAULT_REGION", "us-east-1");
        command.env("AWS_ACCESS_KEY_ID", &credentials.access_key);
        command.env("AWS_SECRET_ACCESS_KEY", &credentials.secret_key);
    })
}
