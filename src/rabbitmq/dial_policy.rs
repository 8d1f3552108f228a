//! Which addresses of a broker the operator may connect to. The resolved addresses are checked, not the host name: the
//! owner of a name can change where it points.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::address::BrokerAddress;
use super::{QueueError, within};

/// Which addresses may be dialed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DialPolicy {
    /// All addresses. For processes that run on behalf of the user who sets the address.
    AnyAddress,
    /// No address that only this pod or node reaches: a user of the cluster sets the address, and the operator dials.
    RemoteOnly,
}

/// Metadata services of clouds, which return a machine's credentials, in addition to 169.254.169.254.
const METADATA: [IpAddr; 4] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)), // AWS
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),  // Google
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),                  // Alibaba
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),                    // Azure
];

impl DialPolicy {
    /// Resolves the broker's host name to the addresses that may be dialed.
    pub(super) async fn resolve(self, address: &BrokerAddress) -> Result<Vec<SocketAddr>, QueueError> {
        let host = address.host.as_str();
        let found = within("resolving the broker's name", async {
            let found = tokio::net::lookup_host((host, address.port)).await;
            found.map_err(|error| QueueError::dns(host, &error))
        })
        .await?;
        self.allowed(host, found)
    }

    /// Filters `found`. Fails if all addresses are refused.
    fn allowed(self, host: &str, found: impl Iterator<Item = SocketAddr>) -> Result<Vec<SocketAddr>, QueueError> {
        let (mut allowed, mut refused) = (Vec::new(), None);
        for found in found {
            match self.refuses(found.ip()) {
                None => allowed.push(found),
                Some(why) => refused = Some((found.ip(), why)),
            }
        }
        match refused {
            Some((ip, why)) if allowed.is_empty() => Err(QueueError::refused_address(host, ip, why)),
            _ => Ok(allowed),
        }
    }

    /// Why an address may not be dialed; `None`: it may.
    fn refuses(self, address: IpAddr) -> Option<&'static str> {
        match self {
            DialPolicy::AnyAddress => None,
            DialPolicy::RemoteOnly => local(plain(address)),
        }
    }
}

/// The IPv4 address in an IPv4-mapped or NAT64 (64:ff9b::/96) IPv6 address.
fn plain(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(six) => match six.segments() {
            [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)).into(),
            _ => six.into(),
        },
        four => four,
    }
}

fn local(address: IpAddr) -> Option<&'static str> {
    let link_local = match address {
        IpAddr::V4(four) => four.is_link_local(),
        IpAddr::V6(six) => six.is_unicast_link_local(),
    };
    let nowhere = match address {
        // 0.0.0.0/8 is "this network" (RFC 1122), 255.255.255.255 the limited broadcast.
        IpAddr::V4(four) => matches!(four.octets(), [0, ..] | [255, 255, 255, 255]),
        IpAddr::V6(six) => six.is_unspecified(),
    };
    match () {
        () if address.is_loopback() => Some("the operator's own loopback"),
        () if METADATA.contains(&address) || address == IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)) => {
            Some("a cloud's metadata service")
        }
        () if link_local => Some("link-local, for the operator's own node"),
        () if address.is_multicast() => Some("a multicast group"),
        () if nowhere => Some("no host's address"),
        () => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::rabbitmq::Connection;
    use crate::reason::Reason;

    #[test]
    fn what_only_the_operator_reaches_is_refused_in_every_spelling() {
        let refused = [
            "127.0.0.1",
            "127.1.2.3",
            "::1",
            "::ffff:127.0.0.1",
            "64:ff9b::7f00:1",
            "169.254.0.1",
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "fe80::1",
            "febf::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "100.100.100.200",
            "168.63.129.16",
            "0.0.0.0",
            "0.1.2.3",
            "::",
            "::ffff:0.0.0.0",
            "224.0.0.1",
            "239.255.255.255",
            "ff02::1",
            "255.255.255.255",
        ];
        for address in refused {
            assert!(DialPolicy::RemoteOnly.refuses(address.parse().unwrap()).is_some(), "{address}");
            assert_eq!(DialPolicy::AnyAddress.refuses(address.parse().unwrap()), None, "{address}");
        }
        let allowed = ["10.0.0.7", "192.168.1.1", "172.16.0.1", "100.64.0.1", "203.0.113.9", "fd00::7", "2001:db8::7"];
        for address in allowed {
            assert_eq!(DialPolicy::RemoteOnly.refuses(address.parse().unwrap()), None, "{address}");
        }
    }

    #[test]
    fn a_metadata_service_is_named() {
        let named = |address: &str| DialPolicy::RemoteOnly.refuses(address.parse().unwrap());
        assert_eq!(named("169.254.169.254"), Some("a cloud's metadata service"));
        assert_eq!(named("fd00:ec2::254"), Some("a cloud's metadata service"));
        assert_eq!(named("169.254.169.253"), Some("link-local, for the operator's own node"));
    }

    fn at(host: &str, port: u16) -> BrokerAddress {
        let (vhost, username, password) = ("/".to_owned(), "u".to_owned(), "p".to_owned());
        BrokerAddress { host: host.to_owned(), port, vhost, username, password, tls: None }
    }

    #[tokio::test]
    async fn what_only_the_operator_reaches_is_never_dialled() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        // Linux connects each of them to loopback.
        for host in ["127.0.0.1", "localhost", "::ffff:127.0.0.1", "127.1", "0.0.0.0"] {
            let refused = Connection::open_to_look(DialPolicy::RemoteOnly, &at(host, port), "test").await.err();
            let refused = refused.expect("refused");
            assert_eq!(refused.reason(), Reason::AddressRefused, "{host}");
            let message = refused.to_string();
            assert!(message.contains(&format!("{host:?}")) && message.contains("--allow-local-brokers"), "{message}");
        }
        let dialled = tokio::time::timeout(Duration::from_millis(1), listener.accept()).await;
        assert!(dialled.is_err(), "no connection was opened");
        let allowed = DialPolicy::AnyAddress.resolve(&at("127.0.0.1", port)).await.expect("allowed");
        assert_eq!(allowed, [SocketAddr::from(([127, 0, 0, 1], port))]);
    }

    #[test]
    fn of_several_addresses_those_within_reach_are_dialled() {
        let (here, there) = (SocketAddr::from(([127, 0, 0, 1], 1)), SocketAddr::from(([10, 0, 0, 7], 1)));
        let dialled = |policy: DialPolicy, found: &[SocketAddr]| policy.allowed("h", found.iter().copied());
        assert_eq!(dialled(DialPolicy::RemoteOnly, &[here, there, here]), Ok(vec![there]));
        assert_eq!(dialled(DialPolicy::AnyAddress, &[here, there]), Ok(vec![here, there]));
        assert_eq!(
            dialled(DialPolicy::RemoteOnly, &[here]).map_err(|error| error.reason()),
            Err(Reason::AddressRefused)
        );
    }
}
