//! What is built for a pipeline that says little and for one that says everything, and what changes with it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use clap::Parser;

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
    build(&pipeline, replicas, Template::new(&pipeline, image))
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

#[test]
fn the_command_line_parses_back() {
    for spec in [SMALLEST, FULLEST] {
        let args = consumer_args(&pipeline(spec));
        let line = command_line(&args);
        assert_eq!(Consumer::try_parse_from(&line).expect("parses").args, args);
    }
}

#[test]
fn what_is_no_longer_asked_for_changes_the_digest() {
    let digest_of = |spec: &str| built(spec, 1, &image()).metadata.annotations.unwrap();
    assert_ne!(digest_of(SMALLEST), digest_of(&format!("{SMALLEST}\nconsumer: {{resources: {{limits: {{}}}}}}")));
    assert_eq!(digest_of(SMALLEST), digest_of(&format!("{SMALLEST}\nscaling: {{maxReplicas: 7}}")));
}
