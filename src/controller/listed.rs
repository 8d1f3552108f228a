//! Whether the first list of every watch has arrived. Until then a store that lacks an object says
//! nothing about the cluster, so nothing may be decided. (`Store::wait_until_ready` of kube wakes
//! only the last of several tasks that wait on it.)

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::runtime::watcher::{self, Event};
use tokio_util::sync::CancellationToken;

/// The lists of every scope, for the probe: one scope's trouble must not hold up another's work.
/// `None` until it is known what there is to list.
#[derive(Clone, Default)]
pub struct Listed(Arc<Mutex<Option<Vec<Lists>>>>);

/// The lists of one scope: one signal a watch, set once and for ever.
#[derive(Clone, Default)]
pub struct Lists {
    pipelines: CancellationToken,
    deployments: CancellationToken,
    pods: CancellationToken,
    secrets: CancellationToken,
}

impl Listed {
    /// The lists of one more scope.
    pub fn scope(&self) -> Lists {
        let lists = Lists::default();
        self.locked().get_or_insert_default().push(lists.clone());
        lists
    }

    /// There is nothing to list: another operator does the work.
    pub fn nothing(&self) {
        *self.locked() = Some(vec![]);
    }

    /// Whether every store of every scope holds what the API server holds.
    pub fn is_complete(&self) -> bool {
        let complete =
            |scopes: &Vec<Lists>| scopes.iter().flat_map(Lists::signals).all(CancellationToken::is_cancelled);
        self.locked().as_ref().is_some_and(complete)
    }

    fn locked(&self) -> MutexGuard<'_, Option<Vec<Lists>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lists {
    /// Watches the stream of ImagePipelines, after its store has been written.
    pub fn pipelines<K>(&self) -> impl FnMut(&watcher::Result<Event<K>>) + Send + use<K> {
        signal(&self.pipelines)
    }

    /// Watches the stream of Deployments, after its store has been written.
    pub fn deployments<K>(&self) -> impl FnMut(&watcher::Result<Event<K>>) + Send + use<K> {
        signal(&self.deployments)
    }

    /// Watches the stream of pods, after its store has been written.
    pub fn pods<K>(&self) -> impl FnMut(&watcher::Result<Event<K>>) + Send + use<K> {
        signal(&self.pods)
    }

    /// Watches the stream of Secrets, after its store has been written.
    pub fn secrets<K>(&self) -> impl FnMut(&watcher::Result<Event<K>>) + Send + use<K> {
        signal(&self.secrets)
    }

    /// Waits until every store holds what the API server holds.
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
