//! A TCP proxy before RabbitMQ that delays publisher confirms, as a quorum queue on a slow disk does. All other
//! frames pass immediately.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

use support::port::Port;

/// Header of an AMQP frame: type, channel and size. The payload and one end byte follow.
const HEAD: usize = 7;

/// Class and method of basic.ack, which a broker sends as publisher confirm.
const ACK: [u8; 4] = [0, 60, 0, 80];

/// Starts a proxy on loopback that runs as long as the test.
pub fn start(broker: SocketAddr, late: Duration) -> SocketAddr {
    let port = Port::reserve();
    let address = port.address();
    let listener = port.socket().listen(64).expect("a listener on our own port");
    tokio::spawn(async move {
        let _port = port;
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(broker).await.expect("the broker");
            let (mut from_client, to_client) = client.into_split();
            let (from_server, mut to_server) = server.into_split();
            tokio::spawn(async move {
                tokio::select! {
                    _ = copy(&mut from_client, &mut to_server) => {}
                    () = answers(from_server, to_client, late) => {}
                }
            });
        }
    });
    address
}

async fn answers(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, late: Duration) {
    let (passing, mut passed) = mpsc::unbounded_channel::<Vec<u8>>();
    let read = async {
        loop {
            let mut frame = vec![0; HEAD];
            from.read_exact(&mut frame).await?;
            let size = u32::from_be_bytes(frame[3..].try_into().expect("four bytes")) as usize;
            frame.resize(HEAD + size + 1, 0);
            from.read_exact(&mut frame[HEAD..]).await?;
            let passing = passing.clone();
            if frame[0] == 1 && frame[HEAD..].starts_with(&ACK) {
                tokio::spawn(async move {
                    tokio::time::sleep(late).await;
                    drop(passing.send(frame));
                });
            } else {
                drop(passing.send(frame));
            }
        }
        #[allow(unreachable_code)]
        std::io::Result::Ok(())
    };
    let write = async {
        while let Some(frame) = passed.recv().await {
            if to.write_all(&frame).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        _ = read => {}
        () = write => {}
    }
}
