//! Runs the operator again after each kill. A life starts without state and ends immediately, with all its tasks,
//! when the gate kills it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use image_pipeline::controller::{self, ConsumerImage, Settings};
use image_pipeline::rabbitmq::DialPolicy;
use tokio_util::sync::CancellationToken;

use crate::chart::IMAGE;
use crate::gate::Shared;

/// An operator that is started again after each kill, while this value lives.
pub struct Operator {
    stop: CancellationToken,
    lives: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Operator {
    /// Starts an operator that uses the API server at `url` and is killed by `gate`.
    pub fn start(gate: Arc<Shared>, url: String) -> Self {
        let (stop, lives) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
        let (stopped, counted) = (stop.clone(), lives.clone());
        let thread = std::thread::spawn(move || {
            while !stopped.is_cancelled() {
                counted.fetch_add(1, Ordering::SeqCst);
                live(&gate, &url, &stopped);
                gate.revive();
            }
        });
        Self { stop, lives, thread: Some(thread) }
    }

    /// Number of starts.
    pub fn lives(&self) -> usize {
        self.lives.load(Ordering::SeqCst)
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.stop.cancel();
        let ended = self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            ended.transpose().expect("the operator does not panic");
        }
    }
}

/// One life, on a runtime of this thread that is dropped at the end, with all tasks and connections.
fn live(gate: &Shared, url: &str, stop: &CancellationToken) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let config = kube::Config::new(url.parse().expect("a URL"));
        let client = kube::Client::try_from(config).expect("a client");
        let image =
            ConsumerImage { image: IMAGE.to_owned(), pull_policy: "IfNotPresent".to_owned(), pull_secrets: vec![] };
        let settings = Settings {
            image,
            namespaces: vec![],
            dial_policy: DialPolicy::AnyAddress,
            brokers_per_namespace: 20,
            rollouts_at_once: 10,
        };
        let never = CancellationToken::new();
        tokio::select! {
            () = stop.cancelled() => {}
            () = gate.killed() => {}
            ended = controller::operate(client, settings, Default::default(), never) => {
                panic!("the operator ended without a kill: {ended:?}")
            }
        }
    });
}
