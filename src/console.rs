//! The console: a read-only page with the status of every pipeline and its last hour, from the operator's memory. It
//! asks no other system, and no decision depends on it. Other web pages in the reader's browser can't read it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use axum::Router;
use axum::extract::RawQuery;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use kube::core::ObjectMeta;
use parking_lot::Mutex;

use crate::api::{ImagePipeline, ImagePipelineStatus};
use crate::html;

mod entry;
mod history;
mod page;
mod plot;

use entry::{Entry, Flow};
use history::Look;
pub use page::About;
use page::{PageQuery, Role};

/// Namespace and name of a pipeline.
type Key = (String, String);

/// All pipelines; `None` while this operator is not the leader. Clones share it.
#[derive(Clone, Default)]
pub struct Console(Arc<Mutex<Option<BTreeMap<Key, Entry>>>>);

impl Console {
    /// This operator has become the leader: starts with no pipelines.
    pub fn begin(&self) {
        *self.0.lock() = Some(BTreeMap::new());
    }

    /// Another operator is the leader now.
    pub fn end(&self) {
        *self.0.lock() = None;
    }

    /// Stores the result of a reconcile. `pods`: all pods, each with the number of messages stored since its process
    /// started, if the pod reports it.
    pub fn note(
        &self,
        pipeline: &ImagePipeline,
        status: Arc<ImagePipelineStatus>,
        pods: Vec<(String, Option<u64>)>,
        now: Timestamp,
    ) {
        let look = Look {
            backlog: status.backlog,
            parked: status.parked,
            desired: status.desired_replicas,
            ready: status.ready_replicas,
            pods,
        };
        self.change(key_of(&pipeline.metadata), |entry| {
            entry.history.add(&look, now);
            entry.flow = Some(Flow::of(pipeline));
            // An equal copy would spread the statuses over the heap.
            if entry.status != status {
                entry.status = status;
            }
        });
    }

    /// Stores the status of a resource that can't be parsed.
    pub fn note_invalid(&self, metadata: &ObjectMeta, status: Arc<ImagePipelineStatus>) {
        self.change(key_of(metadata), |entry| (entry.flow, entry.status) = (None, status));
    }

    /// Removes a deleted pipeline.
    pub fn forget(&self, namespace: &str, name: &str) {
        if let Some(entries) = self.0.lock().as_mut() {
            entries.remove(&(namespace.to_owned(), name.to_owned()));
        }
    }

    fn change(&self, key: Key, change: impl FnOnce(&mut Entry)) {
        if let Some(entries) = self.0.lock().as_mut() {
            change(entries.entry(key).or_default());
        }
    }

    fn page(&self, about: &About, is_listed: bool, asked: &PageQuery, now: Timestamp) -> String {
        let entries = self.0.lock();
        let all =
            || entries.iter().flatten().map(|((namespace, name), entry)| (namespace.as_str(), name.as_str(), entry));
        let work = match &*entries {
            None => Role::Waiting,
            Some(_) if !is_listed => Role::Listing,
            Some(_) => Role::Leading,
        };
        page::page(about, work, asked, &all().collect::<Vec<_>>(), now)
    }
}

/// The page at `/`, for a server that listens on `address`. `is_listed`: whether the operator knows all pipelines.
pub fn routes(
    console: Console,
    is_listed: impl Fn() -> bool + Send + Sync + 'static,
    about: About,
    address: SocketAddr,
) -> Router {
    let shared = Arc::new((console, is_listed, about, policy()));
    let answer = move |headers: HeaderMap, RawQuery(query): RawQuery| {
        let shared = Arc::clone(&shared);
        async move {
            if address.ip().is_loopback() && !is_for_loopback(&headers) {
                return (StatusCode::MISDIRECTED_REQUEST, NOT_HERE).into_response();
            }
            let (console, is_listed, about, policy) = &*shared;
            let page = console.page(about, is_listed(), &asked(&query.unwrap_or_default()), Timestamp::now());
            shown(page, policy)
        }
    };
    Router::new().route("/", get(answer))
}

const NOT_HERE: &str = "This console listens on loopback only and answers to the hosts localhost, 127.0.0.1 and [::1], \
                        so that no other web page can read it by a host name that points here.\n";

/// With DNS rebinding, the name of another site points to loopback; the browser sends that name as `Host`.
fn is_for_loopback(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
    host.is_some_and(|host| matches!(host.host(), "localhost" | "127.0.0.1" | "[::1]"))
}

fn asked(query: &str) -> PageQuery {
    let value = |name: &str| url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name);
    let text = |name: &str| value(name).map(|(_, value)| value.into_owned()).unwrap_or_default();
    PageQuery { find: text("find"), from: text("from").parse().unwrap_or(0) }
}

/// The browser may run the page's own style and script and fetch the page again, nothing else (W3C Content Security
/// Policy Level 3). The digests cover the content between the tags.
fn policy() -> String {
    let encoded = |content: &str| STANDARD.encode(digest(&SHA256, content.as_bytes()));
    format!(
        "default-src 'none'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; \
         style-src 'sha256-{}'; script-src 'sha256-{}'",
        encoded(&format!("{}{}", html::STYLE, page::STYLE)),
        encoded(page::SCRIPT),
    )
}

fn shown(page: String, policy: &str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (headers, page).into_response()
}

fn key_of(metadata: &ObjectMeta) -> Key {
    (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests;
