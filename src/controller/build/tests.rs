//! The Deployment for a minimal and for a full spec, and how the spec's text reaches the consumer.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use clap::Parser;
use proptest::prelude::*;
use proptest::{collection, sample};

use super::*;

#[derive(Parser)]
struct Consumer {
    #[command(flatten)]
    args: consumer::Args,
}

fn image() -> ConsumerImage {
    ConsumerImage {
        image: "registry.example/image-pipeline:1".to_owned(),
        pull_policy: "IfNotPresent".to_owned(),
        pull_secrets: vec![],
    }
}

fn pipeline(spec: &str) -> ImagePipeline {
    let mut pipeline = ImagePipeline::new("forest-tiles", serde_yaml::from_str(spec).unwrap());
    pipeline.metadata.namespace = Some("greench".to_owned());
    pipeline.metadata.uid = Some("5e1f".to_owned());
    pipeline
}

fn built(spec: &str, replicas: i32, image: &ConsumerImage) -> Deployment {
    let pipeline = pipeline(spec);
    deployment(&pipeline, replicas, &Template::new(&pipeline, image.clone()))
}

const SMALLEST: &str = "
source: {rabbitmq: {queue: segmented-images, rabbitmqClusterReference: {name: rabbit}}}
destination: {s3: {bucket: bucket-greench}}";

const FULLEST: &str = "
source:
  rabbitmq:
    queue: -odd queue-
    vhost: /forest=1
    rabbitmqClusterReference: {connectionSecret: {name: north}}
    credentialsSecret: {name: reader}
    tls: {caSecret: {name: rabbit-ca}, clientCertSecret: {name: rabbit-client}}
    prefetch: 7
    maxBodyBytes: 8Mi
message: {encoding: Raw, imagePath: /a, namePath: /b}
image: {encoding: Balanced, reencode: WhenNotPng, maxPixels: 1000000}
destination:
  s3:
    bucket: bucket-greench
    prefix: tiles/
    keyTemplate: '{year}/{stem}.png'
    region: eu-north-1
    endpoint: https://s3.greench.svc:7070
    forcePathStyle: true
    tls: {caSecret: {name: s3-ca}}
    credentialsSecret: {name: s3}
    identity: Instance
    onConflict: Fail
    serverSideEncryption: {algorithm: aws:kms, kmsKeyId: alias/forest}
    storageClass: STANDARD_IA
    tags: {forest: north}
    metadata: {project: greench}
    cacheControl: max-age=60
    checksum: SHA256
    expectedBucketOwner: '111122223333'
failures: {policy: DeadLetter, parkingQueue: $(HOSTNAME), deliveryLimit: 3, holdingTime: 1m}
consumer:
  concurrency: 3
  serviceAccountName: tiles
  nodeSelector: {pool: images}
  tolerations: [{key: pool, operator: Equal, value: images, effect: NoSchedule}]
  topologySpreadConstraints:
  - {maxSkew: 1, topologyKey: topology.kubernetes.io/zone, whenUnsatisfiable: ScheduleAnyway}
  - {maxSkew: 2, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {forest: north}}}
  priorityClassName: batch
  terminationGracePeriodSeconds: 90
  resources: {limits: {cpu: 2, memory: 2Gi}}";

#[test]
fn smallest_deployment() {
    insta::assert_yaml_snapshot!(built(SMALLEST, 3, &image()));
}

#[test]
fn fullest_deployment() {
    let image = ConsumerImage { pull_secrets: vec!["registry".to_owned()], ..image() };
    insta::assert_yaml_snapshot!(built(FULLEST, 0, &image));
}

/// How the kubelet expands an argument: `Expand` of Kubernetes' `third_party/forked/golang/expansion`.
fn expand(argument: &str, variables: &[(&str, &str)]) -> String {
    let (mut expanded, mut rest) = (String::new(), argument);
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        rest = after;
        if let Some(after) = rest.strip_prefix('$') {
            expanded.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|opened| opened.split_once(')')) {
            match variables.iter().find(|(known, _)| *known == name) {
                Some((_, value)) => expanded.push_str(value),
                None => expanded.push_str(&format!("$({name})")),
            }
            rest = after;
        } else {
            expanded.push('$');
        }
    }
    expanded + rest
}

#[test]
fn an_argument_is_expanded_as_kubernetes_documents_it() {
    for (argument, expanded) in [
        ("$(VAR)", "value"),
        ("$(VAR)_$(VAR)", "value_value"),
        ("$$(VAR)", "$(VAR)"),
        ("$$$(VAR)", "$value"),
        ("$$$$(VAR)", "$$(VAR)"),
        ("$(UNKNOWN)$x$", "$(UNKNOWN)$x$"),
        ("a$$b", "a$b"),
        ("$(VAR", "$(VAR"),
        ("$((VAR)", "$((VAR)"),
    ] {
        assert_eq!(expand(argument, &[("VAR", "value")]), expanded, "{argument}");
    }
}

/// Text of a spec, mostly pieces with a meaning for the kubelet.
fn text() -> impl Strategy<Value = String> {
    const PIECES: &[&str] =
        &["$", "$$", "(", ")", "$(", "$(MALLOC_ARENA_MAX)", "$(KUBERNETES_SERVICE_HOST)", "\"", "\\", " ", "é"];
    let piece = prop_oneof![4 => sample::select(PIECES).prop_map(str::to_owned), 1 => any::<String>()];
    collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn text_of_a_spec_reaches_the_consumer_unchanged(texts in collection::vec(text(), 9)) {
        let [queue, vhost, image_path, bucket, prefix, key_template, metadata, parking_queue, name] =
            <[String; 9]>::try_from(texts).unwrap();
        let mut pipeline = pipeline(FULLEST);
        pipeline.metadata.name = Some(name);
        let spec = &mut pipeline.spec;
        (spec.source.rabbitmq.queue, spec.source.rabbitmq.vhost) = (queue, vhost);
        (spec.message.image_path, spec.failures.parking_queue) = (image_path, parking_queue);
        let s3 = &mut spec.destination.s3;
        (s3.bucket, s3.prefix, s3.key_template) = (bucket, prefix, key_template);
        s3.metadata.insert("text".to_owned(), metadata);

        let expected = consumer_args(&pipeline);
        let deployment = deployment(&pipeline, 1, &Template::new(&pipeline, image()));
        let container = deployment.spec.unwrap().template.spec.unwrap().containers.remove(0);
        let environment = container.env.unwrap();
        let variable = |variable: &'_ EnvVar| (variable.name.clone(), variable.value.clone().unwrap());
        let variables: Vec<_> = environment.iter().map(variable).collect();
        let mut known: Vec<_> = variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        known.push(("KUBERNETES_SERVICE_HOST", "10.0.0.1"));
        let line: Vec<_> = container.args.unwrap().iter().map(|argument| expand(argument, &known)).collect();
        prop_assert_eq!(Consumer::try_parse_from(&line).expect("parses").args, expected);
    }
}

#[test]
fn what_is_no_longer_asked_for_changes_the_digest() {
    let digest_of = |spec: &str| built(spec, 1, &image()).metadata.annotations.unwrap();
    assert_ne!(digest_of(SMALLEST), digest_of(&format!("{SMALLEST}\nconsumer: {{resources: {{limits: {{}}}}}}")));
    assert_eq!(digest_of(SMALLEST), digest_of(&format!("{SMALLEST}\nscaling: {{maxReplicas: 7}}")));
}

#[test]
fn only_by_its_field_a_pod_asks_the_node_for_credentials() {
    for (identity, expected) in [(AwsIdentity::ServiceAccount, Some("true")), (AwsIdentity::Instance, None)] {
        let environment = environment(identity);
        let disabled = environment.iter().find(|variable| variable.name == "AWS_EC2_METADATA_DISABLED");
        assert_eq!(disabled.and_then(|variable| variable.value.as_deref()), expected);
    }
}
