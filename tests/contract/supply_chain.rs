//! The scripts behind `make base-images`, `make advisories` and `make image`. Programs that need a network or an engine
//! are stand-ins; git is real.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output};

use support::page::root;
use tempfile::TempDir;

/// A folder with stand-ins for programs, which precede the machine's in the `PATH`.
struct Machine(TempDir);

impl Machine {
    fn with(programs: &[(&str, &str)]) -> Self {
        let machine = Self(TempDir::new().unwrap());
        for (name, script) in programs {
            fs::write(machine.file(name), format!("#!/bin/bash\ncd \"$(dirname \"$0\")\"\n{script}\n")).unwrap();
            fs::set_permissions(machine.file(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        machine
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, script: PathBuf, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
        let path = format!("{}:/usr/bin:/bin", self.0.path().display());
        let mut command = Command::new(script);
        let command = command.current_dir(self.0.path()).args(arguments).env_clear();
        let command = command.env("PATH", path).env("HOME", self.0.path()).envs(environment.iter().copied());
        command.output().unwrap()
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

/// An index of images, and its digest by `sha256sum`.
const INDEX: &str = r#"{"manifests":[{"platform":{"architecture":"amd64"}},{"platform":{"architecture": "arm64"}}]}"#;
const INDEX_DIGEST: &str = "sha256:9e858f3d915374e0b222e4f3f58a50e4e421da59e7c5ad783083416967efc7ea";

#[test]
fn a_renewal_pins_what_the_registries_name_or_changes_nothing() {
    // Answers with the file `index-IMAGE`, if it exists.
    let machine = Machine::with(&[("skopeo", r#"image=${!#}; cat "index-${image##*/}""#)]);
    let dockerfile = machine.file("Dockerfile");
    let before = fs::read_to_string(root("Dockerfile")).unwrap();
    fs::write(&dockerfile, &before).unwrap();
    let renew = || machine.run(root("supply-chain/base-images"), &[dockerfile.to_str().unwrap()], &[]);
    let unchanged = |cause: &str| {
        let output = renew();
        assert!(!output.status.success() && said(&output).contains(cause), "{output:?}");
        assert_eq!(fs::read_to_string(&dockerfile).unwrap(), before);
    };
    unchanged("rust:1-bookworm: the registry names no image");
    fs::write(machine.file("index-rust:1-bookworm"), INDEX).unwrap();
    unchanged("cc-debian12:nonroot: the registry names no image");
    fs::write(machine.file("index-cc-debian12:nonroot"), INDEX.replace("arm64", "s390x")).unwrap();
    unchanged("cc-debian12:nonroot: no image for linux/arm64");
    fs::write(machine.file("index-cc-debian12:nonroot"), INDEX).unwrap();
    for renewed in [renew(), renew()] {
        assert!(renewed.status.success(), "{renewed:?}");
        let after = fs::read_to_string(&dockerfile).unwrap();
        let changed: Vec<_> = after.lines().zip(before.lines()).filter(|(after, before)| after != before).collect();
        assert_eq!(after.lines().count(), before.lines().count());
        assert_eq!(changed.len(), 2, "{changed:?}");
        for (after, before) in changed {
            let (tag, _) = before.split_once('@').unwrap_or((before, ""));
            assert_eq!(after, format!("{tag}@{INDEX_DIGEST}"));
        }
    }
}

/// A database in cargo-deny's cache, with one commit of this age.
fn snapshot(machine: &Machine, url: &str, days: u32) {
    let path = machine.file(".cargo/advisory-dbs/advisory-db");
    let path = path.to_str().unwrap();
    let script = r#"rm -rf "$1" && git init --quiet "$1" && cd "$1" && git remote add origin "$2" &&
        export GIT_COMMITTER_DATE=$(date --date "$3 days ago 1 hour ago") &&
        git -c user.name=a -c user.email=a@example commit --quiet --allow-empty --message one"#;
    let mut command = Command::new("bash");
    let status = command.args(["-c", script, "bash", path, url, &days.to_string()]).status().unwrap();
    assert!(status.success());
}

#[test]
fn no_advisories_are_claimed_that_no_recent_database_rules_out() {
    const URL: &str = "https://github.com/RustSec/advisory-db";
    let deny = r#"case "$*" in *"fetch db"*) [[ -e reachable ]] ;; *check*) [[ ! -e faulty ]] ;; esac"#;
    let machine = Machine::with(&[("cargo-deny", deny)]);
    let deny = machine.file("cargo-deny");
    let check = |code: i32, expected: &str| {
        let output = machine.run(root("supply-chain/advisories"), &[deny.to_str().unwrap()], &[]);
        let said = said(&output);
        assert!(output.status.code() == Some(code) && said.contains(expected), "{code} {expected}: {output:?}");
        assert_eq!(said.contains("advisories: no known fault"), code == 0, "{said}");
    };
    check(3, "NOTHING WAS CHECKED");
    snapshot(&machine, "https://example.com/other", 1);
    check(3, "NOTHING WAS CHECKED");
    snapshot(&machine, URL, 30);
    check(0, "30 days old");
    snapshot(&machine, URL, 31);
    check(4, "NOT UP TO DATE");
    fs::write(machine.file("reachable"), "").unwrap();
    check(4, "NOT UP TO DATE");
    fs::write(machine.file("faulty"), "").unwrap();
    check(1, "the check failed");
}

/// A copy of what `make image` reads, with docker and cargo that record their calls.
fn image_builder() -> Machine {
    let cargo =
        r#"echo "cargo $*" >>calls; mkdir -p target/release; cp "${PROGRAM:-/bin/true}" target/release/image-pipeline"#;
    let docker = r#"[[ $1 == info ]] || echo "docker $*" >>calls"#;
    let uname = r#"echo "Linux ${MACHINE:-x86_64}""#;
    let machine = Machine::with(&[("docker", docker), ("cargo", cargo), ("uname", uname)]);
    let copy = [
        "-c",
        r#"mkdir "$2/tests" && cp -r "$1/tests/cluster" "$2/tests" && cp -r "$1/supply-chain" "$1/Dockerfile" "$2""#,
    ];
    let mut command = Command::new("bash");
    let command = command.args(copy).arg("bash").arg(support::repository()).arg(machine.0.path());
    assert!(command.status().unwrap().success());
    machine
}

#[test]
fn an_image_is_built_from_pinned_images_or_those_that_the_user_names() {
    let machine = image_builder();
    let build = |settings: &[(&str, &str)]| {
        fs::write(machine.file("calls"), "").unwrap();
        let settings = [&[("IMAGE", "registry.example/a:1")], settings].concat();
        let output = machine.run(machine.file("tests/cluster/make-image"), &[], &settings);
        (output.status.success(), said(&output), fs::read_to_string(machine.file("calls")).unwrap())
    };
    let (built, _, calls) = build(&[]);
    assert!(built && calls.starts_with("docker build") && !calls.contains("BASE="), "{calls}");

    let dockerfile = fs::read_to_string(machine.file("Dockerfile")).unwrap();
    for (name, prebuilt) in [("BASE", "prebuilt"), ("BUILDER", "")] {
        let pin = |line: &str| line.starts_with(&format!("ARG {name}="));
        let cut = |line: &str| line.split('@').next().unwrap().to_owned();
        let lines = dockerfile.lines().map(|line| if pin(line) { cut(line) } else { line.to_owned() });
        fs::write(machine.file("Dockerfile"), lines.collect::<Vec<_>>().join("\n")).unwrap();
        let (built, said, calls) = build(&[("BINARY", prebuilt)]);
        assert!(!built && calls.is_empty() && said.contains(&format!("does not pin {name}")), "{said}");
        let (built, _, calls) = build(&[("BINARY", prebuilt), (name, "mine")]);
        assert!(built && calls.contains(&format!("--build-arg {name}=mine")), "{calls}");
    }
    fs::write(machine.file("Dockerfile"), &dockerfile).unwrap();

    let (built, _, calls) = build(&[("BINARY", "prebuilt"), ("PLATFORM", "linux/arm64"), ("MACHINE", "aarch64")]);
    assert!(built && calls.contains("--platform linux/arm64") && calls.contains("--target prebuilt"), "{calls}");
    let (built, said, _) = build(&[("PLATFORM", "linux/amd64"), ("MACHINE", "aarch64")]);
    assert!(!built && said.contains("PLATFORM=linux/amd64 can't be built on Linux aarch64"), "{said}");

    let newer = [fs::read("/bin/true").unwrap(), b"GLIBC_2.99".to_vec()].concat();
    fs::write(machine.file("newer"), newer).unwrap();
    let (built, said, calls) = build(&[("BINARY", "prebuilt"), ("PROGRAM", "newer")]);
    assert!(!built && said.contains("needs a newer C library") && !calls.contains("docker build"), "{said}");
}
