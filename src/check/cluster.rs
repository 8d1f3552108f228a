//! An ImagePipeline and the Secrets that it names, read from a cluster. The Secrets stay in memory. It must
//! never read a Secret that the ImagePipeline does not name, nor write anything.

use std::time::Duration;

use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Secret;
use kube::core::DeserializeGuard;
use kube::{Api, Client, Config};

use crate::api::ImagePipeline;
use crate::api::names::{self, SecretRole};
use crate::consumer::secrets::{Held, Secrets};

/// How long the API server may take to answer, and before that to take a connection.
const WITHIN: Duration = Duration::from_secs(10);

/// What is asked for can't be had.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// Nothing says where one is.
    #[error(
        "no cluster: run this in a pod that may read ImagePipelines, such as the operator's, or have KUBECONFIG name a \
         file that says where the API server is; or give a manifest with --file"
    )]
    Nowhere(#[source] kube::Error),
    /// It is not there.
    #[error(
        "there is no {asked}, as {server} says; correct the name, or give its namespace with --namespace (`kubectl get \
         imgp -A` lists them all, where the chart is installed)"
    )]
    NotFound {
        /// What was asked for.
        asked: String,
        /// Where.
        server: String,
    },
    /// Whoever runs this may not read it.
    #[error(
        "{server} does not let this user read {asked}; run this as one who may get imagepipelines and secrets \
         there, such as in the pod of an operator that serves the namespace: {said}"
    )]
    Forbidden {
        /// What was asked for.
        asked: String,
        /// Where.
        server: String,
        /// Why not.
        said: String,
    },
    /// It is there, of another form than this version knows.
    #[error("{asked} can't be read: {detail}; correct it against `kubectl explain imgp.spec`")]
    Invalid {
        /// What was asked for.
        asked: String,
        /// What and where.
        detail: String,
    },
    /// No answer, or none that can be used.
    #[error(
        "{asked} can't be read: {server} gives no answer that can be used; see that it can be reached from here, and \
         that KUBECONFIG, if there is one, names the right one"
    )]
    Unanswered {
        /// What was asked for.
        asked: String,
        /// Where.
        server: String,
        /// What came in its place.
        source: kube::Error,
    },
}

/// One namespace of a cluster.
pub struct Namespace {
    name: String,
    /// Who is asked, for errors.
    server: String,
    client: Client,
}

impl Namespace {
    /// Of the cluster that this process is started for; without a name, the namespace that this is started
    /// for as well. Nothing is asked yet.
    ///
    /// # Errors
    /// There is no cluster.
    pub async fn open(name: Option<String>) -> Result<Self, ClusterError> {
        #[expect(clippy::disallowed_methods, reason = "whoever asks for a name says by KUBECONFIG in which cluster")]
        let mut config =
            Config::infer().await.map_err(|error| ClusterError::Nowhere(kube::Error::InferConfig(error)))?;
        (config.connect_timeout, config.read_timeout, config.reset_reader_on_write) =
            (Some(WITHIN), Some(WITHIN), true);
        let name = name.unwrap_or_else(|| config.default_namespace.clone());
        let server = format!("the API server at {}", config.cluster_url);
        Ok(Self { name, server, client: Client::try_from(config).map_err(ClusterError::Nowhere)? })
    }

    /// An ImagePipeline.
    ///
    /// # Errors
    /// It is not there, or can't be read.
    pub async fn pipeline(&self, name: &str) -> Result<ImagePipeline, ClusterError> {
        let asked = self.asked("ImagePipeline", name);
        let api: Api<DeserializeGuard<ImagePipeline>> = Api::namespaced(self.client.clone(), &self.name);
        match api.get(name).await {
            Ok(DeserializeGuard(Ok(pipeline))) => Ok(pipeline),
            Ok(DeserializeGuard(Err(invalid))) => Err(ClusterError::Invalid { asked, detail: invalid.error }),
            // By the code: a cluster that has no ImagePipelines at all answers with no Status.
            Err(kube::Error::Api(status)) if status.code == 404 => {
                Err(ClusterError::NotFound { asked, server: self.server.clone() })
            }
            Err(error) => Err(self.unread(asked, error)),
        }
    }

    /// The Secrets that it names. One that is not there is held without a key.
    ///
    /// # Errors
    /// One of them can't be read.
    pub async fn secrets(&self, pipeline: &ImagePipeline) -> Result<Secrets, ClusterError> {
        let named = names::secrets(&pipeline.spec.source, &pipeline.spec.destination);
        let held = try_join_all(named.into_iter().map(|(role, name)| self.secret(role, name))).await?;
        Ok(Secrets::Held(held.into_iter().collect()))
    }

    async fn secret(&self, role: SecretRole, name: String) -> Result<(SecretRole, Held), ClusterError> {
        let place = self.asked("Secret", &name);
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.name);
        let found = api.get_opt(&name).await.map_err(|error| self.unread(place.clone(), error))?;
        let data = found.and_then(|secret| secret.data).unwrap_or_default();
        let keys = data.into_iter().map(|(key, value)| (key, value.0)).collect();
        Ok((role, Held { place, keys }))
    }

    fn asked(&self, kind: &str, name: &str) -> String {
        format!("{kind} {name:?} in namespace {:?}", self.name)
    }

    fn unread(&self, asked: String, error: kube::Error) -> ClusterError {
        let server = self.server.clone();
        match error {
            kube::Error::Api(status) if status.code == 403 => {
                ClusterError::Forbidden { asked, server, said: status.message }
            }
            source => ClusterError::Unanswered { asked, server, source },
        }
    }
}
