//! Which addresses may be dialled, judged after a name is resolved and before anything is sent. It
//! must never judge a name: what it leads to is its owner's to change.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where brokers may be.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Reach {
    /// Anywhere: whoever names the broker is who dials.
    #[default]
    Anywhere,
    /// Not on this machine, nor on what only this machine reaches: who names the broker is another.
    Elsewhere,
}

/// Where clouds tell a machine its own secrets, beside the link-local 169.254.169.254.
const METADATA: [IpAddr; 4] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)), // AWS
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),  // Google
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),                  // Alibaba
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),                    // Azure
];

impl Reach {
    /// What an address is that may not be dialled; `None`: it may.
    pub(super) fn refuses(self, address: IpAddr) -> Option<&'static str> {
        match self {
            Reach::Anywhere => None,
            Reach::Elsewhere => local(plain(address)),
        }
    }
}

/// The address of IPv4 that one of IPv6 stands for, mapped or by NAT64's own prefix.
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
        // All of 0/8 is "this network", and the broadcast is everybody on it.
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
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

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
            assert!(Reach::Elsewhere.refuses(address.parse().unwrap()).is_some(), "{address}");
            assert_eq!(Reach::Anywhere.refuses(address.parse().unwrap()), None, "{address}");
        }
        let allowed = ["10.0.0.7", "192.168.1.1", "172.16.0.1", "100.64.0.1", "203.0.113.9", "fd00::7", "2001:db8::7"];
        for address in allowed {
            assert_eq!(Reach::Elsewhere.refuses(address.parse().unwrap()), None, "{address}");
        }
    }

    #[test]
    fn a_metadata_service_is_named() {
        let named = |address: &str| Reach::Elsewhere.refuses(address.parse().unwrap());
        assert_eq!(named("169.254.169.254"), Some("a cloud's metadata service"));
        assert_eq!(named("fd00:ec2::254"), Some("a cloud's metadata service"));
        assert_eq!(named("169.254.169.253"), Some("link-local, for the operator's own node"));
    }
}
