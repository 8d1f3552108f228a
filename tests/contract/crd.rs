//! The contract of the resource: the CRD in the repository equals the code's, its rules accept valid specs and name
//! the field in each refusal, and the examples pass.

use std::path::Path;

use image_pipeline::api::ImagePipeline;
use kube::CustomResourceExt;
use serde_json::{Value, json};
use servers::objects;

/// One file for users who install only the CRD, one for helm, which packages the chart's folder.
const FILES: [&str; 2] = ["crds/imagepipelines.yaml", "charts/image-pipeline/files/imagepipelines.yaml"];

fn schema() -> Value {
    let crd = serde_json::to_value(ImagePipeline::crd()).unwrap();
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

/// Messages of the rules that refuse `object`, as an API server would return them.
pub fn refusals(object: &Value) -> Vec<String> {
    match kube_cel::Validator::new().validate(&schema(), object, None) {
        Ok(()) => Vec::new(),
        Err(errors) => errors.as_slice().iter().map(|error| error.message.clone()).collect(),
    }
}

fn pipeline(change: impl FnOnce(&mut Value)) -> Value {
    let mut object = objects::pipeline(
        "forest",
        "forest-tiles",
        &json!({ "source": { "rabbitmq": { "queue": "segmented-images" } } }),
    );
    change(&mut object);
    object
}

/// Sets fields of `destination.s3`.
fn s3(pipeline: &mut Value, fields: Value) {
    let Value::Object(fields) = fields else { panic!("{fields} is no object") };
    pipeline["spec"]["destination"]["s3"].as_object_mut().unwrap().extend(fields);
}

fn message(pipeline: &mut Value, image_path: &str, name_path: Option<&str>) {
    pipeline["spec"]["message"] = json!({ "imagePath": image_path });
    if let Some(name_path) = name_path {
        pipeline["spec"]["message"]["namePath"] = json!(name_path);
    }
}

/// Sets `consumer.resources`.
fn resources(pipeline: &mut Value, requests: &[(&str, &str)], limits: &[(&str, &str)]) {
    let map = |pairs: &[(&str, &str)]| -> Value { pairs.iter().map(|(name, is)| (*name, json!(is))).collect() };
    pipeline["spec"]["consumer"] = json!({ "resources": { "requests": map(requests), "limits": map(limits) } });
}

/// Metadata with this total size in bytes, names and values.
fn metadata_of(bytes: usize) -> Value {
    let full = "v".repeat(256);
    json!({ "a": full, "b": full, "c": full, "d": "v".repeat(bytes - 3 * 257 - 1) })
}

#[test]
fn the_files_are_what_the_types_say() {
    let printed = serde_yaml::to_string(&ImagePipeline::crd()).unwrap();
    for file in FILES {
        let found = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
        assert!(found == printed, "{file} is stale: cargo run -- crd | tee {} > {}", FILES[0], FILES[1]);
    }
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

/// Sets every field that users can set, none to its default.
#[test]
fn a_pipeline_of_every_field_is_accepted_and_read_as_it_is() {
    let secret = |name: &str| json!({ "name": name });
    let spec = json!({
        "source": { "rabbitmq": {
            "queue": "segmented-images",
            "vhost": "north",
            "rabbitmqClusterReference": { "connectionSecret": secret("rabbit") },
            "credentialsSecret": secret("reader"),
            "tls": { "caSecret": secret("rabbit-ca"), "clientCertSecret": secret("rabbit-client") },
            "prefetch": 20,
            "maxBodyBytes": "8Mi",
        } },
        "message": { "encoding": "Raw", "imagePath": "/tile/png", "namePath": "/tile/name" },
        "image": { "encoding": "Balanced", "reencode": "WhenNotPng", "maxPixels": 4_000_000 },
        "destination": { "s3": {
            "bucket": "bucket-greench",
            "prefix": "tiles/",
            "keyTemplate": "{year}/{metadata.site}/{stem}-{digest}.png",
            "region": "eu-central-1",
            "endpoint": "https://s3.storage.svc:7070",
            "forcePathStyle": true,
            "tls": { "caSecret": secret("store-ca") },
            "credentialsSecret": secret("store"),
            "identity": "Instance",
            "onConflict": "ContentAddressed",
            "serverSideEncryption": { "algorithm": "aws:kms", "kmsKeyId": "alias/forest" },
            "storageClass": "STANDARD_IA",
            "tags": { "team": "forest" },
            "metadata": { "site": "north" },
            "cacheControl": "max-age=3600",
            "checksum": "CRC32C",
            "expectedBucketOwner": "123456789012",
        } },
        "failures": { "policy": "DeadLetter", "parkingQueue": "broken", "deliveryLimit": 3, "holdingTime": "90s" },
        "scaling": {
            "minReplicas": 1, "maxReplicas": 9, "messagesPerReplica": 7, "pollInterval": "5s", "scaleDownAfter": "30s",
        },
        "replicas": 3,
        "paused": true,
        "consumer": {
            "concurrency": 3,
            "resources": { "requests": { "cpu": "1" }, "limits": { "cpu": "2", "memory": "2Gi" } },
            "serviceAccountName": "tiles",
            "nodeSelector": { "pool": "images" },
            "tolerations": [{ "key": "pool", "operator": "Exists" }],
            "topologySpreadConstraints": [
                { "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway" },
            ],
            "priorityClassName": "batch",
            "terminationGracePeriodSeconds": 90,
        },
    });
    let object = pipeline(|pipeline| pipeline["spec"] = spec.clone());
    assert_eq!(refusals(&object), Vec::<String>::new());
    let read = serde_json::from_value::<ImagePipeline>(object).unwrap();
    let written = serde_json::to_value(&read.spec).unwrap();
    fn fields(path: &str, value: &Value, schema: &Value, missing: &mut Vec<String>) {
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            match value.get(name) {
                Some(value) => fields(&format!("{path}.{name}"), value, field, missing),
                // Exactly one of the two may be set.
                None if path.ends_with("rabbitmqClusterReference") || name == "drainWithin" => {}
                None => missing.push(format!("{path}.{name}")),
            }
        }
    }
    let mut missing = Vec::new();
    fields("spec", &spec, &schema()["properties"]["spec"], &mut missing);
    assert_eq!(missing, Vec::<String>::new(), "add new fields to this example");
    // Durations are serialized in a longer form.
    let without_durations = |mut value: Value| {
        for (part, field) in [("failures", "holdingTime"), ("scaling", "pollInterval"), ("scaling", "scaleDownAfter")] {
            value[part].as_object_mut().unwrap().remove(field);
        }
        value
    };
    assert_eq!(without_durations(written), without_durations(spec));
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
        ("destination.s3.keyTemplate has an unknown field", |p| s3(p, json!({ "keyTemplate": "{nam}" }))),
        ("destination.s3.keyTemplate has an unknown field", |p| s3(p, json!({ "keyTemplate": "{name" }))),
        ("destination.s3.keyTemplate has an unknown field", |p| s3(p, json!({ "keyTemplate": "name}" }))),
        ("destination.s3.keyTemplate has an unknown field", |p| s3(p, json!({ "keyTemplate": "{{name}}" }))),
        ("destination.s3.keyTemplate has an unknown field", |p| s3(p, json!({ "keyTemplate": "{metadata.}" }))),
        ("destination.s3.keyTemplate has an unknown field", |p| s3(p, json!({ "keyTemplate": "{metadata.a.b}" }))),
        ("destination.s3.keyTemplate has an unknown field", |p| s3(p, json!({ "keyTemplate": "{name}{now}" }))),
        ("destination.s3.keyTemplate must not begin", |p| s3(p, json!({ "keyTemplate": "/{name}" }))),
        ("destination.s3.keyTemplate must not begin", |p| s3(p, json!({ "keyTemplate": "{name}/" }))),
        ("destination.s3.keyTemplate must not begin", |p| s3(p, json!({ "keyTemplate": "a//{name}" }))),
        ("destination.s3.keyTemplate must not begin", |p| s3(p, json!({ "keyTemplate": "../{name}" }))),
        ("destination.s3.keyTemplate must not begin", |p| s3(p, json!({ "keyTemplate": "a/./{name}" }))),
        ("destination.s3.keyTemplate must not begin", |p| s3(p, json!({ "keyTemplate": "{name}/.." }))),
        ("destination.s3.onConflict", |p| s3(p, json!({ "onConflict": "ContentAddressed" }))),
        ("destination.s3.onConflict", |p| {
            s3(p, json!({ "onConflict": "ContentAddressed", "keyTemplate": "{name}-digest" }));
        }),
        ("destination.s3.serverSideEncryption.kmsKeyId", |p| {
            s3(p, json!({ "serverSideEncryption": { "algorithm": "AES256", "kmsKeyId": "alias/forest" } }));
        }),
        ("destination.s3.tags", |p| s3(p, json!({ "tags": { "": "north" } }))),
        ("destination.s3.tags", |p| s3(p, json!({ "tags": { "k".repeat(129): "north" } }))),
        ("destination.s3.metadata", |p| s3(p, json!({ "metadata": { "Site": "north" } }))),
        ("destination.s3.metadata", |p| s3(p, json!({ "metadata": { "-site": "north" } }))),
        ("destination.s3.metadata", |p| s3(p, json!({ "metadata": { "s".repeat(65): "north" } }))),
        ("destination.s3.metadata", |p| s3(p, json!({ "metadata": { "image-pipeline-digest": "0" } }))),
        ("destination.s3.metadata", |p| s3(p, json!({ "metadata": { "image-pipeline-traceparent": "0" } }))),
        ("destination.s3.metadata has more", |p| s3(p, json!({ "metadata": metadata_of(1025) }))),
        ("message.imagePath and message.namePath", |p| message(p, "/image_metadata/image_name", None)),
        ("message.imagePath and message.namePath", |p| message(p, "/image_metadata", None)),
        ("message.imagePath and message.namePath", |p| message(p, "/a/b", Some("/a/b/c"))),
        ("message.imagePath and message.namePath", |p| message(p, "/a/b/c", Some("/a/b"))),
        ("source.rabbitmq.maxBodyBytes must be", |p| p["spec"]["source"]["rabbitmq"]["maxBodyBytes"] = json!("1Gi")),
        ("source.rabbitmq.maxBodyBytes must be", |p| p["spec"]["source"]["rabbitmq"]["maxBodyBytes"] = json!("")),
        ("failures.holdingTime must be", |p| p["spec"]["failures"] = json!({ "holdingTime": "a while" })),
        ("failures.holdingTime", |p| p["spec"]["failures"] = json!({ "holdingTime": "999ms" })),
        ("failures.holdingTime", |p| p["spec"]["failures"] = json!({ "holdingTime": "24h1s" })),
        ("failures.parkingQueue", |p| p["spec"]["failures"] = json!({ "parkingQueue": "segmented-images" })),
        ("failures.parkingQueue", |p| p["spec"]["source"]["rabbitmq"]["queue"] = json!("q".repeat(249))),
        ("scaling.minReplicas", |p| p["spec"]["scaling"] = json!({ "minReplicas": 5, "maxReplicas": 4 })),
        ("scaling.minReplicas", |p| p["spec"]["scaling"] = json!({ "minReplicas": 21 })),
        ("scaling.pollInterval", |p| p["spec"]["scaling"] = json!({ "pollInterval": "100ms" })),
        ("scaling.pollInterval", |p| p["spec"]["scaling"] = json!({ "pollInterval": "1h" })),
        ("scaling.drainWithin", |p| {
            p["spec"]["scaling"] = json!({ "drainWithin": "60s", "messagesPerReplica": 50 });
        }),
        ("scaling.pollInterval must be", |p| p["spec"]["scaling"] = json!({ "pollInterval": "2" })),
        ("scaling.pollInterval must be", |p| p["spec"]["scaling"] = json!({ "pollInterval": "" })),
        ("scaling.drainWithin must be", |p| p["spec"]["scaling"] = json!({ "drainWithin": "-60s" })),
        ("scaling.drainWithin", |p| p["spec"]["scaling"] = json!({ "drainWithin": "999ms" })),
        ("scaling.drainWithin", |p| p["spec"]["scaling"] = json!({ "drainWithin": "25h" })),
        ("scaling.scaleDownAfter", |p| p["spec"]["scaling"] = json!({ "scaleDownAfter": "25h" })),
        ("consumer.resources.limits.memory", |p| resources(p, &[("memory", "32Mi")], &[("memory", "63Mi")])),
        ("consumer.resources.limits.memory", |p| resources(p, &[], &[("memory", "20M")])),
        ("consumer.resources.requests", |p| resources(p, &[("memory", "128Mi")], &[("memory", "127Mi")])),
        ("consumer.resources.requests", |p| resources(p, &[("cpu", "1")], &[("cpu", "999m")])),
        ("consumer.resources.requests", |p| {
            resources(p, &[("ephemeral-storage", "2Gi")], &[("ephemeral-storage", "1Gi")]);
        }),
        ("scaling.scaleDownAfter", |p| p["spec"]["scaling"] = json!({ "scaleDownAfter": "1 minute" })),
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
        |p| s3(p, json!({ "keyTemplate": "..{stem}/.{digest}/{metadata.Site_7-b}.." })),
        |p| s3(p, json!({ "keyTemplate": "{year}/{month}/{day}/{hour}/{name}" })),
        |p| s3(p, json!({ "keyTemplate": "a fixed key/木.png" })),
        |p| s3(p, json!({ "onConflict": "Fail" })),
        |p| s3(p, json!({ "onConflict": "ContentAddressed", "keyTemplate": "{stem}-{digest}.png" })),
        |p| s3(p, json!({ "serverSideEncryption": { "algorithm": "AES256" } })),
        |p| s3(p, json!({ "serverSideEncryption": { "algorithm": "aws:kms" } })),
        |p| s3(p, json!({ "tags": { "k".repeat(128): "" }, "metadata": { "s".repeat(64): "" } })),
        |p| s3(p, json!({ "metadata": metadata_of(1024) })),
        |p| message(p, "/image_metadata/image_name_2", None),
        |p| message(p, "/a~1b/~0/é", Some("/a/b")),
        |p| resources(p, &[("memory", "64Mi")], &[("memory", "64Mi")]),
        |p| resources(p, &[("cpu", "100m")], &[("cpu", "0.1"), ("memory", "0.1Gi")]),
        |p| p["spec"]["consumer"] = json!({ "resources": { "requests": { "cpu": 1 }, "limits": { "cpu": 1 } } }),
        |p| p["spec"]["consumer"] = json!({ "resources": { "limits": { "memory": 4_294_967_296_i64 } } }),
        |p| p["spec"]["failures"] = json!({ "holdingTime": "1s" }),
        |p| p["spec"]["failures"] = json!({ "holdingTime": "24h" }),
        |p| p["spec"]["scaling"] = json!({ "drainWithin": "1s" }),
        |p| p["spec"]["scaling"] = json!({ "drainWithin": "24h", "minReplicas": 1 }),
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

/// The API server drops a null where the schema does not allow one, so `replicas: null` returns the size to
/// automatic scaling.
#[test]
fn the_size_can_be_given_through_the_scale_subresource_and_is_never_null() {
    let crd = serde_json::to_value(ImagePipeline::crd()).unwrap();
    let version = &crd["spec"]["versions"][0];
    let scale = json!({
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    });
    assert_eq!(version["subresources"]["scale"], scale);
    let properties = &schema()["properties"];
    let replicas = &properties["spec"]["properties"]["replicas"];
    assert_eq!((&replicas["type"], &replicas["nullable"]), (&json!("integer"), &Value::Null));
    assert_eq!((&replicas["minimum"], &replicas["default"]), (&json!(0.0), &Value::Null));
    for field in ["messagesPerReplica", "drainWithin"] {
        let field = &properties["spec"]["properties"]["scaling"]["properties"][field];
        // With a default, the API server would set both fields.
        assert_eq!((&field["nullable"], &field["default"]), (&Value::Null, &Value::Null));
    }
    let status = &properties["status"]["properties"];
    assert_eq!((&status["replicas"]["type"], &status["selector"]["type"]), (&json!("integer"), &json!("string")));
}

/// An empty default has no effect, but adds a line to the output of `kubectl describe`.
#[test]
fn no_default_of_the_spec_is_empty() {
    fn empty(path: &str, schema: &Value, found: &mut Vec<String>) {
        if schema.get("default").is_some_and(|default| *default == json!("") || *default == json!({})) {
            found.push(path.to_owned());
        }
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            empty(&format!("{path}.{name}"), field, found);
        }
    }
    let mut found = Vec::new();
    empty("spec", &schema()["properties"]["spec"], &mut found);
    assert_eq!(found, Vec::<String>::new());
}

/// An empty queue name is refused for its length; the rule about the parking queue must not fire.
#[test]
fn an_empty_queue_is_not_taken_for_the_parking_queue() {
    assert_eq!(refusals(&pipeline(|p| p["spec"]["source"]["rabbitmq"]["queue"] = json!(""))), Vec::<String>::new());
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

/// A user who may write the resource controls only those parts of the pods that have a field.
#[test]
fn no_field_reaches_another_namespace_or_the_pods_themselves() {
    fn reaching(path: &str, schema: &Value, found: &mut Vec<String>) {
        const REACHING: [&str; 9] = [
            "namespace",
            "namespaces",
            "command",
            "args",
            "env",
            "containers",
            "volumes",
            "securityContext",
            "hostNetwork",
        ];
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            if REACHING.contains(&name.as_str()) {
                found.push(format!("{path}.{name}"));
            }
            reaching(&format!("{path}.{name}"), field, found);
        }
        if schema["items"].is_object() {
            reaching(&format!("{path}[]"), &schema["items"], found);
        }
    }
    let mut found = Vec::new();
    reaching("spec", &schema()["properties"]["spec"], &mut found);
    assert_eq!(found, Vec::<String>::new());
}
