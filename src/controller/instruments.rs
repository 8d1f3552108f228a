//! What the operator shows of its work: metrics, readiness, the console. No decision depends on them.

use std::net::SocketAddr;

use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Error;
use super::initial_lists::InitialLists;
use super::metrics::Metrics;
use crate::console::{self, About, Console};
use crate::http;

/// Clones share their state.
#[derive(Clone, Default)]
pub struct Instruments {
    pub metrics: Metrics,
    pub listed: InitialLists,
    pub console: Console,
}

impl Instruments {
    /// Clears what this operator showed as the leader: another operator is the leader now.
    pub fn rest(&self) {
        self.listed.nothing();
        self.metrics.forget_all();
        self.console.end();
    }

    /// Serves probes and metrics at `listen`, and the console at `console` if it is set, until `stop`.
    ///
    /// # Errors
    /// An address can't be bound.
    pub async fn serve(
        &self,
        listen: SocketAddr,
        console: Option<SocketAddr>,
        about: About,
        stop: &CancellationToken,
    ) -> Result<JoinSet<std::io::Result<()>>, Error> {
        let mut servers = JoinSet::new();
        servers.spawn(http::serve(bound(listen).await?, self.probes(), stop.clone()));
        if let Some(address) = console {
            let listed = self.listed.clone();
            let routes = console::routes(self.console.clone(), move || listed.is_complete(), about, address);
            servers.spawn(http::serve(bound(address).await?, routes, stop.clone()));
        }
        Ok(servers)
    }

    fn probes(&self) -> axum::Router {
        let mut registry = Registry::with_prefix("image_pipeline");
        self.metrics.register(&mut registry);
        let listed = self.listed.clone();
        http::routes(registry, move || {
            listed.is_complete().then_some(()).ok_or_else(|| http::NotReady {
                reason: "Listing".to_owned(),
                message: "waiting for the first lists of the API server".to_owned(),
            })
        })
    }
}

async fn bound(address: SocketAddr) -> Result<TcpListener, Error> {
    http::listen(address).await.map_err(|error| Error::Listen(address, error))
}
