//! The rows: for each field of the spec, values that the schema refuses, and bad values that only the operator
//! detects, with its report. tests/integration covers bad values that only a consumer detects, such as a missing
//! bucket.

pub struct Row {
    /// Path below `spec`.
    pub field: &'static str,
    /// Values that the API server refuses, as JSON.
    pub refused: &'static [&'static str],
    /// Bad values that the API server accepts.
    pub named: &'static [Trouble],
}

/// A bad value, and the condition that becomes false.
pub struct Trouble {
    /// The value as JSON, for a merge patch.
    pub bad: &'static str,
    pub condition: &'static str,
    /// Reason of the condition.
    pub reason: &'static str,
}

const fn row(field: &'static str, refused: &'static [&'static str]) -> Row {
    Row { field, refused, named: &[] }
}

const fn also(field: &'static str, refused: &'static [&'static str], named: &'static [Trouble]) -> Row {
    Row { field, refused, named }
}

const fn broker(bad: &'static str, reason: &'static str) -> Trouble {
    Trouble { bad, condition: "BrokerReachable", reason }
}

const fn pods(bad: &'static str, reason: &'static str) -> Trouble {
    Trouble { bad, condition: "ConsumersAvailable", reason }
}

const fn store() -> Trouble {
    Trouble { bad: NOWHERE, condition: "StorageAvailable", reason: "SecretNotFound" }
}

/// A name of no existing object.
const NOWHERE: &str = r#""nowhere""#;
const NO_NAME: &[&str] = &[r#""""#, "7"];
const NO_CHOICE: &[&str] = &[r#""Sometimes""#, "7", r#""""#];
const NO_DURATION: &[&str] = &[r#""soon""#, r#""-1s""#, "7", r#""""#];
const NO_TEXT: &[&str] = &["7"];

/// One row for every field.
pub const ROWS: &[Row] = &[
    row("consumer.concurrency", &["0", "257", r#""two""#]),
    also("consumer.nodeSelector", &[r#"{"pool": 7}"#, "7"], &[pods(r#"{"no label": "7"}"#, "DeploymentRefused")]),
    also("consumer.priorityClassName", NO_TEXT, &[pods(NOWHERE, "PodsRefused")]),
    also(
        "consumer.resources.limits",
        &[r#"{"memory": "much"}"#, r#"{"memory": "-1"}"#, "7", r#"{"memory": "63Mi"}"#],
        &[pods(r#"{"apples": "1"}"#, "DeploymentRefused")],
    ),
    also(
        "consumer.resources.requests",
        &[r#"{"memory": "much"}"#, r#"{"memory": "-1"}"#, "7", r#"{"memory": "1Ti"}"#],
        &[pods(r#"{"apples": "1"}"#, "DeploymentRefused")],
    ),
    also(
        "consumer.serviceAccountName",
        NO_TEXT,
        &[pods(NOWHERE, "PodsRefused"), pods(r#""No Name""#, "DeploymentRefused")],
    ),
    also(
        "consumer.tolerations",
        &[r#""all""#, r#"[{"key": 7}]"#],
        &[pods(r#"[{"operator": "Likes"}]"#, "DeploymentRefused")],
    ),
    also(
        "consumer.topologySpreadConstraints",
        &[r#""zone""#, r#"[{"topologyKey": "zone"}]"#],
        &[pods(
            r#"[{"maxSkew": 0, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}]"#,
            "DeploymentRefused",
        )],
    ),
    row("consumer.terminationGracePeriodSeconds", &["9", "3601"]),
    row("destination.s3.bucket", &[r#""b""#, r#""Bucket""#, r#""../etc""#, "null"]),
    row("destination.s3.cacheControl", &[r#""a\nb""#, "7"]),
    row("destination.s3.checksum", NO_CHOICE),
    also("destination.s3.credentialsSecret.name", NO_NAME, &[store()]),
    row("destination.s3.endpoint", &[r#""store""#, r#""ftp://store""#, r#""http://user@store""#]),
    row("destination.s3.expectedBucketOwner", &[r#""me""#, r#""12345678901""#]),
    row("destination.s3.forcePathStyle", &[r#""yes""#]),
    row("destination.s3.identity", &[r#""Node""#]),
    row("destination.s3.keyTemplate", &[r#""{clock}""#, r#""/{name}""#, r#""""#]),
    row("destination.s3.metadata", &[r#"{"Site": "north"}"#, r#"{"site": "ü"}"#]),
    row("destination.s3.onConflict", &[r#""Sometimes""#, r#""ContentAddressed""#]),
    row("destination.s3.prefix", &[r#""/tiles""#, r#""../""#]),
    row("destination.s3.region", &[r#""""#, r#""EU West""#]),
    row("destination.s3.serverSideEncryption.algorithm", &[r#""ROT13""#]),
    row("destination.s3.serverSideEncryption.kmsKeyId", &[r#""""#]),
    row("destination.s3.storageClass", &[r#""cold""#]),
    row("destination.s3.tags", &[r#"{"": "north"}"#, r#"{"a": 7}"#]),
    also("destination.s3.tls.caSecret.name", NO_NAME, &[store()]),
    row("failures.deliveryLimit", &["1", "1000001"]),
    row("failures.holdingTime", &[r#""0s""#, r#""25h""#, r#""soon""#]),
    row("failures.parkingQueue", NO_TEXT),
    row("failures.policy", NO_CHOICE),
    row("image.encoding", NO_CHOICE),
    row("image.maxPixels", &["0", "1000000001"]),
    row("image.reencode", NO_CHOICE),
    row("message.encoding", NO_CHOICE),
    row("message.imagePath", &[r#""image""#, r#""/image_metadata/image_name""#]),
    row("message.namePath", &[r#""name""#, r#""/image""#]),
    row("paused", &[r#""yes""#, "7"]),
    row("replicas", &["-1", "1001", r#""three""#]),
    row("scaling.drainWithin", &[r#""1s""#, r#""soon""#]),
    row("scaling.maxReplicas", &["0", "1001"]),
    row("scaling.messagesPerReplica", &["0", "1000001"]),
    row("scaling.minReplicas", &["-1", "21", "1001"]),
    row("scaling.pollInterval", &[r#""1ms""#, r#""1h""#, r#""soon""#]),
    row("scaling.scaleDownAfter", NO_DURATION),
    also("source.rabbitmq.credentialsSecret.name", NO_NAME, &[broker(NOWHERE, "SecretNotFound")]),
    row("source.rabbitmq.maxBodyBytes", &[r#""0""#, r#""1Gi""#, "7"]),
    row("source.rabbitmq.prefetch", &["0", "2001"]),
    also(
        "source.rabbitmq.queue",
        &[r#""""#, "null"],
        &[Trouble { bad: NOWHERE, condition: "QueueFound", reason: "QueueNotFound" }],
    ),
    also(
        "source.rabbitmq.rabbitmqClusterReference.connectionSecret.name",
        NO_NAME,
        &[broker(NOWHERE, "SecretNotFound")],
    ),
    // Together with `connectionSecret` the schema refuses it. In its place it names a Secret, too.
    row("source.rabbitmq.rabbitmqClusterReference.name", &[r#""rabbit""#, r#""""#]),
    also("source.rabbitmq.tls.caSecret.name", NO_NAME, &[broker(NOWHERE, "SecretNotFound")]),
    also("source.rabbitmq.tls.clientCertSecret.name", NO_NAME, &[broker(NOWHERE, "SecretNotFound")]),
    also("source.rabbitmq.vhost", &[r#""""#, "7"], &[broker(NOWHERE, "VhostNotFound")]),
];

/// A value for every field that differs from the pipeline's value and its default. The size stays 0.
pub const EVERYTHING: &str = r#"{
    "source": { "rabbitmq": {
        "queue": "others", "vhost": "north",
        "rabbitmqClusterReference": { "connectionSecret": { "name": "rabbit" } },
        "credentialsSecret": { "name": "reader" },
        "tls": { "caSecret": { "name": "rabbit-ca" }, "clientCertSecret": { "name": "rabbit-client" } },
        "prefetch": 20, "maxBodyBytes": "8Mi"
    } },
    "message": { "encoding": "Raw", "imagePath": "/tile/png", "namePath": "/tile/name" },
    "image": { "encoding": "Balanced", "reencode": "WhenNotPng", "maxPixels": 4000000 },
    "destination": { "s3": {
        "bucket": "others", "prefix": "tiles/", "keyTemplate": "{stem}-{digest}.png", "region": "eu-central-1",
        "endpoint": "https://s3.storage.svc:7070", "forcePathStyle": true, "tls": { "caSecret": { "name": "store-ca" } },
        "credentialsSecret": { "name": "store" }, "identity": "Instance", "onConflict": "ContentAddressed",
        "serverSideEncryption": { "algorithm": "aws:kms", "kmsKeyId": "alias/forest" }, "storageClass": "STANDARD_IA",
        "tags": { "team": "forest" }, "metadata": { "site": "north" }, "cacheControl": "max-age=3600",
        "checksum": "CRC32C", "expectedBucketOwner": "123456789012"
    } },
    "failures": { "policy": "DeadLetter", "parkingQueue": "broken", "deliveryLimit": 3, "holdingTime": "90s" },
    "scaling": {
        "minReplicas": 0, "maxReplicas": 9, "messagesPerReplica": 7, "pollInterval": "700ms", "scaleDownAfter": "1s"
    },
    "replicas": 0, "paused": true,
    "consumer": {
        "concurrency": 3, "serviceAccountName": "tiles", "terminationGracePeriodSeconds": 90,
        "nodeSelector": { "pool": "images" }, "tolerations": [{ "key": "pool", "operator": "Exists" }],
        "topologySpreadConstraints": [
            { "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway" }
        ],
        "priorityClassName": "batch",
        "resources": {
            "requests": { "cpu": "1", "example.com/scanner": "1" },
            "limits": { "cpu": "2", "memory": "2Gi", "example.com/scanner": "1" }
        }
    }
}"#;
