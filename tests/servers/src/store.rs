//! A real S3 server, versitygw, on loopback. Its buckets are folders, so the tests can read stored objects without
//! an S3 client.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use tokio::net::TcpStream;

use support::certificates::Certificate;
use support::eventually::{LIMIT, eventually};
use support::port::Port;
use support::process::{Process, directory, run, server, write};

#[derive(Clone, Debug)]
pub struct Credentials {
    /// AWS_ACCESS_KEY_ID
    pub access_key: String,
    /// AWS_SECRET_ACCESS_KEY
    pub secret_key: String,
}

pub struct Store {
    directory: PathBuf,
    port: Port,
    _process: Process,
}

/// A second server for the same buckets and users, with TLS only.
pub struct TlsStore {
    port: Port,
    _process: Process,
}

impl TlsStore {
    /// URL with one of this machine's host names.
    pub fn url(&self, host: &str) -> String {
        format!("https://{host}:{}", self.port.number())
    }
}

impl Store {
    /// The server that all tests of this process share. Each test uses its own bucket.
    pub async fn shared() -> &'static Self {
        static STORE: OnceLock<Store> = OnceLock::new();
        let store = STORE.get_or_init(Self::start);
        let url = format!("http://{}/health", store.address());
        eventually("the S3 server to answer", LIMIT, async || {
            let answer = reqwest::get(&url).await.and_then(reqwest::Response::error_for_status);
            answer.map(drop).map_err(|error| error.to_string())
        })
        .await;
        store
    }

    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// The user with all rights.
    pub fn root(&self) -> Credentials {
        Credentials { access_key: "root-access".to_owned(), secret_key: "root-secret".to_owned() }
    }

    /// Creates a user who owns nothing.
    pub fn user(&self, name: &str) -> Credentials {
        let credentials = Credentials { access_key: name.to_owned(), secret_key: format!("{name}-secret") };
        let Credentials { access_key, secret_key } = &credentials;
        self.administer(&["create-user", "--access", access_key, "--secret", secret_key, "--role", "user"]);
        credentials
    }

    /// Makes a user the owner of a bucket, with all rights there.
    pub fn give(&self, bucket: &str, user: &Credentials) {
        self.administer(&["change-bucket-owner", "--bucket", bucket, "--owner", &user.access_key]);
    }

    pub fn create_bucket(&self, bucket: &str) {
        std::fs::create_dir(self.bucket(bucket)).expect("a new bucket");
    }

    /// The objects of a bucket, by key. One that the server replaces at this moment is missing: it removes the file
    /// before it puts the new one in its place.
    pub fn objects(&self, bucket: &str) -> BTreeMap<String, Vec<u8>> {
        let read = |key: String| match std::fs::read(self.bucket(bucket).join(&key)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            object => Some((key, object.expect("an object"))),
        };
        self.keys(bucket).into_iter().filter_map(read).collect()
    }

    /// The keys of a bucket's objects.
    pub fn keys(&self, bucket: &str) -> Vec<String> {
        let root = self.bucket(bucket);
        let mut keys = Vec::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).into_iter().flatten() {
                let path = entry.expect("an entry").path();
                let key = path.strip_prefix(&root).expect("below").to_str().expect("text").to_owned();
                // The server keeps incomplete uploads there.
                if key.starts_with(".sgwtmp") {
                    continue;
                }
                if path.is_dir() {
                    folders.push(path);
                } else {
                    keys.push(key);
                }
            }
        }
        keys
    }

    /// The server's answer to HeadObject.
    pub async fn head(&self, bucket: &str, key: &str) -> HeadObjectOutput {
        let client = self.client(&format!("http://{}", self.address()));
        client.head_object().bucket(bucket).key(key).send().await.expect("an object")
    }

    /// An S3 client of the root user, for any endpoint.
    pub fn client(&self, endpoint: &str) -> aws_sdk_s3::Client {
        let Credentials { access_key, secret_key } = self.root();
        let settings = aws_sdk_s3::Config::builder()
            .behavior_version(aws_sdk_s3::config::BehaviorVersion::latest())
            .region(aws_sdk_s3::config::Region::new("us-east-1"))
            .endpoint_url(endpoint)
            .force_path_style(true)
            .credentials_provider(aws_sdk_s3::config::Credentials::new(access_key, secret_key, None, None, "tests"))
            .build();
        aws_sdk_s3::Client::from_conf(settings)
    }

    pub fn bucket(&self, bucket: &str) -> PathBuf {
        self.directory.join("buckets").join(bucket)
    }

    /// Starts another server for the same data, with this certificate.
    pub async fn over_tls(&self, certificate: &Certificate) -> TlsStore {
        let own = directory("versitygw-tls");
        let [chain, key] = [("tls.crt", &certificate.chain), ("tls.key", &certificate.key)].map(|(file, pem)| {
            write(&own.join(file), pem);
            own.join(file)
        });
        let port = Port::reserve();
        let process = serve(&self.directory, &own, &port, |command| {
            // Keeps connections open, so that the tests show that the consumer drops them when the trust changes.
            command.arg("--keep-alive").arg("--cert").arg(chain).arg("--key").arg(key);
        });
        eventually("the S3 server to listen", LIMIT, async || {
            TcpStream::connect(port.address()).await.map(drop).map_err(|error| error.to_string())
        })
        .await;
        TlsStore { port, _process: process }
    }

    fn start() -> Self {
        let directory = directory("versitygw");
        for part in ["buckets", "users", "metadata"] {
            std::fs::create_dir(directory.join(part)).expect("a new directory");
        }
        let port = Port::reserve();
        let process = serve(&directory, &directory, &port, |_| {});
        Self { directory, port, _process: process }
    }

    fn administer(&self, arguments: &[&str]) {
        let Credentials { access_key, secret_key } = self.root();
        let endpoint = format!("http://{}", self.address());
        let mut command = Command::new(server("versitygw"));
        command.args(["admin", "--access", &access_key, "--secret", &secret_key, "--endpoint-url", &endpoint]);
        run(command.args(arguments));
    }
}

/// Runs a server for the data in `data`. Its log goes to `own`; `set_up` adds options.
fn serve(data: &Path, own: &Path, port: &Port, set_up: impl FnOnce(&mut Command)) -> Process {
    Process::start("versitygw", own, |command| {
        command.arg(server("versitygw")).env("ROOT_ACCESS_KEY", "root-access").env("ROOT_SECRET_KEY", "root-secret");
        command.args(["--port", &port.address().to_string(), "--health", "/health", "--quiet"]);
        set_up(command);
        // `--sidecar`, because not every file system for temporary files has extended attributes.
        command.arg("--iam-dir").arg(data.join("users")).args(["posix", "--sidecar"]);
        command.arg(data.join("metadata")).arg(data.join("buckets"));
    })
}
