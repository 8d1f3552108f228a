//! Third step: a PNG goes into the bucket. The only place that knows `aws_sdk_s3`. It must never
//! report success before the store's 2xx, and never wait without a limit.

use std::path::PathBuf;
use std::time::Duration;

use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Builder, IdentityCache, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    SharedHttpClient, StalledStreamProtectionConfig,
};
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::put_object::PutObjectError;
use aws_sdk_s3::primitives::ByteStream;
use aws_smithy_http_client::tls;

use super::decode::ObjectKey;
use super::encode::Png;

mod credentials;
mod error;
#[cfg(test)]
mod tests;

use credentials::MountedCredentials;
pub use error::{Kind, UploadError};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// What one attempt may take, beside the time for its bytes: a store that hangs is named in the
/// status within ten seconds.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(8);

/// The slowest transfer that is waited for.
const BYTES_PER_SECOND: u64 = 1 << 20;

/// S3 closes idle connections after about 20 seconds; one that is used in that moment fails.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// Where objects go, and as whom.
#[derive(Clone, Debug)]
pub struct Destination {
    /// The bucket.
    pub bucket: String,
    /// What every key starts with; for messages only.
    pub prefix: String,
    /// The bucket's region.
    pub region: String,
    /// The store's URL; AWS if absent.
    pub endpoint: Option<String>,
    /// endpoint/bucket instead of bucket.endpoint.
    pub force_path_style: bool,
    /// Directory with the credentials, a file a key; the SDK's chain if absent.
    pub credentials: Option<PathBuf>,
}

/// One bucket.
pub struct Store {
    client: aws_sdk_s3::Client,
    destination: Destination,
}

impl Store {
    /// Makes a client; nothing is sent yet.
    pub async fn new(destination: Destination) -> Self {
        let checksums = match destination.endpoint {
            // Stores other than AWS refuse checksums they have never heard of.
            Some(_) => RequestChecksumCalculation::WhenRequired,
            None => RequestChecksumCalculation::WhenSupported,
        };
        let region = Region::new(destination.region.clone());
        let mut config = Builder::new()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(region.clone())
            .force_path_style(destination.force_path_style)
            .request_checksum_calculation(checksums)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .http_client(http_client())
            .timeout_config(timeouts(0))
            // Bodies are in memory and attempts are timed.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            // One repeat hides a connection that the store closed. The patient retries are the caller's:
            // the SDK's share one budget for the whole process, which an outage uses up.
            .retry_config(
                RetryConfig::standard().with_max_attempts(2).with_initial_backoff(Duration::from_millis(200)),
            );
        config.set_endpoint_url(destination.endpoint.clone());
        config = match &destination.credentials {
            Some(directory) => config
                .credentials_provider(MountedCredentials::new(directory.clone()))
                .identity_cache(IdentityCache::no_cache()),
            None => config.credentials_provider(DefaultCredentialsChain::builder().region(region).build().await),
        };
        Self { client: aws_sdk_s3::Client::from_conf(config.build()), destination }
    }

    /// Stores a PNG under a key, in place of whatever was there.
    ///
    /// # Errors
    /// The store did not answer 2xx in time; it may have stored the object all the same.
    pub async fn put(&self, key: &ObjectKey, png: &Png) -> Result<(), UploadError> {
        let length = u64::try_from(png.bytes().len()).unwrap_or(u64::MAX);
        self.client
            .put_object()
            .bucket(&self.destination.bucket)
            .key(key.as_str())
            .content_type("image/png")
            .set_content_length(i64::try_from(length).ok())
            .body(ByteStream::from(png.bytes().clone()))
            .customize()
            .config_override(Builder::new().timeout_config(timeouts(length)))
            .send()
            .await
            .map(drop)
            .map_err(|error| classify(&self.destination, &error))
    }
}

fn http_client() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new()
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::AwsLc))
        .build_https()
}

fn timeouts(bytes: u64) -> TimeoutConfig {
    let attempt = ATTEMPT_TIMEOUT + Duration::from_secs(bytes / BYTES_PER_SECOND);
    TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(attempt)
        .operation_timeout(attempt + Duration::from_secs(1))
        .build()
}

fn classify(destination: &Destination, error: &SdkError<PutObjectError>) -> UploadError {
    if let Some(error) = UploadError::from_credentials(destination, error) {
        return error;
    }
    match error {
        SdkError::TimeoutError(_) => UploadError::timed_out(destination),
        SdkError::ServiceError(refused) => {
            let raw = refused.raw();
            let region = raw.headers().get("x-amz-bucket-region");
            let meta = refused.err().meta();
            UploadError::answered(destination, raw.status().as_u16(), meta.code(), region, meta.message())
        }
        SdkError::ResponseError(unreadable) => {
            UploadError::answered(destination, unreadable.raw().status().as_u16(), None, None, None)
        }
        SdkError::DispatchFailure(failure) if failure.is_timeout() => UploadError::not_connected(destination),
        _ => UploadError::not_sent(destination, error),
    }
}
