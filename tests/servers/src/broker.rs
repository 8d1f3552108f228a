//! A real RabbitMQ of any of the versions, run from a root file system of its own. It must never touch
//! a broker of this machine: ports, names, data and the processes' very namespace are its own.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, OnceLock};

use image_pipeline::broker_address::BrokerAddress;

use super::client::{Client, QueueType};
use support::certificates::{Authority, Certificate};
use support::eventually::{LIMIT, eventually};
use support::port::Port;
use support::process::{Process, directory, run, servers, write};

/// The versions that differ in what matters to a consumer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Version {
    /// 3.10, as Debian 12 has it.
    Three,
    /// 4.0, as Debian 13 has it: its quorum queues count every return of a message.
    Four,
    /// 4.3, as Debian unstable has it: its quorum queues don't count a message that a client hands back with
    /// basic.nack.
    FourThree,
}

impl Version {
    /// The type of queue that is tried on it.
    pub fn queue_type(self) -> QueueType {
        match self {
            Version::Three => QueueType::Classic,
            Version::Four | Version::FourThree => QueueType::Quorum,
        }
    }
}

/// A running broker.
pub struct Broker {
    home: Home,
    process: Process,
}

/// How a broker speaks TLS, on a port beside the plain one.
pub struct Tls<'a> {
    /// The broker's certificate.
    pub certificate: &'a Certificate,
    /// Whose certificates it takes from clients.
    pub authority: &'a Authority,
    /// Whether it demands one, which then may also say who the client is.
    pub demanding: bool,
}

/// What stays of a broker while it does not run.
struct Home {
    version: Version,
    node: &'static str,
    directory: PathBuf,
    amqp: Port,
    tls: Port,
    distribution: Port,
    /// Where nodes register their names (Erlang's epmd), which the nodes of a cluster share.
    names: Arc<Port>,
    /// Those that are on from the start; otherwise all.
    features: Option<&'static str>,
}

/// Arguments: a root file system, a home, the command. The mounts are this namespace's alone.
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

/// Schedulers that spin while they wait would take the cores from what is being tested.
const ERLANG: &str = "+sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}";

/// Where a broker's file system has what `start_with` writes.
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
    /// The broker that all tests of this process share, each with queues of its own.
    pub async fn shared(version: Version) -> &'static Self {
        static BROKERS: [OnceLock<Broker>; 3] = [const { OnceLock::new() }; 3];
        let broker = BROKERS[version as usize].get_or_init(|| Self::start(version));
        broker.ready().await;
        broker
    }

    /// A broker for one test alone, which may stop it.
    pub async fn own(version: Version) -> Self {
        let broker = Self::start(version);
        broker.ready().await;
        broker
    }

    /// As `own`, without any of the features that the version may have off.
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
        let broker = Self::start_with(version, Some(tls));
        broker.ready().await;
        broker
    }

    /// A node of a cluster, not yet ready; the nodes register at `names`, where `epmd` must be running.
    pub fn member(version: Version, node: &'static str, names: &Arc<Port>, settings: &str) -> Self {
        let home = Home::new(version, node, Arc::clone(names));
        home.configure(settings, "[].");
        let cookie = home.directory.join(".erlang.cookie");
        write(&cookie, "IMAGEPIPELINETESTS");
        std::fs::set_permissions(&cookie, PermissionsExt::from_mode(0o400)).expect("a file of its owner alone");
        Self::of(home)
    }

    /// Registers the names of a cluster's nodes, and outlives each of them. (A single broker starts its own.)
    pub fn epmd(version: Version, names: &Arc<Port>) -> Process {
        let home = Home::new(version, "epmd", Arc::clone(names));
        Process::start("epmd", &home.directory, |command| {
            home.enter(command.arg("unshare"));
            command.arg("epmd");
        })
    }

    /// The AMQP URI of a broker or proxy at this address, for the default user and virtual host.
    pub fn uri(address: SocketAddr) -> String {
        format!("amqp://guest:guest@{address}")
    }

    /// Where TLS is spoken, for the user of `address`.
    pub fn with_tls(&self, host: &str, address: &BrokerAddress) -> BrokerAddress {
        BrokerAddress { host: host.to_owned(), port: self.home.tls.number(), ..address.clone() }
    }

    /// The default virtual host and user.
    pub fn address(&self) -> BrokerAddress {
        let guest = || "guest".to_owned();
        let amqp = self.home.amqp.address();
        let (host, port) = (amqp.ip().to_string(), amqp.port());
        BrokerAddress { host, port, vhost: "/".to_owned(), username: guest(), password: guest(), tls: None }
    }

    /// Where it takes AMQP.
    pub fn listener(&self) -> SocketAddr {
        self.home.amqp.address()
    }

    /// Makes a virtual host with a user of the same name and password.
    pub fn tenant(&self, name: &str) -> BrokerAddress {
        self.control(&["add_vhost", name]);
        self.control(&["add_user", name, name]);
        self.control(&["set_permissions", "--vhost", name, name, ".*", ".*", ".*"]);
        let name = || name.to_owned();
        BrokerAddress { vhost: name(), username: name(), password: name(), ..self.address() }
    }

    /// `rabbitmqctl`, and what it answers.
    pub fn control(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("unshare");
        self.home.enter(&mut command);
        run(command.args(["rabbitmqctl", "--quiet"]).args(arguments))
    }

    /// Kills the broker, as the machine's end would; its data stay.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again with the data it had.
    pub async fn restart(&mut self) {
        self.process = self.home.run();
        self.ready().await;
    }

    fn start(version: Version) -> Self {
        Self::start_with(version, None)
    }

    fn start_with(version: Version, tls: Option<&Tls<'_>>) -> Self {
        let home = Home::new(version, "rabbit@localhost", Arc::new(Port::reserve()));
        let (mut settings, mut plugins) = (String::new(), "[].");
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

    /// Whether it has not been killed.
    pub fn is_running(&self) -> bool {
        self.process.is_running()
    }

    /// Returns when it takes connections.
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

    /// Adds to `unshare` what makes a command of the broker's file system run there with the
    /// broker's settings. Whatever the command leaves behind (Erlang's epmd) ends with it, since
    /// it is in a namespace of processes whose first one is the command.
    fn enter(&self, command: &mut Command) {
        let [_, three, four, four_three] = servers();
        let root = match self.version {
            Version::Three => three,
            Version::Four => four,
            Version::FourThree => four_three,
        };
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
