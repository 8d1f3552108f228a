//! What shows an operator's work while it goes on: metrics, readiness, the console. It must never hold what
//! decides anything.

use std::net::SocketAddr;

use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Error;
use super::console::{self, About, Console};
use super::listed::Listed;
use super::metrics::Metrics;
use crate::http;

/// All that shows the work. Clones share it.
#[derive(Clone, Default)]
pub struct Instruments {
    /// What is counted.
    pub metrics: Metrics,
    /// Whether everything has been listed.
    pub listed: Listed,
    /// What a person looks at.
    pub console: Console,
}

impl Instruments {
    /// Another operator does the work now.
    pub fn rest(&self) {
        self.listed.nothing();
        self.metrics.forget_all();
        self.console.end();
    }

    /// Serves probes and metrics at one address, and the console at another if one is given, until `stop`.
    ///
    /// # Errors
    /// An address can't be had.
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
            let routes = console::routes(self.console.clone(), self.listed.clone(), about, address);
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
                message: "the API server has not answered every request yet".to_owned(),
            })
        })
    }
}

async fn bound(address: SocketAddr) -> Result<TcpListener, Error> {
    http::listen(address).await.map_err(|error| Error::Listen(address, error))
}
