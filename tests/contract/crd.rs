//! The resource's contract: the CRD in the repository is the one the code means, its rules accept
//! what works and name the field where they refuse, and the examples pass them.

use image_pipeline::api::ImagePipeline;
use kube::CustomResourceExt;
use serde_json::{Value, json};

const CRD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/crds/imagepipelines.yaml");

fn schema() -> Value {
    let crd = serde_json::to_value(ImagePipeline::crd()).unwrap();
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

/// The messages of the rules that refuse `object`, as the API server would give them.
fn refusals(object: &Value) -> Vec<String> {
    match kube_cel::Validator::new().validate(&schema(), object, None) {
        Ok(()) => Vec::new(),
        Err(errors) => errors.as_slice().iter().map(|error| error.message.clone()).collect(),
    }
}

fn pipeline(change: impl FnOnce(&mut Value)) -> Value {
    let mut object = json!({
        "apiVersion": "greench.dev/v1alpha1",
        "kind": "ImagePipeline",
        "metadata": { "name": "forest-tiles" },
        "spec": {
            "source": { "rabbitmq": { "queue": "segmented-images", "rabbitmqClusterReference": { "name": "rabbit" } } },
            "destination": { "s3": { "bucket": "bucket-greench" } },
        },
    });
    change(&mut object);
    object
}

#[test]
fn the_file_is_what_the_types_say() {
    let printed = serde_yaml::to_string(&ImagePipeline::crd()).unwrap();
    let file = std::fs::read_to_string(CRD).unwrap();
    assert!(file == printed, "crds/imagepipelines.yaml is stale: cargo run -- crd > crds/imagepipelines.yaml");
}

#[test]
fn the_smallest_pipeline_and_the_examples_are_accepted() {
    assert_eq!(refusals(&pipeline(|_| {})), Vec::<String>::new());
    let examples = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/examples")).unwrap();
    let mut seen = 0;
    for path in
        examples.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|end| end == "yaml"))
    {
        for document in serde_yaml::Deserializer::from_reader(std::fs::File::open(&path).unwrap()) {
            let object: Value = serde::Deserialize::deserialize(document).unwrap();
            if object["kind"] == "ImagePipeline" {
                assert_eq!(refusals(&object), Vec::<String>::new(), "{}", path.display());
                serde_json::from_value::<ImagePipeline>(object).unwrap();
                seen += 1;
            }
        }
    }
    assert!(seen > 0, "no ImagePipeline in examples/");
}

#[test]
fn every_rule_names_the_field_it_refuses() {
    type Change = fn(&mut Value);
    let cases: &[(&str, Change)] = &[
        ("metadata.name", |p| p["metadata"]["name"] = json!("n".repeat(51))),
        ("source.rabbitmq.rabbitmqClusterReference", |p| {
            p["spec"]["source"]["rabbitmq"]["rabbitmqClusterReference"] = json!({});
        }),
        ("source.rabbitmq.rabbitmqClusterReference", |p| {
            p["spec"]["source"]["rabbitmq"]["rabbitmqClusterReference"]["connectionSecret"] =
                json!({ "name": "north" });
        }),
        ("destination.s3.prefix", |p| p["spec"]["destination"]["s3"]["prefix"] = json!("/tiles")),
        ("destination.s3.prefix", |p| p["spec"]["destination"]["s3"]["prefix"] = json!("tiles/../")),
        ("destination.s3.prefix", |p| p["spec"]["destination"]["s3"]["prefix"] = json!("./tiles")),
        ("failures.parkingQueue", |p| p["spec"]["failures"] = json!({ "parkingQueue": "segmented-images" })),
        ("failures.parkingQueue", |p| p["spec"]["source"]["rabbitmq"]["queue"] = json!("q".repeat(249))),
        ("scaling.minReplicas", |p| p["spec"]["scaling"] = json!({ "minReplicas": 5, "maxReplicas": 4 })),
        ("scaling.minReplicas", |p| p["spec"]["scaling"] = json!({ "minReplicas": 21 })),
        ("scaling.pollInterval", |p| p["spec"]["scaling"] = json!({ "pollInterval": "100ms" })),
        ("scaling.pollInterval", |p| p["spec"]["scaling"] = json!({ "pollInterval": "1h" })),
        ("scaling.scaleDownAfter", |p| p["spec"]["scaling"] = json!({ "scaleDownAfter": "25h" })),
    ];
    for (field, change) in cases {
        let refused = refusals(&pipeline(change));
        assert!(refused.len() == 1 && refused[0].contains(field), "{field}: {refused:?}");
    }
}

#[test]
fn what_is_near_a_limit_is_accepted() {
    type Change = fn(&mut Value);
    let cases: &[Change] = &[
        |p| p["metadata"]["name"] = json!("n".repeat(50)),
        |p| p["spec"]["destination"]["s3"]["prefix"] = json!("tiles..old/.hidden/"),
        |p| p["spec"]["scaling"] = json!({ "minReplicas": 20, "pollInterval": "500ms", "scaleDownAfter": "0s" }),
        |p| {
            p["spec"]["source"]["rabbitmq"]["queue"] = json!("q".repeat(255));
            p["spec"]["failures"] = json!({ "parkingQueue": "broken" });
        },
    ];
    for change in cases {
        assert_eq!(refusals(&pipeline(change)), Vec::<String>::new());
    }
}

#[test]
fn every_field_is_described() {
    fn undescribed(path: &str, schema: &Value, found: &mut Vec<String>) {
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            if field["description"].as_str().is_none_or(str::is_empty) {
                found.push(path.clone());
            }
            undescribed(&path, field, found);
        }
    }
    let mut found = Vec::new();
    undescribed("spec", &schema()["properties"]["spec"], &mut found);
    assert_eq!(found, Vec::<String>::new());
}
