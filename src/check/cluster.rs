//! Reads an ImagePipeline and its Secrets from a cluster, for `check`. Read-only; Secrets stay in memory.

use std::time::Duration;

use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Secret;
use kube::core::DeserializeGuard;
use kube::{Api, Client, Config};

use crate::api::ImagePipeline;
use crate::api::names::{self, SecretRole};
use crate::consumer::secrets::{Held, Secrets};

/// Timeout for the connection to the API server, and for each response.
const WITHIN: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// Neither an in-cluster configuration nor a kubeconfig.
    #[error(
        "no cluster: run this in a pod that may read ImagePipelines, such as the operator's pod, or set KUBECONFIG to a \
         kubeconfig file, or use a manifest with --file"
    )]
    Nowhere(#[source] kube::Error),
    #[error(
        "there is no {asked} ({server}); correct the name, or set the namespace with --namespace (`kubectl get imgp -A` \
         lists all ImagePipelines, if the chart is installed)"
    )]
    NotFound { asked: String, server: String },
    #[error(
        "{server} does not let this user read {asked}; run this as a user who may get imagepipelines and secrets \
         in the namespace, for example in the operator's pod: {said}"
    )]
    Forbidden { asked: String, server: String, said: String },
    /// The resource does not match this version's type.
    #[error("can't parse {asked}: {detail}; compare it with `kubectl explain imgp.spec`")]
    Invalid { asked: String, detail: String },
    /// No response, or an unexpected one.
    #[error(
        "can't read {asked}: no usable response from {server}; check that it is reachable from here, and that \
         KUBECONFIG, if set, names the right cluster"
    )]
    Unanswered { asked: String, server: String, source: kube::Error },
}

/// One namespace of a cluster.
pub struct Namespace {
    name: String,
    /// The API server's URL in words, for errors.
    server: String,
    client: Client,
}

impl Namespace {
    /// Infers the cluster from KUBECONFIG or the pod. Without a name, uses the namespace of the kubeconfig or the
    /// pod. Sends no request.
    pub async fn open(name: Option<String>) -> Result<Self, ClusterError> {
        #[expect(clippy::disallowed_methods, reason = "a user who passes a name selects the cluster with KUBECONFIG")]
        let mut config =
            Config::infer().await.map_err(|error| ClusterError::Nowhere(kube::Error::InferConfig(error)))?;
        (config.connect_timeout, config.read_timeout, config.reset_reader_on_write) =
            (Some(WITHIN), Some(WITHIN), true);
        let name = name.unwrap_or_else(|| config.default_namespace.clone());
        let server = format!("the API server at {}", config.cluster_url);
        Ok(Self { name, server, client: Client::try_from(config).map_err(ClusterError::Nowhere)? })
    }

    pub async fn pipeline(&self, name: &str) -> Result<ImagePipeline, ClusterError> {
        let asked = self.asked("ImagePipeline", name);
        let api: Api<DeserializeGuard<ImagePipeline>> = Api::namespaced(self.client.clone(), &self.name);
        match api.get(name).await {
            Ok(DeserializeGuard(Ok(pipeline))) => Ok(pipeline),
            Ok(DeserializeGuard(Err(invalid))) => Err(ClusterError::Invalid { asked, detail: invalid.error }),
            // By the code: without the CRD, the API server's 404 has no `Status` body.
            Err(kube::Error::Api(status)) if status.code == 404 => {
                Err(ClusterError::NotFound { asked, server: self.server.clone() })
            }
            Err(error) => Err(self.unread(asked, error)),
        }
    }

    /// The Secrets that the pipeline names. A Secret that does not exist has no keys.
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
