//! One namespace of a cluster, for `check`.

use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use kube::core::DeserializeGuard;
use kube::{Api, Client, Config, Resource};

use crate::api::ImagePipeline;

/// Timeout for the connection to the API server, and for each response.
const WITHIN: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// Neither an in-cluster configuration nor a kubeconfig.
    #[error("no cluster: set KUBECONFIG to a kubeconfig file, or use a manifest with --file")]
    Nowhere(#[source] kube::Error),
    #[error(
        "there is no {asked} ({server}); correct the name, or set the namespace with --namespace (`kubectl get imgp -A` \
         lists all ImagePipelines, if the chart is installed)"
    )]
    NotFound { asked: String, server: String },
    #[error(
        "{server} does not let this user {verb} {asked}; run this as a user who has that right in the namespace: {said}"
    )]
    Forbidden { verb: String, asked: String, server: String, said: String },
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
        let asked = format!("ImagePipeline {name:?}");
        let api: Api<DeserializeGuard<ImagePipeline>> = self.api();
        match api.get(name).await {
            Ok(DeserializeGuard(Ok(pipeline))) => Ok(pipeline),
            Ok(DeserializeGuard(Err(invalid))) => {
                Err(ClusterError::Invalid { asked: self.within(&asked), detail: invalid.error })
            }
            // By the code: without the CRD, the API server's 404 has no `Status` body.
            Err(kube::Error::Api(status)) if status.code == 404 => {
                Err(ClusterError::NotFound { asked: self.within(&asked), server: self.server.clone() })
            }
            Err(error) => Err(self.failed("read", &asked, error)),
        }
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType: Default>,
    {
        Api::namespaced(self.client.clone(), &self.name)
    }

    /// The error of a request. `asked`: a kind, or one object of it.
    pub fn failed(&self, verb: &str, asked: &str, error: kube::Error) -> ClusterError {
        let (asked, server) = (self.within(asked), self.server.clone());
        match error {
            kube::Error::Api(status) if status.code == 403 => {
                ClusterError::Forbidden { verb: verb.to_owned(), asked, server, said: status.message }
            }
            source => ClusterError::Unanswered { asked, server, source },
        }
    }

    fn within(&self, asked: &str) -> String {
        format!("{asked} in namespace {:?}", self.name)
    }
}
