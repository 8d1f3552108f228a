//! A plain `lapin` connection, for operations that the product never performs. Don't use it to test the product's
//! own connection code.

use image_pipeline::rabbitmq::address::BrokerAddress;
use lapin::ConnectionProperties;
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};

pub async fn plainly(address: &BrokerAddress) -> lapin::Connection {
    try_plainly(address).await.expect("a connection")
}

/// Connects to a broker that may be away.
pub async fn try_plainly(address: &BrokerAddress) -> lapin::Result<lapin::Connection> {
    let BrokerAddress { host, port, vhost, username, password, tls } = address.clone();
    assert!(tls.is_none(), "the tests' own connections use no TLS");
    let uri = AMQPUri {
        scheme: AMQPScheme::AMQP,
        authority: AMQPAuthority { userinfo: AMQPUserInfo { username, password }, host, port },
        vhost,
        query: AMQPQueryString::default(),
    };
    lapin::Connection::connect_uri(uri, ConnectionProperties::default()).await
}
