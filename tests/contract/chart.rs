//! The chart's contract: the operator accepts its command line, it grants exactly the rights listed here, and its
//! rendered objects are strict, restricted and follow each value. Rendering needs helm: $HELM, a helm on the PATH,
//! or the helm built by tests/cluster/build.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use clap::Parser;
use image_pipeline::{controller, probe};
use serde_json::Value;

mod admission;
mod files;
mod network;
mod objects;
mod pod;
mod prometheus;
mod queries;
mod rights;
mod values;

/// The subcommands of `main` that the chart uses.
#[derive(Parser)]
enum Cli {
    Controller(controller::Args),
    Probe(probe::Args),
}

const REPOSITORY: &str = "image.repository=registry.example:5000/team/image-pipeline";

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn chart(path: &str) -> String {
    std::fs::read_to_string(root("charts/image-pipeline").join(path)).unwrap()
}

fn yaml(text: &str) -> Value {
    serde_yaml::from_str(text).unwrap()
}

/// The first helm that runs: $HELM, a helm on the PATH, or the helm in the cache of the tests' cluster.
fn helm() -> OsString {
    let runs = |program: &OsString| Command::new(program).arg("version").output().is_ok_and(|ran| ran.status.success());
    let paths = Command::new(root("tests/cluster/paths")).output().unwrap();
    let built = String::from_utf8(paths.stdout).unwrap().lines().nth(1).map(|bin| Path::new(bin).join("helm").into());
    let places = [std::env::var_os("HELM"), Some("helm".into()), built];
    places.into_iter().flatten().find(runs).expect("no helm: install it, name it in HELM, or run tests/cluster/build")
}

fn run_helm(command: &[&str], values: &[&str]) -> Output {
    let set = values.iter().flat_map(|value| ["--set", value]);
    let chart = root("charts/image-pipeline");
    Command::new(helm()).args(command).arg(chart).args(["--kube-version", "1.30.0"]).args(set).output().unwrap()
}

/// The objects that the chart renders with `values`, in order.
fn render(values: &[&str]) -> Vec<Value> {
    let output = run_helm(&["template", "image-pipeline", "--namespace", "operators"], values);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_yaml::Deserializer::from_slice(&output.stdout)
        .map(|document| serde::Deserialize::deserialize(document).unwrap())
        .filter(|document: &Value| !document.is_null())
        .collect()
}

fn rendered(kind: &str, values: &[&str]) -> Value {
    render(values).into_iter().find(|object| object["kind"] == kind).expect(kind)
}

/// The operator's pod template.
fn template(values: &[&str]) -> Value {
    rendered("Deployment", values)["spec"]["template"].clone()
}

fn container(values: &[&str]) -> Value {
    template(values)["spec"]["containers"][0].clone()
}

/// Parses a container's command line.
fn command_line(container: &Value) -> Cli {
    let line = container["args"].as_array().unwrap().iter().map(|argument| argument.as_str().unwrap());
    Cli::try_parse_from(std::iter::once("image-pipeline").chain(line)).unwrap()
}

fn arguments(container: &Value) -> controller::Args {
    let Cli::Controller(args) = command_line(container) else { panic!("{container} is no operator") };
    args
}

fn refusal(values: &[&str]) -> String {
    let output = run_helm(&["template", "image-pipeline"], values);
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

fn kinds(objects: &[Value]) -> Vec<&str> {
    objects.iter().map(|object| object["kind"].as_str().unwrap()).collect()
}
