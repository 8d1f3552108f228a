//! The credentials that sign requests: a Secret, read at every use so that rotated keys apply immediately, or the pod's
//! AWS identity. Errors contain no value of a Secret.

use std::error::Error;
use std::io::ErrorKind;
use std::time::Duration;

use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use aws_sdk_s3::config::Region;
use aws_sdk_s3::error::ErrorMetadata;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::fault::causes;
use crate::api::names::SecretRole;
use crate::consumer::secrets::Secrets;
use crate::reason::Reason;

const ACCESS_KEY_ID: &str = "AWS_ACCESS_KEY_ID";
const SECRET_ACCESS_KEY: &str = "AWS_SECRET_ACCESS_KEY";

/// Timeout for the pod's identity. Below the SDK's own timeout of 5 s, whose error has no useful text.
const IDENTITY_TIMEOUT: Duration = Duration::from_secs(4);

/// How long a failure, or an answer that took longer than this, is reused. The SDK's cache sends concurrent callers to
/// the provider one after another: with slow answers, the third caller would time out and blame S3.
const BELIEVED: Duration = Duration::from_secs(1);

/// Why there are no credentials.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Unusable {
    /// The Secret has neither key. A Secret that does not exist is mounted as an empty directory.
    #[error(
        "Secret {secret:?} of destination.s3.credentialsSecret is missing, or has none of the keys AWS_ACCESS_KEY_ID \
         and AWS_SECRET_ACCESS_KEY; create it, or correct the field ({place})"
    )]
    Absent {
        secret: String,
        /// The directory or Secret that was read, for the message.
        place: String,
    },
    #[error(
        "key {key} is missing or empty in Secret {secret:?} of destination.s3.credentialsSecret, which needs \
         AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY: add the key, or correct the field"
    )]
    Missing { key: &'static str, secret: String },
    /// The value is not UTF-8, or can't be read.
    #[error("key {key} of Secret {secret:?} is not readable text; correct it")]
    Unreadable { key: &'static str, secret: String },
    #[error(
        "no AWS credentials: destination.s3.credentialsSecret is not set, and the pod has none in its environment \
         (AWS_ACCESS_KEY_ID), shared config files, web identity token (IRSA), container credentials (EKS Pod \
         Identity) or instance metadata (IMDSv2): {0}; give the pod's service account a role, or set \
         destination.s3.credentialsSecret"
    )]
    NoIdentity(&'static str),
    /// The pod has an AWS identity, but resolving it to credentials failed.
    #[error(
        "the pod's AWS identity gives no credentials: {0}; check the role of the pod's service account and the role's \
         trust policy, or set destination.s3.credentialsSecret"
    )]
    IdentityRefused(String),
}

impl Unusable {
    pub fn reason(&self) -> Reason {
        match self {
            Unusable::Absent { .. } => Reason::SecretNotFound,
            _ => Reason::CredentialsMissing,
        }
    }
}

/// A Secret with `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and perhaps `AWS_SESSION_TOKEN`.
#[derive(Debug)]
pub struct SecretCredentials {
    secrets: Secrets,
    secret: String,
}

impl SecretCredentials {
    /// `secret` is the Secret's name, for messages; the Secret need not exist yet.
    pub fn new(secrets: Secrets, secret: String) -> Self {
        Self { secrets, secret }
    }

    fn read(&self) -> Result<Credentials, Unusable> {
        let is_absent = |key: &&str| {
            self.secrets.read(SecretRole::Store, key).is_err_and(|error| error.kind() == ErrorKind::NotFound)
        };
        if [ACCESS_KEY_ID, SECRET_ACCESS_KEY].iter().all(is_absent) {
            let place = self.secrets.place(SecretRole::Store);
            return Err(Unusable::Absent { secret: self.secret.clone(), place });
        }
        let required = |key| self.key(key)?.ok_or_else(|| Unusable::Missing { key, secret: self.secret.clone() });
        Ok(Credentials::new(
            required(ACCESS_KEY_ID)?,
            required(SECRET_ACCESS_KEY)?,
            self.key("AWS_SESSION_TOKEN")?,
            None,
            "mounted Secret",
        ))
    }

    fn key(&self, key: &'static str) -> Result<Option<String>, Unusable> {
        let unreadable = || Unusable::Unreadable { key, secret: self.secret.clone() };
        match self.secrets.read(SecretRole::Store, key) {
            Ok(value) => {
                let text = String::from_utf8(value).map_err(|_| unreadable())?;
                Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty()))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(_) => Err(unreadable()),
        }
    }
}

impl ProvideCredentials for SecretCredentials {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready(self.read().map_err(CredentialsError::not_loaded))
    }
}

/// The SDK's standard chain: environment, shared config, IRSA, EKS Pod Identity, IMDSv2.
#[derive(Debug)]
pub struct PodIdentity {
    chain: DefaultCredentialsChain,
    believed: Mutex<Option<Believed>>,
}

/// An answer and its time.
type Believed = (Instant, Result<Credentials, Unusable>);

impl PodIdentity {
    /// The chain, with the STS of `region`; does not resolve anything yet.
    pub async fn new(region: Region) -> Self {
        Self { chain: DefaultCredentialsChain::builder().region(region).build().await, believed: Mutex::default() }
    }

    async fn resolve(&self) -> Result<Credentials, CredentialsError> {
        let before = self.believed.lock().clone().filter(|(when, _)| when.elapsed() < BELIEVED);
        if let Some((_, answer)) = before {
            return answer.map_err(CredentialsError::not_loaded);
        }
        let asked = Instant::now();
        let answer = match tokio::time::timeout(IDENTITY_TIMEOUT, self.chain.provide_credentials()).await {
            Ok(Ok(credentials)) => Ok(credentials),
            Ok(Err(CredentialsError::CredentialsNotLoaded(_))) => Err(Unusable::NoIdentity("none found")),
            Ok(Err(error)) => Err(Unusable::IdentityRefused(cause(&error))),
            // While the instance metadata service fails, AWS extends the validity of its last credentials: reuse them.
            Err(_) => {
                let unusable = Unusable::NoIdentity("the last of these did not answer in time");
                self.chain.fallback_on_interrupt().ok_or(unusable)
            }
        };
        if answer.is_err() || asked.elapsed() > BELIEVED {
            *self.believed.lock() = Some((Instant::now(), answer.clone()));
        }
        answer.map_err(CredentialsError::not_loaded)
    }
}

impl ProvideCredentials for PodIdentity {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.resolve())
    }
}

/// The error code of the answer, because its text differs at every attempt; without a code, the innermost cause.
fn cause(error: &(dyn Error + 'static)) -> String {
    let answered = causes(error).find_map(|cause| cause.downcast_ref::<ErrorMetadata>()?.code());
    let innermost = causes(error).last().map(ToString::to_string).unwrap_or_default();
    answered.map_or_else(|| innermost.split(": ").next().unwrap_or_default().to_owned(), ToOwned::to_owned)
}
