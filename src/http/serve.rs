//! Serves HTTP/1.1 within bounds that no peer can move: a peer can open connections and say nothing, but it keeps no
//! memory for long, and never the connections that probes need.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

/// The most open connections of one server. A new connection replaces the oldest one without a request.
const CONNECTIONS: usize = 128;

/// How long a connection may take until the head of a request is complete, from its start or from the last answer.
const HEAD_WITHIN: Duration = Duration::from_secs(10);

/// The largest head of a request, in bytes; hyper's minimum.
const HEAD_BYTES: usize = 8 << 10;

/// The pause after a connection could not be accepted, mostly because of the limit of open files.
const PAUSE: Duration = Duration::from_millis(100);

/// An open connection.
struct Open {
    task: AbortHandle,
    /// Whether a request is being answered.
    is_busy: Arc<AtomicBool>,
}

/// Serves until `stop`, and finishes the requests that have begun by then.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) -> io::Result<()> {
    let mut open: VecDeque<Open> = VecDeque::new();
    let graceful = GracefulShutdown::new();
    let accepted = async {
        loop {
            match listener.accept().await {
                Ok((stream, _)) if has_room(&mut open) => open.push_back(begin(stream, &router, &graceful)),
                Ok(_) => {}
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    };
    stop.run_until_cancelled(accepted).await;
    drop(listener);
    graceful.shutdown().await;
    Ok(())
}

/// Whether a connection can be added; closes the oldest one without a request for it. `false`: all are busy.
fn has_room(open: &mut VecDeque<Open>) -> bool {
    if open.len() >= CONNECTIONS {
        open.retain(|connection| !connection.task.is_finished());
    }
    if open.len() < CONNECTIONS {
        return true;
    }
    let oldest = open.iter().position(|connection| !connection.is_busy.load(Ordering::Relaxed));
    oldest.and_then(|index| open.remove(index)).map(|connection| connection.task.abort()).is_some()
}

fn begin(stream: TcpStream, router: &Router, graceful: &GracefulShutdown) -> Open {
    let is_busy = Arc::new(AtomicBool::new(false));
    let (router, busy) = (router.clone(), Arc::clone(&is_busy));
    let answer = service_fn(move |request: hyper::Request<Incoming>| {
        let (answer, busy) = (router.clone().oneshot(request), Arc::clone(&busy));
        busy.store(true, Ordering::Relaxed);
        async move {
            let answer = answer.await;
            busy.store(false, Ordering::Relaxed);
            answer
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).max_buf_size(HEAD_BYTES);
    let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), answer));
    // A connection that fails is the peer's trouble.
    let task = tokio::spawn(async move { drop(connection.await) }).abort_handle();
    Open { task, is_busy }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn server() -> (std::net::SocketAddr, CancellationToken, tokio::task::JoinHandle<io::Result<()>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let router = Router::new().route("/livez", get(async || "ok")).route(
            "/slow",
            get(async || {
                tokio::time::sleep(Duration::from_millis(300)).await;
                "done"
            }),
        );
        (address, stop.clone(), tokio::spawn(serve(listener, router, stop)))
    }

    async fn answer(address: std::net::SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn it_answers_while_many_connections_say_nothing_and_keeps_few_of_them() {
        let (address, ..) = server().await;
        let mut silent = Vec::new();
        for number in 0..400 {
            silent.push(TcpStream::connect(address).await.unwrap());
            if number % 100 == 99 {
                let answer = tokio::time::timeout(Duration::from_secs(5), answer(address, "/livez")).await.unwrap();
                assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            }
        }
        let mut closed = 0;
        for stream in &mut silent {
            let read = tokio::time::timeout(Duration::from_millis(20), stream.read(&mut [0])).await;
            closed += usize::from(read.is_ok());
        }
        assert!(closed >= 400 - CONNECTIONS, "{closed} of 400 closed");
    }

    #[tokio::test]
    async fn a_head_that_is_never_complete_ends_its_connection() {
        let (address, ..) = server().await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n").await.unwrap();
        let ended = tokio::time::timeout(2 * HEAD_WITHIN, stream.read_to_end(&mut Vec::new())).await;
        assert!(ended.is_ok(), "still open after {:?}", 2 * HEAD_WITHIN);
    }

    #[tokio::test]
    async fn a_request_that_has_begun_is_answered_before_it_stops() {
        let (address, stop, served) = server().await;
        let slow = tokio::spawn(answer(address, "/slow"));
        tokio::time::sleep(Duration::from_millis(100)).await;
        stop.cancel();
        assert!(slow.await.unwrap().ends_with("done"));
        served.await.unwrap().unwrap();
        assert!(TcpStream::connect(address).await.is_err(), "no longer listens");
    }
}
