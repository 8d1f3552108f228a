//! Without a Secret for S3, requests are signed with the pod's AWS identity: a role of its service account (IRSA),
//! EKS Pod Identity or the instance's role. Recorders stand in for the credential services and for S3, because
//! versitygw rejects session tokens that it did not issue.

use std::path::PathBuf;
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use image_pipeline::pod_status::Fault;
use image_pipeline::reason::Reason;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use url::form_urlencoded;

use crate::consumer_process::Consumer;
use crate::recorder::{Asked, Recorder};
use crate::scene::Scene;
use servers::broker::Version;
use support::eventually::{LIMIT, equal, eventually};
use support::images::{Sample, samples};
use support::process::{directory, write};
use support::proxy::{Mode, Proxy};

/// The status names a fault that a pod can see within this time.
const NAMED: Duration = Duration::from_secs(10);

/// Work resumes within this time.
const HEALED: Duration = Duration::from_secs(20);

const ROLE: &str = "arn:aws:iam::123456789012:role/tiles";
const CREDENTIALS_PATH: &str = "/latest/meta-data/iam/security-credentials/";

/// Credentials that a service issues: an access key, and texts derived from it.
#[derive(Clone, Copy)]
struct Given {
    key: &'static str,
    lifetime: SignedDuration,
}

impl Given {
    /// The SDK refreshes credentials from five seconds before their expiry, so it asks again at every use.
    fn briefly(key: &'static str) -> Self {
        Self { key, lifetime: SignedDuration::from_secs(3) }
    }

    fn for_long(key: &'static str) -> Self {
        Self { key, lifetime: SignedDuration::from_hours(1) }
    }

    fn expiry(&self) -> String {
        (Timestamp::now() + self.lifetime).strftime("%FT%TZ").to_string()
    }

    /// The answer of STS.
    fn xml(&self) -> String {
        let (key, expiry) = (self.key, self.expiry());
        format!(
            "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
             <AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>{key}</AccessKeyId>\
             <SecretAccessKey>{key}-secret</SecretAccessKey><SessionToken>{key}-session</SessionToken>\
             <Expiration>{expiry}</Expiration></Credentials></AssumeRoleWithWebIdentityResult>\
             </AssumeRoleWithWebIdentityResponse>"
        )
    }

    /// The answer of the credential services on a node.
    fn json(&self) -> String {
        let key = self.key;
        json!({
            "Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": key, "SecretAccessKey": format!("{key}-secret"),
            "Token": format!("{key}-session"), "Expiration": self.expiry(),
        })
        .to_string()
    }

    /// Number of S3 requests that were signed with these credentials.
    fn signed(&self, store: &Recorder) -> usize {
        let (by, with) = (format!(" Credential={}/", self.key), format!("{}-session", self.key));
        let is_signed = |asked: &&Asked| {
            let authorization = asked.header("authorization");
            authorization.contains(&by)
                && authorization.contains(";x-amz-security-token")
                && asked.header("x-amz-security-token") == with
        };
        store.asked().iter().filter(is_signed).count()
    }
}

/// A pipeline without a Secret for S3, and an S3 that accepts everything.
async fn scene(name: &str, version: Version) -> (Scene, Recorder) {
    let mut scene = Scene::new(name, version).await;
    let store = Recorder::start(|_| [("etag", "\"1\"")]);
    scene.settings.endpoint = store.url();
    scene.settings.spec = json!({ "destination": { "s3": { "credentialsSecret": null } } });
    std::fs::remove_dir_all(scene.settings.store_secret()).expect("removed");
    (scene, store)
}

/// A service account's token in a file that the test replaces.
fn token(text: &str) -> PathBuf {
    let token = directory("token").join("token");
    write(&token, text);
    token
}

/// Disables the instance metadata service: the machine that runs the tests may have one.
fn environment<const N: usize>(variables: [(&'static str, String); N]) -> Vec<(&'static str, String)> {
    [("AWS_EC2_METADATA_DISABLED", "true".to_owned())].into_iter().chain(variables).collect()
}

async fn names(consumer: &Consumer, parts: &[&str]) {
    let named = |fault: &Fault| {
        fault.reason == Reason::CredentialsMissing && parts.iter().all(|part| fault.message.contains(part))
    };
    let what = format!("to name CredentialsMissing with {parts:?}");
    consumer.status_is(&what, NAMED, |status| status.storage.fault().is_some_and(named)).await;
}

/// Waits until S3 has received exactly these images, each once.
async fn arrive(store: &Recorder, images: &[Sample]) {
    let sent = || store.asked().len();
    eventually("every image to be stored", HEALED, async || equal(sent(), images.len())).await;
    let asked = store.asked();
    for image in images {
        let line = format!("/{}?x-id=PutObject", image.name);
        let put = asked.iter().find(|asked| asked.line.starts_with("PUT ") && asked.line.ends_with(&line));
        let stored = image::load_from_memory(&put.expect("each image").body).expect("a PNG");
        assert!(stored == image.pixels(), "{} has other pixels than were published", image.name);
    }
}

/// Checks that the log has neither credentials nor the SDK's line for each attempt.
async fn ends(scene: &Scene, consumer: Consumer) {
    let log = consumer.log();
    for hidden in ["-secret", "-session", "token-1", "token-2", "imds-token", "aws_config"] {
        assert!(!log.contains(hidden), "{hidden:?} must not be in the log:\n{log}");
    }
    scene.ends_with_parked(consumer, 0).await;
}

/// Form fields of the last request to STS.
fn assumed(sts: &Recorder) -> Vec<(String, String)> {
    let last = sts.asked().pop().expect("a question");
    assert_eq!((last.line.as_str(), last.header("authorization")), ("POST /", ""), "it is not signed");
    form_urlencoded::parse(&last.body).into_owned().collect()
}

fn refused(status: StatusCode, code: &str) -> Response {
    let body = format!(
        "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>no</Message></Error></ErrorResponse>"
    );
    (status, body).into_response()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_is_assumed_with_the_token_of_the_service_account() {
    let (mut scene, store) = scene("web-identity", Version::Four).await;
    let sts = Recorder::start(|_| refused(StatusCode::FORBIDDEN, "AccessDenied"));
    let token = token("token-1");
    scene.settings.environment = environment([
        ("AWS_ROLE_ARN", ROLE.to_owned()),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.display().to_string()),
        ("AWS_ROLE_SESSION_NAME", "tiles-pod".to_owned()),
        ("AWS_ENDPOINT_URL_STS", sts.url()),
    ]);
    let images = samples(18);
    scene.publish(&images[..6]).await;
    let consumer = Consumer::start(&scene.settings);
    names(&consumer, &["gives no credentials: AccessDenied;", "the role's trust policy"]).await;
    sts.answer(|_| refused(StatusCode::BAD_REQUEST, "InvalidIdentityToken"));
    names(&consumer, &["gives no credentials: InvalidIdentityToken"]).await;

    let (first, second) = (Given::briefly("FIRST"), Given::for_long("SECOND"));
    sts.answer(move |_| first.xml());
    arrive(&store, &images[..6]).await;
    let expected = [
        ("Action", "AssumeRoleWithWebIdentity"),
        ("RoleArn", ROLE),
        ("RoleSessionName", "tiles-pod"),
        ("WebIdentityToken", "token-1"),
    ];
    let fields = assumed(&sts);
    for (name, value) in expected {
        assert!(fields.contains(&(name.to_owned(), value.to_owned())), "{name}={value}: {fields:?}");
    }
    assert_eq!(first.signed(&store), 6);

    // The kubelet replaces a token long before it expires; STS rejects the old token after its expiry.
    write(&token, "token-2");
    sts.answer(move |_| second.xml());
    scene.publish(&images[6..12]).await;
    arrive(&store, &images[..12]).await;
    assert!(assumed(&sts).contains(&("WebIdentityToken".to_owned(), "token-2".to_owned())));
    let asked = sts.asked().len();
    scene.publish(&images[12..]).await;
    arrive(&store, &images).await;
    assert_eq!((first.signed(&store), second.signed(&store)), (6, 12));
    assert_eq!(sts.asked().len(), asked, "no new request to STS while its credentials are valid");
    ends(&scene, consumer).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pod_identity_agent_is_shown_the_token_of_the_pod() {
    let (mut scene, store) = scene("pod-identity", Version::Three).await;
    let agent = Recorder::start(|_| (StatusCode::FORBIDDEN, "no association"));
    let token = token("token-1");
    scene.settings.environment = environment([
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{}/v1/credentials", agent.url())),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token.display().to_string()),
    ]);
    let images = samples(12);
    scene.publish(&images[..6]).await;
    let consumer = Consumer::start(&scene.settings);
    names(&consumer, &["the pod's AWS identity gives no credentials: Non-success status"]).await;

    let (first, second) = (Given::briefly("FIRST"), Given::for_long("SECOND"));
    agent.answer(move |_| first.json());
    arrive(&store, &images[..6]).await;
    for asked in agent.asked() {
        assert_eq!((asked.line.as_str(), asked.header("authorization")), ("GET /v1/credentials", "token-1"));
    }
    write(&token, "token-2");
    agent.answer(move |_| second.json());
    scene.publish(&images[6..]).await;
    arrive(&store, &images).await;
    assert_eq!(agent.asked().pop().expect("a question").header("authorization"), "token-2");
    assert_eq!((first.signed(&store), second.signed(&store)), (6, 6));
    ends(&scene, consumer).await;
}

/// The instance metadata service (IMDSv2): any PUT request gets a token, and all other requests need it.
fn instance(asked: &Asked, given: Given) -> Response {
    match asked.line.split_once(CREDENTIALS_PATH) {
        None if asked.line == "PUT /latest/api/token" => {
            ([("x-aws-ec2-metadata-token-ttl-seconds", "21600")], "imds-token").into_response()
        }
        Some(("GET ", path)) if asked.header("x-aws-ec2-metadata-token") == "imds-token" => match path {
            "" => "tiles-role".into_response(),
            "tiles-role" => given.json().into_response(),
            _ => StatusCode::NOT_FOUND.into_response(),
        },
        _ => StatusCode::UNAUTHORIZED.into_response(),
    }
}

/// While the service fails, the old credentials stay in use, as AWS recommends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_instance_is_asked_by_token_and_its_outage_is_outlived() {
    let (mut scene, store) = scene("instance", Version::Four).await;
    let given = Given::briefly("FIRST");
    let metadata = Recorder::start(move |asked| instance(asked, given));
    scene.settings.environment = vec![("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.url())];
    let images = samples(12);
    scene.publish(&images[..6]).await;
    let consumer = Consumer::start(&scene.settings);
    arrive(&store, &images[..6]).await;
    let lines: Vec<String> = metadata.asked().into_iter().map(|asked| asked.line).collect();
    let role = format!("GET {CREDENTIALS_PATH}");
    assert_eq!(lines[..3], ["PUT /latest/api/token".to_owned(), role.clone(), format!("{role}tiles-role")]);

    let asked = metadata.asked().len();
    metadata.answer(|_| StatusCode::INTERNAL_SERVER_ERROR);
    scene.publish(&images[6..]).await;
    arrive(&store, &images).await;
    assert!(metadata.asked().len() > asked, "the failing service was called");
    assert_eq!(given.signed(&store), 12);
    assert_eq!(consumer.status().await.expect("a status").last_error, None);
    ends(&scene, consumer).await;
}

/// Uploads that wait for credentials must not be reported as a slow S3.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identity_that_hangs_is_named_and_never_the_store() {
    let (mut scene, store) = scene("hanging-identity", Version::Three).await;
    let given = Given::for_long("FIRST");
    let agent = Recorder::start(move |_| given.json());
    let proxy = Proxy::start(agent.address(), Mode::HoldAnswers);
    let uri = format!("http://{}/", proxy.address());
    scene.settings.environment = environment([("AWS_CONTAINER_CREDENTIALS_FULL_URI", uri)]);
    let images = samples(6);
    scene.publish(&images).await;
    let consumer = Consumer::start(&scene.settings);
    names(&consumer, &["did not answer in time"]).await;
    eventually("repeated requests for credentials", LIMIT, async || match agent.asked().len() {
        asked if asked >= 4 => Ok(()),
        asked => Err(asked.to_string()),
    })
    .await;
    proxy.set(Mode::Pass);
    arrive(&store, &images).await;
    assert!(!consumer.log().contains(Reason::StorageTimeout.as_str()), "{}", consumer.log());
    ends(&scene, consumer).await;
}

/// The message names every place that was searched, whether the last place refuses, is silent or is disabled. An
/// identity that appears later is found.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_without_an_identity_says_where_it_looked() {
    let places = ["AWS_ACCESS_KEY_ID", "config files", "IRSA", "EKS Pod Identity", "IMDSv2", "credentialsSecret"];
    let (mut scene, store) = scene("no-identity", Version::Four).await;
    let metadata = Recorder::start(|asked| instance(asked, Given::for_long("FIRST")));
    let endpoint = |url: String| ("AWS_EC2_METADATA_SERVICE_ENDPOINT", url);
    let images = samples(9);

    scene.settings.environment = environment([endpoint(metadata.url())]);
    scene.publish(&images[..3]).await;
    let consumer = Consumer::start(&scene.settings);
    names(&consumer, &places).await;
    assert!(metadata.asked().is_empty(), "a disabled service is not called");
    drop(consumer);

    for (mode, round) in [(Mode::Refuse, 3..6), (Mode::Blackhole, 6..9)] {
        let proxy = Proxy::start(metadata.address(), mode);
        scene.settings.environment = vec![endpoint(format!("http://{}", proxy.address()))];
        scene.publish(&images[round.clone()]).await;
        let consumer = Consumer::start(&scene.settings);
        names(&consumer, &places).await;
        proxy.set(Mode::Pass);
        arrive(&store, &images[..round.end]).await;
        ends(&scene, consumer).await;
    }
}
