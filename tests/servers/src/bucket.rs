//! The S3 server of a namespace, as its administrator and its readers see it. Uses none of the product's code,
//! because it checks that code.

use std::process::Command;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};

use super::cluster::{Namespace, Way, run};

/// Access to the S3 server from here.
pub struct Storage {
    /// A client of the root user.
    pub client: Client,
    endpoint: String,
    root: (String, String),
    _way: Way,
}

impl Storage {
    /// Connects to the S3 server of a namespace.
    pub fn of(namespace: &Namespace) -> Self {
        let way = namespace.way_to("s3", 7070);
        let endpoint = format!("http://{}:{}", way.host, way.port);
        let root = (namespace.secret("s3", "AWS_ACCESS_KEY_ID"), namespace.secret("s3", "AWS_SECRET_ACCESS_KEY"));
        let settings = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new("us-east-1"))
            .endpoint_url(&endpoint)
            .force_path_style(true)
            .credentials_provider(Credentials::new(&root.0, &root.1, None, None, "tests"))
            .build();
        Self { client: Client::from_conf(settings), endpoint, root, _way: way }
    }

    /// Creates a bucket.
    pub async fn create(&self, bucket: &str) {
        self.client.create_bucket().bucket(bucket).send().await.expect("a new bucket");
    }

    /// Creates a bucket unless it exists.
    pub async fn ensure(&self, bucket: &str) {
        if self.client.head_bucket().bucket(bucket).send().await.is_err() {
            self.create(bucket).await;
        }
    }

    /// `count` of these objects, evenly spread: key and content.
    pub async fn some(&self, bucket: &str, keys: &[String], count: usize) -> Vec<(String, Vec<u8>)> {
        let mut objects = Vec::new();
        for key in keys.iter().step_by((keys.len() / count).max(1)).take(count) {
            objects.push((key.clone(), self.object(bucket, key).await));
        }
        objects
    }

    /// All keys in a bucket.
    pub async fn keys(&self, bucket: &str) -> Vec<String> {
        self.keys_under(bucket, "").await
    }

    /// The keys in a bucket with this prefix.
    pub async fn keys_under(&self, bucket: &str, prefix: &str) -> Vec<String> {
        let mut pages = self.client.list_objects_v2().bucket(bucket).prefix(prefix).into_paginator().send();
        let mut keys = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.expect("a listing");
            keys.extend(page.contents().iter().filter_map(|object| object.key().map(str::to_owned)));
        }
        keys
    }

    async fn object(&self, bucket: &str, key: &str) -> Vec<u8> {
        let object = self.client.get_object().bucket(bucket).key(key).send().await.expect("an object");
        object.body.collect().await.expect("a body").to_vec()
    }

    /// Creates a user who owns nothing.
    pub fn create_user(&self, access: &str, secret: &str) {
        self.administer(&["create-user", "--access", access, "--secret", secret, "--role", "user"]);
    }

    /// Makes a user a bucket's owner.
    pub fn give(&self, bucket: &str, access: &str) {
        self.administer(&["change-bucket-owner", "--bucket", bucket, "--owner", access]);
    }

    fn administer(&self, arguments: &[&str]) {
        let mut command = Command::new("versitygw");
        command.args(["admin", "--access", &self.root.0, "--secret", &self.root.1, "--endpoint-url", &self.endpoint]);
        run(command.args(arguments));
    }
}
