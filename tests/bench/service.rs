//! The services that are measured, started as they would be: our consumer as the controller does,
//! the Python consumers as a script. It must never give one of them what another does not get.

use std::path::{Path, PathBuf};

use image_pipeline::broker_address::BrokerAddress;
use image_pipeline::controller::build::MEMORY;
use serde_json::json;

use servers::store::Credentials;
use support::port::Port;
use support::process::{Process, directory, write};

/// What our consumer may take to end; it has nothing to do by then.
const GRACE_SECONDS: &str = "20";

const ORIGINAL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/original.py");

/// One that is measured.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Service {
    /// The Python consumer, with an S3 client for every message.
    Original,
    /// Ours.
    ImagePipeline(Mode),
    /// The Python consumer, its client made once.
    OriginalOneSession,
}

/// What our consumer does with images: `image.encoding`, with `image.reencode` either `Always` or,
/// for the last, `WhenNotPng` with `Fast`.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, strum::IntoStaticStr)]
pub enum Mode {
    /// The least CPU.
    Fast,
    /// A smaller file.
    Balanced,
    /// The smallest file.
    Smallest,
    /// A PNG is stored as it came.
    WhenNotPng,
}

/// Where services find what they work with.
pub struct Places {
    /// The broker.
    pub broker: BrokerAddress,
    /// The S3 server's URL.
    pub endpoint: String,
    /// Who writes to it.
    pub credentials: Credentials,
    /// The release binary.
    pub binary: PathBuf,
    /// The Python that has what original.py imports.
    pub python: PathBuf,
}

impl Service {
    /// Its name in the results.
    pub fn name(self) -> &'static str {
        match self {
            Service::Original => "original",
            Service::OriginalOneSession => "original-one-session",
            Service::ImagePipeline(_) => "image-pipeline",
        }
    }

    /// Its mode in the results; the Python consumers have but one.
    pub fn mode(self) -> &'static str {
        match self {
            Service::Original | Service::OriginalOneSession => "default",
            Service::ImagePipeline(mode) => mode.into(),
        }
    }

    /// Starts it on a queue and a bucket of the same name. `concurrency` is for ours; the others
    /// work on one message at a time.
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
