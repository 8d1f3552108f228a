//! A real control plane on loopback: etcd, kube-apiserver and kube-controller-manager, without scheduler and
//! kubelet. It ends with the tests.

use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;
use tokio::sync::OnceCell;

use crate::chart::{OPERATOR, limits, rendered};
use crate::kubectl::Kubectl;
use servers::control_plane::{ApiServer, programs};
use support::eventually::{LIMIT, eventually};
use support::process::{Process, directory};

/// Controllers that create pods for Deployments, delete objects without an owner, and check the types of expressions.
const CONTROLLERS: &str = "deployment-controller,replicaset-controller,garbage-collector-controller,\
                           namespace-controller,serviceaccount-controller,validatingadmissionpolicy-status-controller";

pub struct ControlPlane {
    pub api_server: ApiServer,
    _manager: Process,
}

impl ControlPlane {
    /// The control plane that all tests of this process share. Each test uses its own namespaces.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();
        SHARED.get_or_init(Self::start).await
    }

    /// A client with all rights, for the test's own runtime.
    pub async fn client(&self) -> kube::Client {
        self.api_server.client().await
    }

    async fn start() -> Self {
        let api_server = ApiServer::start(&programs().join("kube-apiserver"), &[]);
        api_server.install_crd().await;
        limit(&api_server).await;
        // Started after the CRD exists: the garbage collector looks for new kinds only twice a minute.
        let manager = Process::start("kube-controller-manager", &directory("kube-controller-manager"), |command| {
            let kubeconfig = &api_server.kubeconfig;
            command.arg(programs().join("kube-controller-manager")).arg("--kubeconfig").arg(kubeconfig);
            command.args(["--leader-elect=false", "--secure-port=0", "--kube-api-qps=2000", "--kube-api-burst=4000"]);
            command.arg(format!("--controllers={CONTROLLERS}"));
        });
        Self { api_server, _manager: manager }
    }
}

/// Puts the limits of the chart on the operator, and waits until the API server enforces them: it reads roles and
/// policies from caches.
async fn limit(api_server: &ApiServer) {
    let kubectl = Kubectl { api_server, home: directory("limits") };
    kubectl.applies(&limits(&rendered(&kubectl.version(), &[])), &[]);
    let operator = api_server.client_as(|user| user.impersonate = Some(OPERATOR.to_owned())).await;
    let deployments: Api<Deployment> = Api::namespaced(operator, "default");
    let foreign = json!({
        "metadata": { "name": "foreign" },
        "spec": {
            "selector": { "matchLabels": { "app": "foreign" } },
            "template": {
                "metadata": { "labels": { "app": "foreign" } },
                "spec": { "containers": [{ "name": "foreign", "image": "foreign" }] },
            },
        },
    });
    let foreign = serde_json::from_value(foreign).expect("a Deployment");
    eventually("the operator's limits", LIMIT, async || {
        match deployments.create(&PostParams { dry_run: true, ..Default::default() }, &foreign).await {
            Err(kube::Error::Api(status)) if status.message.contains("ValidatingAdmissionPolicy") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}
