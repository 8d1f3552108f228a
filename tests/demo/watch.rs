//! Follows the demo from outside and prints a line per second: the Deployment's size from the API server, the
//! queue's depth from RabbitMQ, the keys from S3. The operator's own reports are not used.

use std::io::{IsTerminal, Write};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use image_pipeline::api::names;
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::runtime::{WatchStreamExt, watcher};
use tokio::task::JoinHandle;

use servers::bucket::Storage;
use servers::cluster::{self, Namespace};
use servers::messages::Messages;

/// Limit for the whole demonstration.
const LIMIT: Duration = Duration::from_secs(300);

/// Size of the Deployment at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Time of the watch event.
    pub at: Instant,
    /// `spec.replicas`.
    pub asked: i64,
    /// `status.readyReplicas`.
    pub ready: i64,
}

/// The queue and the bucket at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Time of the reading.
    pub at: Instant,
    /// Messages ready in the queue.
    pub waiting: u32,
    /// Keys in the bucket.
    pub stored: usize,
}

/// All readings, in order.
pub struct History {
    /// Every size in a watch event.
    pub sizes: Vec<Size>,
    /// Queue and bucket, several times per second.
    pub progress: Vec<Progress>,
    /// Whether every image was stored and the size was 0 at the end.
    pub complete: bool,
}

pub struct Watch {
    began: Instant,
    sizes: Arc<Mutex<Vec<Size>>>,
    follower: JoinHandle<()>,
    messages: Messages,
    storage: Storage,
    queue: String,
    bucket: String,
    prefix: String,
}

impl Watch {
    /// Starts to follow a pipeline's Deployment. Only keys under `prefix` count.
    pub async fn start(namespace: &Namespace, pipeline: &str, queue: &str, bucket: &str, prefix: &str) -> Self {
        let sizes = Arc::new(Mutex::new(Vec::new()));
        let api: Api<Deployment> = Api::namespaced(cluster::client().await, &namespace.name);
        let config = watcher::Config::default().fields(&format!("metadata.name={}", names::deployment(pipeline)));
        let seen = Arc::clone(&sizes);
        let follower = tokio::spawn(async move {
            let mut deployments = pin!(watcher(api, config).default_backoff().applied_objects());
            while let Some(deployment) = deployments.try_next().await.ok().flatten() {
                let asked = deployment.spec.and_then(|spec| spec.replicas).unwrap_or_default().into();
                let ready = deployment.status.and_then(|status| status.ready_replicas).unwrap_or_default().into();
                seen.lock().unwrap().push(Size { at: Instant::now(), asked, ready });
            }
        });
        let (messages, storage) = (Messages::of(namespace).await, Storage::of(namespace));
        Self {
            began: Instant::now(),
            sizes,
            follower,
            messages,
            storage,
            queue: queue.to_owned(),
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
        }
    }

    /// Prints the progress until every image is stored and no pod is left, or until the limit.
    pub async fn until_done(self, images: usize) -> History {
        let mut progress: Vec<Progress> = Vec::new();
        let mut screen = Screen::new();
        let mut looks = tokio::time::interval(Duration::from_millis(250));
        let complete = loop {
            looks.tick().await;
            let waiting = self.messages.depth(&self.queue).await;
            let stored = self.storage.keys_under(&self.bucket, &self.prefix).await.len();
            let now = Progress { at: Instant::now(), waiting, stored };
            progress.push(now);
            let size = self.sizes.lock().unwrap().last().copied();
            let (asked, ready) = size.map_or((0, 0), |size| (size.asked, size.ready));
            screen.show(self.began.elapsed(), &now, asked, ready);
            if stored >= images && asked == 0 && ready == 0 {
                break true;
            }
            if stored >= images {
                screen.tell("Every image is stored. Pods end after they were not needed for scaling.scaleDownAfter.");
            }
            if self.began.elapsed() > LIMIT {
                break false;
            }
        };
        screen.end();
        self.follower.abort();
        let sizes = self.sizes.lock().unwrap().clone();
        History { sizes, progress, complete }
    }
}

/// On a terminal, one line that is overwritten; elsewhere, one line per second with a change.
struct Screen {
    terminal: bool,
    /// The second of the last printed line, and its counts.
    shown: Option<(u64, String)>,
    /// A line that has not been printed yet.
    unseen: Option<String>,
    told: bool,
}

impl Screen {
    fn new() -> Self {
        println!("{:>7}  {:>8}  {:>5}  {:>5}  {:>6}", "seconds", "in queue", "pods", "ready", "stored");
        Self { terminal: std::io::stdout().is_terminal(), shown: None, unseen: None, told: false }
    }

    fn show(&mut self, elapsed: Duration, progress: &Progress, asked: i64, ready: i64) {
        let counts = format!("{:>8}  {asked:>5}  {ready:>5}  {:>6}", progress.waiting, progress.stored);
        let line = format!("{:>7.1}  {counts}", elapsed.as_secs_f64());
        if self.terminal {
            print!("\r{line}");
            std::io::stdout().flush().ok();
            return;
        }
        match &self.shown {
            Some((_, before)) if *before == counts => self.unseen = None,
            Some((second, _)) if *second == elapsed.as_secs() => self.unseen = Some(line),
            _ => {
                println!("{line}");
                (self.shown, self.unseen) = (Some((elapsed.as_secs(), counts)), None);
            }
        }
    }

    /// Prints a sentence once.
    fn tell(&mut self, sentence: &str) {
        if !std::mem::replace(&mut self.told, true) {
            self.end();
            self.unseen = None;
            println!("{sentence}");
        }
    }

    fn end(&self) {
        match &self.unseen {
            Some(last) => println!("{last}"),
            None if self.terminal => println!(),
            None => {}
        }
    }
}
