//! A way to the broker on which the name of one header stops being UTF-8, which no client library of Rust sends.

use std::net::SocketAddr;

use lapin::types::{AMQPValue, FieldTable};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// As the library writes the header, and as the broker receives it.
const NAMES: [&[u8; 6]; 2] = [b"\x04H-heS", b"\x04H\xf6heS"];

/// What a connection begins with.
const GREETING: usize = 8;

/// Type, channel and length.
const FRAME: usize = 7;

/// The type of a frame with the head of a message.
const HEAD: u8 = 2;

/// The headers of a message that takes this way.
pub fn headers() -> FieldTable {
    let mut headers = FieldTable::default();
    headers.insert("H-he".into(), AMQPValue::LongString("x".into()));
    headers
}

/// Opens the way, and says where it begins.
pub async fn before(broker: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let here = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            // Either side may break off: the publisher connects again.
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
