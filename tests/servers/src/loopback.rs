//! Listens on the consumers' fixed port, on a loopback address that no other fake consumer uses.

use std::net::Ipv4Addr;

use image_pipeline::api::names;
use tokio::net::TcpListener;

/// Listens on a consumer's port. Returns the listener and its address.
pub async fn listen() -> (TcpListener, Ipv4Addr) {
    for _ in 0..50 {
        let address = Ipv4Addr::new(127, fastrand::u8(1..255), fastrand::u8(..), fastrand::u8(1..255));
        if let Ok(listener) = TcpListener::bind((address, names::HTTP_PORT)).await {
            return (listener, address);
        }
    }
    panic!("port {} is taken on every address of loopback", names::HTTP_PORT);
}
