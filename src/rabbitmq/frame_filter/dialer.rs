//! Creates lapin's sockets: connects, adds TLS if configured, and wraps the stream in the frame filter.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use async_rs::Tokio;
use async_rs::traits::Reactor;
use futures::Stream;
use futures::io::{AsyncRead, AsyncWrite};
use lapin::AsyncTcpStream;
use lapin::tcp::RustlsConnector;

use super::super::attempt::Attempt;
use super::{FrameFilter, Frames, Version};

/// Tokio's reactor, with filtered TCP streams.
#[derive(Clone)]
pub(in crate::rabbitmq) struct Dialer {
    pub tokio: Tokio,
    pub host: String,
    pub tls: Option<Arc<RustlsConnector>>,
    pub attempt: Attempt,
    pub frame_max: u32,
    pub version: Arc<OnceLock<Version>>,
}

impl std::fmt::Debug for Dialer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Dialer").field("host", &self.host).finish_non_exhaustive()
    }
}

type Socket = AsyncTcpStream<<Tokio as Reactor>::TcpStream>;

impl Dialer {
    async fn dial(self, address: SocketAddr) -> io::Result<FrameFilter<Socket>> {
        let connecting = async {
            let socket = self.tokio.tcp_connect_addr(address).await?;
            self.attempt.clone().hang_up(socket.get_ref())?;
            let stream = AsyncTcpStream::Plain(socket);
            match &self.tls {
                Some(tls) => stream.into_rustls(tls, &self.host).await,
                None => Ok(stream),
            }
        };
        let connected = self.attempt.given_up.run_until_cancelled(connecting).await;
        let stream = connected.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))?;
        Ok(FrameFilter::new(stream, Frames::new(self.frame_max, self.version)))
    }
}

impl Reactor for Dialer {
    type TcpStream = FrameFilter<Socket>;
    type Sleep = <Tokio as Reactor>::Sleep;

    fn register<H: Read + Write + AsFd + AsRawFd + Send + 'static>(
        &self,
        socket: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        self.tokio.register(socket)
    }

    fn sleep(&self, duration: Duration) -> Self::Sleep {
        self.tokio.sleep(duration)
    }

    fn interval(&self, duration: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.tokio.interval(duration)
    }

    fn tcp_connect_addr(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        self.clone().dial(address)
    }
}
