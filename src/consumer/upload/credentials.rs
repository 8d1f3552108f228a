//! As whom requests are signed: a Secret, read at every use so that a rotated one counts at
//! once, or the identity of the pod. It must never show a value, not even in an error.

use std::error::Error;
use std::io::ErrorKind;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use aws_sdk_s3::config::Region;
use aws_sdk_s3::error::ErrorMetadata;
use tokio::time::Instant;

use super::error::causes;
use crate::api::names::SecretRole;
use crate::consumer::secrets::Secrets;
use crate::reason::Reason;

/// The keys that a Secret must have.
const ACCESS_KEY_ID: &str = "AWS_ACCESS_KEY_ID";
const SECRET_ACCESS_KEY: &str = "AWS_SECRET_ACCESS_KEY";

/// What the pod's identity may take; less than the SDK's own limit of five seconds, whose error
/// says nothing.
const IDENTITY_TIMEOUT: Duration = Duration::from_secs(4);

/// How long an answer is believed that was a failure, or took longer than this. The SDK lets those
/// who wait together ask one after the other: the third would wait for so long that the store were
/// blamed.
const BELIEVED: Duration = Duration::from_secs(1);

/// There is nothing to sign with.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Unusable {
    /// No key of the Secret is there; the mount of a Secret that does not exist is an empty directory.
    #[error(
        "Secret {secret:?} of destination.s3.credentialsSecret is missing, or has none of the keys AWS_ACCESS_KEY_ID \
         and AWS_SECRET_ACCESS_KEY; create it, or correct the field ({place})"
    )]
    Absent {
        /// The Secret's name.
        secret: String,
        /// Where it was looked for.
        place: String,
    },
    /// A key of the Secret is absent or empty.
    #[error(
        "key {key} is missing or empty in Secret {secret:?} of destination.s3.credentialsSecret; it needs \
         AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY: create it, or correct the field"
    )]
    Missing {
        /// The key.
        key: &'static str,
        /// The Secret's name.
        secret: String,
    },
    /// A key of the Secret is there and can't be read as text.
    #[error("key {key} of Secret {secret:?} is not readable text; correct it")]
    Unreadable {
        /// The key.
        key: &'static str,
        /// The Secret's name.
        secret: String,
    },
    /// The pod has no identity.
    #[error(
        "no AWS credentials: destination.s3.credentialsSecret is not set, and the pod has none in its environment \
         (AWS_ACCESS_KEY_ID), shared config files, web identity token (IRSA), container credentials (EKS Pod \
         Identity) or instance metadata (IMDSv2): {0}; give the pod's service account a role, or set \
         destination.s3.credentialsSecret"
    )]
    NoIdentity(&'static str),
    /// The pod has an identity, which gave no credentials.
    #[error(
        "the pod's AWS identity gives no credentials: {0}; check the role of its service account and whom the role \
         trusts, or set destination.s3.credentialsSecret"
    )]
    IdentityRefused(String),
}

impl Unusable {
    /// The bounded reason.
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
    /// Credentials from the store's Secret, which has this name and need not exist yet.
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

/// An answer, and when it came.
type Believed = (Instant, Result<Credentials, Unusable>);

impl PodIdentity {
    /// The chain for a region, whose STS is asked; nothing is looked for yet.
    pub async fn new(region: Region) -> Self {
        Self { chain: DefaultCredentialsChain::builder().region(region).build().await, believed: Mutex::default() }
    }

    async fn resolve(&self) -> Result<Credentials, CredentialsError> {
        let before = self.believed().clone().filter(|(when, _)| when.elapsed() < BELIEVED);
        if let Some((_, answer)) = before {
            return answer.map_err(CredentialsError::not_loaded);
        }
        let asked = Instant::now();
        let answer = match tokio::time::timeout(IDENTITY_TIMEOUT, self.chain.provide_credentials()).await {
            Ok(Ok(credentials)) => Ok(credentials),
            Ok(Err(CredentialsError::CredentialsNotLoaded(_))) => Err(Unusable::NoIdentity("nothing is there")),
            Ok(Err(error)) => Err(Unusable::IdentityRefused(cause(&error))),
            // What an instance gave is used on while its service fails: AWS then lets it be good for longer.
            Err(_) => {
                let unusable = Unusable::NoIdentity("the last that was asked did not answer in time");
                self.chain.fallback_on_interrupt().ok_or(unusable)
            }
        };
        if answer.is_err() || asked.elapsed() > BELIEVED {
            *self.believed() = Some((Instant::now(), answer.clone()));
        }
        answer.map_err(CredentialsError::not_loaded)
    }

    fn believed(&self) -> MutexGuard<'_, Option<Believed>> {
        self.believed.lock().unwrap_or_else(PoisonError::into_inner)
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

/// The code of an answer, whose text differs at every attempt; else the innermost cause.
fn cause(error: &(dyn Error + 'static)) -> String {
    let answered = causes(error).find_map(|cause| cause.downcast_ref::<ErrorMetadata>()?.code());
    let innermost = causes(error).last().map(ToString::to_string).unwrap_or_default();
    answered.map_or_else(|| innermost.split(": ").next().unwrap_or_default().to_owned(), ToOwned::to_owned)
}
