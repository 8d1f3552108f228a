//! Reads the one ImagePipeline in a YAML file that may hold other manifests. Parsing is strict: unknown fields and
//! values outside the schema's bounds are errors. Reports the fields that only the operator uses.

use std::path::{Path, PathBuf};

use kube::CustomResourceExt as _;
use kube_cel::Validator;
use serde::Deserialize as _;
use serde_json::Value;

use crate::api::ImagePipeline;

mod bounds;
pub mod secrets;

/// Fields that only the operator uses: the number of pods and the pod template.
const OF_THE_OPERATOR: [&str; 10] = [
    "/spec/scaling",
    "/spec/replicas",
    "/spec/paused",
    "/spec/consumer/resources",
    "/spec/consumer/serviceAccountName",
    "/spec/consumer/nodeSelector",
    "/spec/consumer/tolerations",
    "/spec/consumer/topologySpreadConstraints",
    "/spec/consumer/priorityClassName",
    "/spec/destination/s3/identity",
];

#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("can't read {path:?} (--file): {source}")]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{path:?} is not YAML: {source}")]
    NotYaml { path: PathBuf, source: serde_yaml::Error },
    /// No ImagePipeline, or several.
    #[error("{path:?} holds {count} ImagePipelines of apiVersion greench.dev/v1alpha1; expected exactly one")]
    NotOne { path: PathBuf, count: usize },
    #[error("can't parse the ImagePipeline in {path:?}: {detail}; compare it with `image-pipeline crd`")]
    Invalid { path: PathBuf, detail: String },
    /// Values that an API server would reject.
    #[error("the ImagePipeline in {path:?} is invalid: {refusals}")]
    Refused {
        path: PathBuf,
        /// The invalid values and their limits.
        refusals: String,
    },
    #[error("the ImagePipeline in {path:?} has unknown fields: {fields}; correct or remove them")]
    Unknown {
        path: PathBuf,
        /// Paths of the fields.
        fields: String,
    },
}

/// What an API server would reject: values outside the schema's bounds, and values that break a rule of the schema.
fn refusals(manifest: &Value) -> Vec<String> {
    let definition = serde_json::to_value(ImagePipeline::crd()).unwrap_or_default();
    let schema = definition.pointer("/spec/versions/0/schema/openAPIV3Schema").unwrap_or_default();
    let spec = schema.pointer("/properties/spec").unwrap_or_default();
    let mut refusals = bounds::broken(spec, manifest.get("spec").unwrap_or_default(), "spec");
    if let Err(errors) = Validator::new().validate(schema, manifest, None) {
        refusals.extend(errors.into_vec().into_iter().map(|error| error.message));
    }
    refusals
}

/// The ImagePipeline in a file, and the paths of its fields that only the operator uses.
pub fn read(path: &Path) -> Result<(ImagePipeline, Vec<&'static str>), ManifestError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| ManifestError::Unreadable { path: path.to_owned(), source })?;
    parse(&text, path)
}

fn parse(text: &str, path: &Path) -> Result<(ImagePipeline, Vec<&'static str>), ManifestError> {
    let path = path.to_owned();
    let documents: Result<Vec<Value>, _> = serde_yaml::Deserializer::from_str(text).map(Value::deserialize).collect();
    let documents = match documents {
        Ok(documents) => documents,
        Err(source) => return Err(ManifestError::NotYaml { path, source }),
    };
    let is_one =
        |document: &Value| document["kind"] == "ImagePipeline" && document["apiVersion"] == "greench.dev/v1alpha1";
    let found: Vec<Value> = documents.into_iter().filter(is_one).collect();
    let count = found.len();
    let Ok([mut manifest]) = <[Value; 1]>::try_from(found) else {
        return Err(ManifestError::NotOne { path, count });
    };
    // Already checked, and not fields of the Rust type.
    for field in ["apiVersion", "kind"] {
        manifest.as_object_mut().map(|manifest| manifest.remove(field));
    }
    let mut unknown = Vec::new();
    let pipeline = serde_ignored::deserialize(&manifest, |field| unknown.push(field.to_string()));
    match pipeline {
        Err(error) => Err(ManifestError::Invalid { path, detail: serde_json::Error::to_string(&error) }),
        Ok(_) if !unknown.is_empty() => Err(ManifestError::Unknown { path, fields: unknown.join(", ") }),
        Ok(pipeline) => {
            let refusals = refusals(&manifest);
            if !refusals.is_empty() {
                return Err(ManifestError::Refused { path, refusals: refusals.join("; ") });
            }
            let given = OF_THE_OPERATOR.into_iter().filter(|field| manifest.pointer(field).is_some());
            Ok((pipeline, given.collect()))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const HEAD: &str = "apiVersion: greench.dev/v1alpha1\nkind: ImagePipeline\nmetadata: {name: tiles}\n";
    const SPEC: &str = "  source: {rabbitmq: {queue: tiles, rabbitmqClusterReference: {name: rabbit}}}\n  \
                        destination: {s3: {bucket: tiles}}\n";

    fn parsed(text: &str) -> Result<(ImagePipeline, Vec<&'static str>), String> {
        parse(text, Path::new("p.yaml")).map_err(|error| error.to_string())
    }

    #[test]
    fn the_one_pipeline_of_a_file_is_read_and_what_is_the_operators_is_told() {
        let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s3}\n---\n";
        let scaled = "  scaling: {maxReplicas: 3}\n  consumer: {concurrency: 2, serviceAccountName: tiles}\n";
        let (pipeline, without_meaning) = parsed(&format!("{secret}{HEAD}spec:\n{SPEC}{scaled}")).unwrap();
        assert_eq!(pipeline.spec.source.rabbitmq.queue, "tiles");
        assert_eq!(pipeline.spec.consumer.concurrency, Some(2));
        assert_eq!(without_meaning, ["/spec/scaling", "/spec/consumer/serviceAccountName"]);
        assert_eq!(parsed(&format!("{HEAD}spec:\n{SPEC}")).unwrap().1, [""; 0]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let one = format!("{HEAD}spec:\n{SPEC}");
        for (text, expected) in [
            ("a: [".to_owned(), "is not YAML"),
            (String::new(), "holds 0 ImagePipelines"),
            (one.replace("v1alpha1", "v1"), "holds 0 ImagePipelines"),
            (
                format!("{one}  failures: {{deliveryLimit: 1}}\n"),
                "spec.failures.deliveryLimit is 1, but must be at least 2",
            ),
            (format!("{one}  failures: {{parkingQueue: tiles}}\n"), "parkingQueue must not be the source queue"),
            (
                format!("{one}  failures: {{holdingTime: 500ms}}\n"),
                "failures.holdingTime must be a duration from 1s to 24h",
            ),
            (format!("{one}  scaling: {{minReplicas: 3, maxReplicas: 2}}\n"), "must not be greater than"),
            (
                one.replace("bucket: tiles", "bucket: tiles, prefix: /tiles"),
                "destination.s3.prefix must not begin with /",
            ),
            (format!("{one}  consumer: {{concurrency: 0}}\n"), "spec.consumer.concurrency is 0"),
            (one.replace("queue: tiles,", "queue: tiles, prefetch: 0,"), "spec.source.rabbitmq.prefetch is 0"),
            (format!("{one}---\n{one}"), "holds 2 ImagePipelines"),
            (one.replace("queue: tiles", "queue: 7"), "invalid type"),
            (
                one.replace("bucket: tiles", "bucket: tiles, metadata: {site: \"a\\nb\"}"),
                "spec.destination.s3.metadata.site does not match ^[ -~]*$",
            ),
            (one.replace("bucket: tiles", "bucket: tiles, regoin: x"), "spec.destination.s3.regoin"),
            (format!("{one}  scalling: {{}}\n"), "spec.scalling"),
        ] {
            let error = parsed(&text).unwrap_err();
            assert!(error.contains(expected), "{expected}: {error}");
        }
        let missing = read(Path::new("/nonexistent.yaml")).unwrap_err().to_string();
        assert!(missing.contains("can't read \"/nonexistent.yaml\" (--file)"), "{missing}");
    }
}
