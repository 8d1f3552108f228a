//! Every console block in the pages, and the test that runs it. A block without a row fails, and so does a row
//! without a block.

use super::page::{Block, Page, pages};

/// What tests a block.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Tried {
    /// `tests/end_to_end/pages.rs` runs it unchanged.
    AsItStands,
    /// A make target, run by hand before a release or by `make test`.
    ByMake,
    /// This test does the same with other names.
    By(&'static str),
    /// No test runs it, for this reason.
    Not(&'static str),
}

use Tried::{AsItStands, By, ByMake, Not};

/// Page, beginning of the block, and what tests it.
pub const BLOCKS: &[(&str, &str, Tried)] = &[
    ("README.md", "make demo-local  #", ByMake),
    ("README.md", "make image IMAGE=registry", By("tests/cluster/install")),
    ("README.md", "image-pipeline publish tiles/", By("tests/integration/cli/publish.rs")),
    ("README.md", "kubectl -n greench get imgp forest-tiles", AsItStands),
    ("README.md", "kubectl get imgp -A -o wide", AsItStands),
    ("docs/formats.md", "make corpus", ByMake),
    ("docs/install.md", "helm upgrade --install", By("tests/cluster/install")),
    ("docs/install.md", "cargo build --release", ByMake),
    (
        "docs/install.md",
        "make image IMAGE=registry.example/image-pipeline:0.1.0-amd64",
        By("tests/contract/supply_chain.rs"),
    ),
    ("docs/install.md", "docker buildx imagetools create", Not("docker and a registry")),
    ("docs/metrics-and-alerts.md", "helm upgrade image-pipeline", By("tests/end_to_end/release.rs")),
    ("docs/metrics-and-alerts.md", "kubectl get imgp -A -o custom-columns", AsItStands),
    ("docs/metrics-and-alerts.md", "kubectl -n image-pipeline-system port-forward", AsItStands),
    ("docs/migration.md", "image-pipeline check", By("tests/integration/cli/check.rs")),
    ("docs/migration.md", "python3 -c", Not("images of the reader's, and Pillow")),
    ("docs/migration.md", "kubectl -n greench patch", AsItStands),
    ("docs/one-host.md", "image-pipeline run --file", By("tests/integration/cli/run.rs")),
    ("docs/one-host.md", "image-pipeline check", By("tests/integration/cli/check.rs")),
    ("docs/parked-messages.md", "image-pipeline parked list", AsItStands),
    ("docs/parked-messages.md", "mkdir -m 700 rabbit", AsItStands),
    ("docs/parked-messages.md", "image-pipeline parked show --broker-secret", By("tests/integration/cli/parked.rs")),
    ("docs/parked-messages.md", "image-pipeline parked show --queue", By("tests/integration/cli/parked.rs")),
    ("docs/performance.md", "make bench", ByMake),
    ("docs/performance.md", "make soak", ByMake),
    ("docs/quick-start.md", "make demo-local", ByMake),
    ("docs/quick-start.md", "make demo\n", ByMake),
    ("docs/quick-start.md", "kubectl get imgp -A -o wide", AsItStands),
    ("docs/quick-start.md", "kubectl -n greench port-forward service/s3", AsItStands),
    ("docs/quick-start.md", "make demo CLUSTER=current", Not("a registry and a cluster of the reader's")),
    ("docs/quick-start.md", "make demo CLUSTER=kind", Not("kind")),
    ("docs/quick-start.md", "kubectl create namespace greench", Not("EKS")),
    ("docs/quick-start.md", "make image IMAGE=ACCOUNT", Not("EKS")),
    ("docs/quick-start.md", "kubectl -n greench create secret", Not("EKS")),
    ("docs/quick-start.md", "kubectl apply -f pipeline.yaml", Not("EKS")),
    ("docs/quick-start.md", "image-pipeline publish --sample 1", Not("EKS")),
    ("docs/sizing.md", "kubectl -n greench port-forward deployment/forest-tiles-consumer", AsItStands),
    ("docs/troubleshooting.md", "image-pipeline check forest-tiles", AsItStands),
    ("docs/troubleshooting.md", "$ image-pipeline check", By("tests/integration/cli/check.rs")),
    ("docs/troubleshooting.md", "kubectl -n greench scale", By("tests/crash/fields.rs")),
    ("docs/troubleshooting.md", "$ aws s3api head-object", By("tests/integration/consumer/trace.rs")),
    ("docs/upgrade-and-disaster.md", "make image IMAGE=registry", By("tests/end_to_end/release.rs")),
];

fn of(page: &Page) -> impl Iterator<Item = Block> {
    page.blocks().into_iter().filter(|block| block.language == "console")
}

/// The block of a page with this beginning.
pub fn block(path: &str, begins: &str) -> String {
    let page = pages().into_iter().find(|page| page.path == path).expect(path);
    let found: Vec<_> = of(&page).filter(|block| block.text.starts_with(begins)).collect();
    assert_eq!(found.len(), 1, "{path}: blocks that begin with {begins:?}");
    found.into_iter().next().expect("one").text
}

#[test]
fn every_block_of_commands_says_what_tries_it() {
    for page in pages() {
        for Block { text, .. } in of(&page) {
            let rows = BLOCKS.iter().filter(|(path, begins, _)| *path == page.path && text.starts_with(begins));
            assert_eq!(rows.count(), 1, "{}: what tries this block?\n{text}", page.path);
        }
    }
    for (path, begins, tried) in BLOCKS {
        block(path, begins);
        if let By(file) = tried {
            assert!(super::page::root(file).exists(), "{file}");
        }
    }
}
