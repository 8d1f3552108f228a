//! A real RabbitMQ of one of three versions, started from its own root file system. Ports, node names, data and the
//! process namespace are separate from any broker of this machine.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, OnceLock};

use image_pipeline::rabbitmq::address::BrokerAddress;

use super::client::{Client, QueueType};
use support::certificates::{Authority, Certificate};
use support::eventually::{LIMIT, eventually};
use support::port::Port;
use support::process::{Process, directory, run, server, write};

/// RabbitMQ versions that behave differently for consumers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Version {
    /// 3.10, as in Debian 12.
    Three,
    /// 4.0, as in Debian 13. Its quorum queues count every return of a message.
    Four,
    /// 4.3, as in Debian unstable. Its quorum queues do not count messages returned with basic.nack.
    FourThree,
}

impl Version {
    /// The queue type that the tests use with this version.
    pub fn queue_type(self) -> QueueType {
        match self {
            Version::Three => QueueType::Classic,
            Version::Four | Version::FourThree => QueueType::Quorum,
        }
    }
}

/// A broker's version and the type of the queue on it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Source {
    pub version: Version,
    pub queue_type: QueueType,
}

impl Source {
    pub fn classic(version: Version) -> Self {
        Self { version, queue_type: QueueType::Classic }
    }
}

impl From<Version> for Source {
    fn from(version: Version) -> Self {
        Self { version, queue_type: version.queue_type() }
    }
}

pub struct Broker {
    home: Home,
    process: Process,
}

/// TLS settings of a broker. The TLS port is separate from the plain port.
pub struct Tls<'a> {
    pub certificate: &'a Certificate,
    /// The broker accepts client certificates of this authority.
    pub authority: &'a Authority,
    /// Whether clients must present a certificate. If so, they may also authenticate with it (EXTERNAL).
    pub demanding: bool,
}

/// The part of a broker that remains while it is stopped.
struct Home {
    version: Version,
    node: &'static str,
    directory: PathBuf,
    amqp: Port,
    tls: Port,
    distribution: Port,
    /// Port of Erlang's epmd, where nodes register their names. The nodes of a cluster share it.
    names: Arc<Port>,
    /// Feature flags enabled at the first start; `None` enables all.
    features: Option<&'static str>,
}

/// Arguments: root file system, home directory, command. The mounts exist only in this mount namespace.
const ENTER: &str = r#"
set -e
root=$1 home=$2
shift 2
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/tmp"
mount --bind "$home" "$root/var/lib/rabbitmq"
exec chroot "$root" "$@"
"#;

/// Schedulers that busy-wait would take CPU time from the code under test.
const ERLANG: &str = "+sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}";

/// `start_with` writes these files.
const TLS: &str = "ssl_options.cacertfile = /var/lib/rabbitmq/ca.crt
ssl_options.certfile = /var/lib/rabbitmq/tls.crt
ssl_options.keyfile = /var/lib/rabbitmq/tls.key
ssl_options.verify = verify_peer
";

const EXTERNAL: &str = "auth_mechanisms.1 = PLAIN
auth_mechanisms.2 = EXTERNAL
ssl_cert_login_from = common_name
";

impl Broker {
    /// The broker that all tests of this process share. Each test uses its own queues.
    pub async fn shared(version: Version) -> &'static Self {
        static BROKERS: [OnceLock<Broker>; 3] = [const { OnceLock::new() }; 3];
        let broker = BROKERS[version as usize].get_or_init(|| Self::start(version));
        broker.ready().await;
        broker
    }

    /// A broker for one test, which may stop it.
    pub async fn own(version: Version) -> Self {
        Self::own_with(version, "").await
    }

    /// As `own`, with these lines in its configuration.
    pub async fn own_with(version: Version, settings: &str) -> Self {
        let broker = Self::start_with(version, settings, None);
        broker.ready().await;
        broker
    }

    /// As `own`, with all optional feature flags disabled.
    pub async fn own_without_features(version: Version) -> Self {
        let mut home = Home::new(version, "rabbit@localhost", Arc::new(Port::reserve()));
        home.features = Some("");
        home.configure("", "[].");
        let broker = Self::of(home);
        broker.ready().await;
        broker
    }

    /// As `own`, with TLS.
    pub async fn own_with_tls(version: Version, tls: &Tls<'_>) -> Self {
        let broker = Self::start_with(version, "", Some(tls));
        broker.ready().await;
        broker
    }

    /// A node of a cluster, not yet ready. `epmd` must be running on the port `names`.
    pub fn member(version: Version, node: &'static str, names: &Arc<Port>, settings: &str) -> Self {
        let home = Home::new(version, node, Arc::clone(names));
        home.configure(settings, "[].");
        let cookie = home.directory.join(".erlang.cookie");
        write(&cookie, "IMAGEPIPELINETESTS");
        std::fs::set_permissions(&cookie, PermissionsExt::from_mode(0o400)).expect("a file of its owner alone");
        Self::of(home)
    }

    /// Starts epmd for a cluster, in a process of its own that outlives each node. (A single broker starts its own
    /// epmd.)
    pub fn epmd(version: Version, names: &Arc<Port>) -> Process {
        let home = Home::new(version, "epmd", Arc::clone(names));
        Process::start("epmd", &home.directory, |command| {
            home.enter(command.arg("unshare"));
            command.arg("epmd");
        })
    }

    /// AMQP URI of a broker or proxy, for the default user and vhost.
    pub fn uri(address: SocketAddr) -> String {
        format!("amqp://guest:guest@{address}")
    }

    /// `address` with the TLS port and this host.
    pub fn with_tls(&self, host: &str, address: &BrokerAddress) -> BrokerAddress {
        BrokerAddress { host: host.to_owned(), port: self.home.tls.number(), ..address.clone() }
    }

    /// Address with the default vhost and user.
    pub fn address(&self) -> BrokerAddress {
        let guest = || "guest".to_owned();
        let amqp = self.home.amqp.address();
        let (host, port) = (amqp.ip().to_string(), amqp.port());
        BrokerAddress { host, port, vhost: "/".to_owned(), username: guest(), password: guest(), tls: None }
    }

    /// Address of the AMQP listener.
    pub fn listener(&self) -> SocketAddr {
        self.home.amqp.address()
    }

    /// Creates a vhost, and a user with the same name and password.
    pub fn tenant(&self, name: &str) -> BrokerAddress {
        self.control(&["add_vhost", name]);
        self.control(&["add_user", name, name]);
        self.control(&["set_permissions", "--vhost", name, name, ".*", ".*", ".*"]);
        let name = || name.to_owned();
        BrokerAddress { vhost: name(), username: name(), password: name(), ..self.address() }
    }

    /// Runs `rabbitmqctl` and returns its output.
    pub fn control(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("unshare");
        self.home.enter(&mut command);
        run(command.args(["rabbitmqctl", "--quiet"]).args(arguments))
    }

    /// Kills the broker, as a power failure would. Its data remains.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts the broker again with its old data.
    pub async fn restart(&mut self) {
        self.process = self.home.run();
        self.ready().await;
    }

    fn start(version: Version) -> Self {
        Self::start_with(version, "", None)
    }

    fn start_with(version: Version, settings: &str, tls: Option<&Tls<'_>>) -> Self {
        let home = Home::new(version, "rabbit@localhost", Arc::new(Port::reserve()));
        let (mut settings, mut plugins) = (settings.to_owned(), "[].");
        if let Some(Tls { certificate, authority, demanding }) = tls {
            write(&home.directory.join("ca.crt"), &authority.certificate);
            write(&home.directory.join("tls.crt"), &certificate.chain);
            write(&home.directory.join("tls.key"), &certificate.key);
            settings += &format!("listeners.ssl.1 = {}\n{TLS}", home.tls.address());
            settings += &format!("ssl_options.fail_if_no_peer_cert = {demanding}\n");
            if *demanding {
                settings += EXTERNAL;
                plugins = "[rabbitmq_auth_mechanism_ssl].";
            }
        }
        home.configure(&settings, plugins);
        Self::of(home)
    }

    fn of(home: Home) -> Self {
        let process = home.run();
        Self { home, process }
    }

    pub fn is_running(&self) -> bool {
        self.process.is_running()
    }

    /// The broker's log so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Returns once the broker accepts connections.
    pub async fn ready(&self) {
        let address = self.address();
        eventually("the broker to take connections", LIMIT, async || {
            Client::connect(&address).await.map(drop).map_err(|error| format!("{error}\n{}", self.process.log()))
        })
        .await;
    }
}

impl Home {
    fn new(version: Version, node: &'static str, names: Arc<Port>) -> Self {
        let [amqp, tls, distribution] = std::array::from_fn(|_| Port::reserve());
        Self { version, node, directory: directory("rabbitmq"), amqp, tls, distribution, names, features: None }
    }

    fn configure(&self, settings: &str, plugins: &str) {
        let listener = format!("listeners.tcp.1 = {}\ndisk_free_limit.absolute = 50MB\n", self.amqp.address());
        write(&self.directory.join("rabbitmq.conf"), listener + settings);
        write(&self.directory.join("enabled_plugins"), plugins);
    }

    fn run(&self) -> Process {
        Process::start(&format!("RabbitMQ {:?}", self.version), &self.directory, |command| {
            self.enter(command.arg("unshare"));
            command.arg("rabbitmq-server");
        })
    }

    /// Adds the arguments to `unshare` that run a command in the broker's file system with the broker's settings.
    /// Processes that the command leaves behind (Erlang's epmd) end with it: the command is the first process of
    /// its PID namespace.
    fn enter(&self, command: &mut Command) {
        let root = server(match self.version {
            Version::Three => "bookworm",
            Version::Four => "trixie",
            Version::FourThree => "sid",
        });
        command.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", ENTER, "enter"]);
        command.arg(root).arg(&self.directory).args(["env", "-i", "HOME=/var/lib/rabbitmq", "LANG=C.UTF-8"]);
        for (name, value) in [
            ("PATH", "/usr/lib/rabbitmq/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            ("RABBITMQ_NODENAME", self.node),
            ("RABBITMQ_MNESIA_BASE", "/var/lib/rabbitmq/mnesia"),
            ("RABBITMQ_LOG_BASE", "/var/lib/rabbitmq/logs"),
            ("RABBITMQ_LOGS", "-"),
            ("RABBITMQ_CONFIG_FILE", "/var/lib/rabbitmq/rabbitmq.conf"),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", "/var/lib/rabbitmq/enabled_plugins"),
            ("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", ERLANG),
            ("RABBITMQ_NODE_PORT", &self.amqp.number().to_string()),
            ("RABBITMQ_DIST_PORT", &self.distribution.number().to_string()),
            ("ERL_EPMD_PORT", &self.names.number().to_string()),
            ("ERL_EPMD_ADDRESS", "127.0.0.1"),
            ("ERL_CRASH_DUMP", "/var/lib/rabbitmq/erl_crash.dump"),
        ] {
            command.arg(format!("{name}={value}"));
        }
        if let Some(features) = self.features {
            command.arg(format!("RABBITMQ_FEATURE_FLAGS={features}"));
        }
    }
}
