//! The S3 client: HTTP connections, trusted certificate authorities, credentials. An authority that is removed from the
//! Secret is no longer trusted from the next request on.

use std::time::Duration;

use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Builder, IdentityCache, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    SharedHttpClient, StalledStreamProtectionConfig,
};
use aws_sdk_s3::{Client, Config};
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode};
use parking_lot::Mutex;

use super::UploadError;
use super::authority;
use super::credentials::{PodIdentity, SecretCredentials};
use crate::api::destination::S3Destination;
use crate::consumer::secrets::Secrets;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// S3 closes idle connections after about 20 s; a request on a connection that is just being closed fails.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// A client, rebuilt when the trusted authorities change.
#[derive(Debug)]
pub enum Connection {
    /// Trusts the authorities of the container image.
    Known(Client),
    /// Trusts the authorities in a Secret, too.
    Private {
        /// The configuration without the trusted authorities.
        config: Box<Config>,
        /// Contains `ca.crt`.
        secrets: Secrets,
        /// The last content of `ca.crt`, and the client that trusts it.
        current: Mutex<Option<(Vec<u8>, Client)>>,
    },
}

impl Connection {
    /// A client for a bucket; sends no request yet.
    pub async fn new(destination: &S3Destination, secrets: &Secrets) -> Self {
        let config = config(destination, secrets).await;
        match destination.tls {
            None => Connection::Known(trusting(&config, TrustStore::default())),
            Some(_) => {
                Connection::Private { config: Box::new(config), secrets: secrets.clone(), current: Mutex::new(None) }
            }
        }
    }

    /// The client for the next request: a new one if the authorities have changed.
    pub fn client(&self) -> Result<Client, UploadError> {
        match self {
            Connection::Known(client) => Ok(client.clone()),
            Connection::Private { config, secrets, current } => {
                let found = authority::read(secrets)?;
                let mut current = current.lock();
                match current.as_ref() {
                    Some((pem, client)) if *pem == found => Ok(client.clone()),
                    _ => {
                        authority::check(&found)?;
                        let client = trusting(config, TrustStore::default().with_pem_certificate(found.clone()));
                        *current = Some((found, client.clone()));
                        Ok(client)
                    }
                }
            }
        }
    }
}

fn trusting(config: &Config, trust: TrustStore) -> Client {
    Client::from_conf(config.to_builder().http_client(http_client(trust)).build())
}

fn http_client(trust: TrustStore) -> SharedHttpClient {
    let builder = aws_smithy_http_client::Builder::new()
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .tls_provider(Provider::Rustls(CryptoMode::AwsLc));
    match TlsContext::builder().with_trust_store(trust).build() {
        Ok(context) => builder.tls_context(context).build_https(),
        // Only S2N's contexts can fail to build.
        Err(_) => builder.build_https(),
    }
}

async fn config(destination: &S3Destination, secrets: &Secrets) -> Config {
    let region = Region::new(destination.region.clone());
    let config = Builder::new()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(region.clone())
        .force_path_style(destination.force_path_style)
        // `BodyChecksum` adds the object's checksum, if any.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        // `upload` times the whole operation, by the size of its body.
        .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).build())
        // Not needed: bodies are in memory and `upload` times the operation.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        // One retry hides an idle connection that S3 closed. All other retries are the caller's: the SDK's retries
        // share one budget per process, which an outage exhausts.
        .retry_config(RetryConfig::standard().with_max_attempts(2).with_initial_backoff(Duration::from_millis(200)));
    let config = match destination.endpoint.as_str() {
        "" => config,
        endpoint => config.endpoint_url(endpoint),
    };
    match &destination.credentials_secret {
        Some(secret) => config
            .credentials_provider(SecretCredentials::new(secrets.clone(), secret.name.clone()))
            .identity_cache(IdentityCache::no_cache()),
        // The SDK caches these credentials and renews them before they expire.
        None => config.credentials_provider(PodIdentity::new(region).await),
    }
    .build()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::Kind;
    use super::*;
    use crate::reason::Reason;

    #[tokio::test]
    async fn an_authority_that_cannot_be_used_is_named() {
        let destination = serde_json::json!({
            "bucket": "tiles", "endpoint": "https://127.0.0.1:1", "tls": { "caSecret": { "name": "ca" } },
        });
        let destination: S3Destination = serde_json::from_value(destination).unwrap();
        let secrets = tempfile::tempdir().unwrap();
        let connection = Connection::new(&destination, &secrets.path().into()).await;
        let directory = secrets.path().join("store-authority");
        std::fs::create_dir(&directory).unwrap();
        let pem = |body: &str| format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
        for (content, reason, says) in [
            (None, Reason::SecretNotFound, "key ca.crt is missing in the Secret of destination.s3.tls.caSecret"),
            (Some(String::new()), Reason::SecretNotFound, "key ca.crt is missing"),
            (Some("no PEM".to_owned()), Reason::SecretInvalid, "has no certificate; it must hold certificates in PEM"),
            (Some(pem("###")), Reason::SecretInvalid, "is not valid PEM"),
            (Some(pem("MAA=")), Reason::SecretInvalid, "has a certificate that can't be parsed"),
            (Some(pem("MAA=").replace("CERTIFICATE", "PRIVATE KEY")), Reason::SecretInvalid, "has no certificate"),
        ] {
            if let Some(content) = content {
                std::fs::write(directory.join("ca.crt"), content).unwrap();
            }
            let error = connection.client().unwrap_err();
            assert_eq!((error.reason(), error.kind()), (reason, Kind::Environment), "{error}");
            assert!(error.to_string().contains(says), "{error} has {says:?}");
        }
    }
}
