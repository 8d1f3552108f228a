//! Runs the commands of the documentation in a cluster as `make demo` leaves it. tests/support/src/tried.rs lists the
//! commands that are not run here, with the reason.

use std::path::Path;
use std::process::Command;

use image_pipeline::api::names::SPEC_ANNOTATION;

use servers::bucket::Storage;
use servers::cluster::{Namespace, own_kubeconfig};
use servers::messages::{self, Messages};
use servers::pipeline::Pipeline;
use support::eventually::{LIMIT, equal, eventually};
use support::tried::{BLOCKS, Tried, block};

const EXAMPLE: &str = include_str!("../../examples/imagepipeline.yaml");

const BUCKET: &str = "bucket-greench";

/// Number of a tile that no command of the documentation publishes.
const TOO_LARGE: u32 = 99_999;

/// A limit too low for a tile, and its removal.
const TOO_FEW_PIXELS: &str = r#"{"spec": {"image": {"maxPixels": 1000}, "replicas": 1}}"#;
const ENOUGH_PIXELS: &str = r#"{"spec": {"image": null, "replicas": 1}}"#;

/// Runs code blocks of the documentation in a shell, in a directory with the files that they name.
struct Reader {
    directory: tempfile::TempDir,
}

impl Reader {
    /// Writes RabbitMQ's Secret to the directory that the documentation names.
    fn new(messages: &Messages) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let secret = directory.path().join("DIR");
        std::fs::create_dir(&secret).expect("a directory");
        let (address, port) = (&messages.address, messages.address.port.to_string());
        for (key, value) in
            [("host", &address.host), ("port", &port), ("username", &address.username), ("password", &address.password)]
        {
            std::fs::write(secret.join(key), value).expect("a file");
        }
        Self { directory }
    }

    /// Output of the commands of a block, and of the commands in `then` after them.
    fn types(&self, page: &str, begins: &str, then: &str) -> String {
        let row = BLOCKS.iter().find(|(path, block, _)| (*path, *block) == (page, begins));
        assert_eq!(row.map(|(.., tried)| *tried), Some(Tried::AsItStands), "{page}: {begins}");
        let typed = patient(&block(page, begins));
        let script = format!("set -euo pipefail; trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{typed}\n{then}\n");
        let (program, path) = (env!("CARGO_BIN_EXE_image-pipeline"), std::env::var("PATH").expect("a PATH"));
        let programs = Path::new(program).parent().expect("a directory").display();
        let mut shell = Command::new("timeout");
        shell.args(["120", "bash", "-c", &script]).current_dir(&self.directory);
        shell.env("PATH", format!("{programs}:{path}")).env("KUBECONFIG", own_kubeconfig().expect("a cluster"));
        let output = shell.output().expect("a shell");
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{page}: {script}\n{said}");
        said
    }
}

/// Runs a port-forward in the background and waits for its port, as a reader does in a second terminal.
fn patient(text: &str) -> String {
    let waits = |line: &str| {
        let command = line.split(" #").next().unwrap_or_default().trim().trim_end_matches('&').trim();
        let port = command.rsplit(' ').next().unwrap_or_default();
        format!("{command} &\nuntil (: </dev/tcp/127.0.0.1/{port}) 2>/dev/null; do sleep 0.1; done\n")
    };
    text.lines().map(|line| if line.contains("port-forward") { waits(line) } else { format!("{line}\n") }).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_pages_tell_to_type_works() {
    if own_kubeconfig().is_none() {
        return; // Their names are the demo's, which in a cluster of somebody's may be somebody's.
    }
    let namespace = Namespace::with_parts("greench");
    let (messages, storage) = (Messages::of(&namespace).await, Storage::of(&namespace));
    storage.ensure(BUCKET).await;
    messages.declare("segmented-images").await;
    let pipeline = Pipeline { namespace: &namespace, name: "forest-tiles" };
    namespace.must_apply(EXAMPLE);
    pipeline.shows("Ready", "True", "Idle", LIMIT).await;
    let reader = Reader::new(&messages);

    let checked = reader.types("docs/troubleshooting.md", "image-pipeline check forest-tiles", "");
    assert!(checked.contains("ok     store") && !checked.contains("FAILED"), "{checked}");
    let shown = reader.types("README.md", "kubectl get imgp -A -o wide", "");
    assert!(shown.contains("StorageAvailable") && shown.contains("ok     store"), "{shown}");
    let console = "curl -s http://localhost:8081 | grep greench/forest-tiles";
    let said = reader.types("docs/quick-start.md", "kubectl get imgp -A -o wide", console);
    assert!(said.contains("forest-tiles") && said.contains("StorageAvailable") && said.contains("50"), "{said}");
    eventually("50 images", LIMIT, async || equal(storage.keys_under(BUCKET, "sample-").await.len(), 50)).await;
    let listed = reader.types("docs/quick-start.md", "kubectl -n greench port-forward service/s3", "");
    assert!(listed.contains("<Key>sample-00049.png"), "{listed}");
    reader.types("docs/metrics-and-alerts.md", "kubectl get imgp -A -o custom-columns", "");
    let told = reader.types("docs/metrics-and-alerts.md", CONSOLE, "curl -s http://localhost:8081");
    assert!(told.contains("<article id=\"greench/forest-tiles\""), "{told}");
    sizes(&reader, &pipeline).await;
    parked(&reader, &pipeline, &messages, &storage).await;
    namespace.kubectl(&["delete", "imgp", "forest-tiles", "--timeout=20s"]);
}

const DEPLOYMENT: &str = "forest-tiles-consumer";

const CONSOLE: &str = "kubectl -n image-pipeline-system port-forward";

async fn sizes(reader: &Reader, pipeline: &Pipeline<'_>) {
    reader.types("README.md", "kubectl -n greench get imgp forest-tiles", "");
    pipeline.shows("ScalingActive", "True", "BacklogCounted", LIMIT).await;
    pipeline.namespace.kubectl(&["scale", "imgp", pipeline.name, "--replicas=1"]);
    pipeline.shows("ConsumersAvailable", "True", "ConsumersReady", LIMIT).await;
    let status = "kubectl -n greench port-forward deployment/forest-tiles-consumer";
    let told = reader.types("docs/sizing.md", status, "");
    assert!(told.contains("\"processed\":"), "{told}");
    reader.types("docs/migration.md", "kubectl -n greench patch", "");
    pipeline.shows("ScalingActive", "True", "BacklogCounted", LIMIT).await;
}

/// A message parked for a limit that is too low is redriven and stored after the limit is raised.
async fn parked(reader: &Reader, pipeline: &Pipeline<'_>, messages: &Messages, storage: &Storage) {
    change(pipeline, TOO_FEW_PIXELS).await;
    let name = messages::tiles(320).name(TOO_LARGE);
    messages.publish("segmented-images", &messages::tile(TOO_LARGE)).await;
    let parking = "segmented-images.parked";
    eventually("one parked message", LIMIT, async || equal(messages.parked(parking).await, 1)).await;
    change(pipeline, ENOUGH_PIXELS).await;
    let listed = reader.types("docs/parked-messages.md", "mkdir -m 700 rabbit", "");
    assert!(listed.contains("ImageTooLarge"), "{listed}");
    let said = reader.types("docs/parked-messages.md", "image-pipeline parked list", "");
    assert!(said.contains("ImageTooLarge"), "{said}");
    eventually("the redriven image", LIMIT, async || equal(storage.keys_under(BUCKET, &name).await.len(), 1)).await;
    assert_eq!(messages.parked(parking).await, 0);
}

/// Changes the pods' spec and waits until no old pod is left, because an old pod could still park or store a
/// message.
async fn change(pipeline: &Pipeline<'_>, patch: &str) {
    let digest = || pipeline.get("deployment", DEPLOYMENT)["metadata"]["annotations"][SPEC_ANNOTATION].clone();
    let before = digest();
    pipeline.namespace.kubectl(&["patch", "imgp", pipeline.name, "--type=merge", "-p", patch]);
    eventually(
        "the Deployment to change",
        LIMIT,
        async || {
            if digest() == before { Err(before.to_string()) } else { Ok(()) }
        },
    )
    .await;
    let deployment = format!("deployment/{DEPLOYMENT}");
    pipeline.namespace.kubectl(&["rollout", "status", &deployment, "--timeout=60s"]);
    // A rollout does not count ending pods, which still consume until they receive SIGTERM.
    eventually("the old pods to end", LIMIT, async || equal(pipeline.pods().len(), 1)).await;
}
