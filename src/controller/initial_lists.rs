//! Whether the first list of every watch has arrived. Until then an object that is absent from a store may exist in the
//! cluster, so no reconcile starts. (kube's `Store::wait_until_ready` wakes only the last of several waiting tasks.)

use std::sync::Arc;

use kube::runtime::watcher::{self, Event};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// The lists of all scopes, for `/readyz` and the console. A reconcile waits for the lists of its own scope only, so
/// that a fault in one namespace does not stop another namespace. `None`: no scope has started yet.
#[derive(Clone, Default)]
pub struct InitialLists(Arc<Mutex<Option<Vec<Lists>>>>);

/// The lists of one scope: one signal per watch, which stays set once its first list has arrived.
#[derive(Clone, Default)]
pub struct Lists {
    pipelines: CancellationToken,
    deployments: CancellationToken,
    pods: CancellationToken,
    secrets: CancellationToken,
}

impl InitialLists {
    /// Adds a scope.
    pub fn scope(&self) -> Lists {
        let lists = Lists::default();
        self.0.lock().get_or_insert_default().push(lists.clone());
        lists
    }

    /// Removes all scopes: another operator is the leader, so this one is ready without any list.
    pub fn nothing(&self) {
        *self.0.lock() = Some(vec![]);
    }

    /// Whether all first lists of all scopes have arrived.
    pub fn is_complete(&self) -> bool {
        let complete =
            |scopes: &Vec<Lists>| scopes.iter().flat_map(Lists::signals).all(CancellationToken::is_cancelled);
        self.0.lock().as_ref().is_some_and(complete)
    }
}

impl Lists {
    /// An observer for the watch of ImagePipelines. All four observers belong after `reflect`, which fills the store.
    pub fn pipelines<K>(&self) -> impl FnMut(&watcher::Result<Event<K>>) + Send + use<K> {
        signal(&self.pipelines)
    }

    pub fn deployments<K>(&self) -> impl FnMut(&watcher::Result<Event<K>>) + Send + use<K> {
        signal(&self.deployments)
    }

    pub fn pods<K>(&self) -> impl FnMut(&watcher::Result<Event<K>>) + Send + use<K> {
        signal(&self.pods)
    }

    pub fn secrets<K>(&self) -> impl FnMut(&watcher::Result<Event<K>>) + Send + use<K> {
        signal(&self.secrets)
    }

    /// Waits until all first lists of this scope have arrived.
    pub async fn complete(&self) {
        for signal in self.signals() {
            signal.cancelled().await;
        }
    }

    fn signals(&self) -> [&CancellationToken; 4] {
        let Self { pipelines, deployments, pods, secrets } = self;
        [pipelines, deployments, pods, secrets]
    }
}

fn signal<K>(signal: &CancellationToken) -> impl FnMut(&watcher::Result<Event<K>>) + Send + use<K> {
    let signal = signal.clone();
    move |event| {
        if matches!(event, Ok(Event::InitDone)) {
            signal.cancel();
        }
    }
}
