//! A proxy before RabbitMQ that changes the name of one header so that it is not UTF-8, because no Rust client
//! library sends such a name.

use std::net::SocketAddr;

use lapin::types::{AMQPValue, FieldTable};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// The header as the library sends it, and as RabbitMQ receives it.
const NAMES: [&[u8; 6]; 2] = [b"\x04H-heS", b"\x04H\xf6heS"];

/// Length of the protocol header at the start of a connection.
const GREETING: usize = 8;

/// Length of type, channel and size.
const FRAME: usize = 7;

/// Type of a content header frame.
const HEAD: u8 = 2;

/// Headers of a message sent through this proxy.
pub fn headers() -> FieldTable {
    let mut headers = FieldTable::default();
    headers.insert("H-he".into(), AMQPValue::LongString("x".into()));
    headers
}

/// Starts the proxy and returns its address.
pub async fn before(broker: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let here = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            // Either side may close the connection: the publisher reconnects.
            tokio::spawn(carry(client, broker));
        }
    });
    here
}

async fn carry(client: TcpStream, broker: SocketAddr) -> std::io::Result<()> {
    let broker = TcpStream::connect(broker).await?;
    let ((mut asks, mut hears), (mut answers, mut told)) = (client.into_split(), broker.into_split());
    let asking = async {
        let mut greeting = [0; GREETING];
        asks.read_exact(&mut greeting).await?;
        told.write_all(&greeting).await?;
        loop {
            let mut frame = vec![0; FRAME];
            asks.read_exact(&mut frame).await?;
            let length = u32::from_be_bytes([frame[3], frame[4], frame[5], frame[6]]) as usize;
            frame.resize(FRAME + length + 1, 0);
            asks.read_exact(&mut frame[FRAME..]).await?;
            let [from, to] = NAMES;
            let place = frame.windows(from.len()).position(|window| window == from);
            if let Some(place) = place.filter(|_| frame[0] == HEAD) {
                frame[place..place + to.len()].copy_from_slice(to);
            }
            told.write_all(&frame).await?;
        }
    };
    let answering = async { tokio::io::copy(&mut answers, &mut hears).await };
    tokio::select! {
        ended = asking => ended,
        ended = answering => ended.map(drop),
    }
}
