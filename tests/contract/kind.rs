//! `make demo` with a cluster of kind. docker, kind, kubectl and helm are scripts that record how they are called: most
//! machines that run these tests have no container engine.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output};

use tempfile::TempDir;

/// Records each call in `calls`. `kind` has the clusters that the file `clusters` lists, and `docker` has no image.
const PROGRAM: &str = r#"#!/bin/bash
cd "$(dirname "$0")"
name=$(basename "$0")
case "$name $1 ${2:-}" in
"docker info "*) [[ ! -e engine-is-down ]]; exit ;;
"docker image inspect"*) exit 1 ;;
"kind get clusters"*) cat clusters; exit ;;
esac
echo "$name $*" >>calls
case "$name $1" in
"kind create") echo image-pipeline-demo >>clusters; mkdir -p .cache/image-pipeline; : >.cache/image-pipeline/kind.kubeconfig ;;
"kind delete") : >clusters ;;
esac
"#;

struct Machine(TempDir);

impl Machine {
    fn with(programs: &[&str]) -> Self {
        let machine = Self(TempDir::new().unwrap());
        for program in programs {
            let path = machine.file(program);
            fs::write(&path, PROGRAM).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        fs::write(machine.file("clusters"), "").unwrap();
        fs::write(machine.file("calls"), "").unwrap();
        machine
    }

    fn complete() -> Self {
        Self::with(&["docker", "kind", "kubectl", "helm"])
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let path = format!("{}:/usr/bin:/bin", self.0.path().display());
        let mut command = Command::new(program);
        let command = command.current_dir(env!("CARGO_MANIFEST_DIR")).args(arguments);
        let command = command.env_clear().env("PATH", path).env("HOME", self.0.path());
        let command = command.env("CARGO_TARGET_DIR", self.0.path());
        command.output().unwrap()
    }

    fn kind(&self, arguments: &[&str]) -> Output {
        self.run("tests/cluster/kind", arguments)
    }

    /// All calls since the last one.
    fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.file("calls")).unwrap();
        fs::write(self.file("calls"), "").unwrap();
        calls.lines().map(str::to_owned).collect()
    }

    /// What `make demo` would run.
    fn demo(&self, arguments: &[&str]) -> String {
        let output = self.run("make", &[&["--dry-run", "demo"], arguments].concat());
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

#[test]
fn the_demo_uses_kind_only_where_it_runs_and_no_other_cluster_is_named() {
    let complete = Machine::complete();
    let demo = complete.demo(&[]);
    assert!(demo.contains("tests/cluster/kind up") && !demo.contains("tests/cluster/build"), "{demo}");
    let own = complete.demo(&["CLUSTER=own"]);
    assert!(!own.contains("tests/cluster/kind up") && own.contains("tests/cluster/build"), "{own}");

    fs::write(complete.file("engine-is-down"), "").unwrap();
    for without in [complete, Machine::with(&["docker", "kind"]), Machine::with(&["kubectl", "helm"])] {
        assert!(!without.kind(&["usable"]).status.success());
        let demo = without.demo(&[]);
        assert!(!demo.contains("tests/cluster/kind up") && demo.contains("tests/cluster/build"), "{demo}");
        let refused = without.kind(&["up"]);
        assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("CLUSTER=kind needs"));
    }
}

#[test]
fn a_cluster_of_kind_is_started_once_and_has_a_kubeconfig_of_its_own() {
    let machine = Machine::complete();
    let kubeconfig = machine.file(".cache/image-pipeline/kind.kubeconfig");
    let up = || {
        let output = machine.kind(&["up"]);
        assert!(output.status.success(), "{output:?}");
        machine.calls()
    };
    let [create, export] = [up(), up()];
    for (calls, call) in [(&create, "kind create cluster"), (&export, "kind export kubeconfig")] {
        assert!(calls.len() == 1 && calls[0].starts_with(call), "{calls:?}");
        let own = format!("--name image-pipeline-demo --kubeconfig {}", kubeconfig.display());
        assert!(calls[0].contains(&own), "{calls:?}");
    }
    assert!(machine.kind(&["down"]).status.success());
    assert!(machine.calls()[0].starts_with("kind delete cluster --name image-pipeline-demo"));
    assert!(machine.kind(&["down"]).status.success());
    assert_eq!(machine.calls(), [""; 0], "nothing to delete");
}

#[test]
fn a_cluster_of_that_name_that_somebody_else_started_is_left_alone() {
    let machine = Machine::complete();
    fs::write(machine.file("clusters"), "other\nimage-pipeline-demo\nimage-pipeline\n").unwrap();
    let refused = machine.kind(&["up"]);
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("exists already"));
    assert!(machine.kind(&["down"]).status.success());
    assert_eq!(machine.calls(), [""; 0]);
}

/// A program of a newer Linux does not start on the base image, which has Debian 12's C library.
#[test]
fn the_image_holds_a_program_that_its_base_can_run() {
    let machine = Machine::complete();
    let image = |binary: &PathBuf| {
        let output = machine.run("env", &["CLUSTER=kind", "tests/cluster/image", binary.to_str().unwrap()]);
        assert!(output.status.success(), "{output:?}");
        let said = String::from_utf8(output.stdout).unwrap();
        (said.lines().last().unwrap().to_owned(), machine.calls())
    };
    let (fitting, newer) = (machine.file("fitting"), machine.file("newer"));
    fs::copy("/bin/true", &fitting).unwrap();
    fs::write(&newer, [fs::read("/bin/true").unwrap(), b"GLIBC_2.99".to_vec()].concat()).unwrap();
    for (binary, target) in [(fitting, "--target prebuilt"), (newer, "--target compiled")] {
        let (reference, calls) = image(&binary);
        let [build, load] = &calls[..] else { panic!("{calls:?}") };
        assert!(build.starts_with("docker build") && build.contains(target) && build.contains(&reference), "{build}");
        assert_eq!(*load, format!("kind load docker-image --name image-pipeline-demo {reference} --quiet"));
    }
}
