//! Credentials that change: RabbitMQ or S3 switches to a new user, and the pipeline's Secret follows when the fault
//! is healed.

use std::process::Command;

use futures::future::FutureExt as _;
use serde_json::json;

use super::super::commands;
use super::super::kind::Kind;
use super::super::plan::LED;
use super::super::scene::Scene;
use super::Heal;

pub async fn inject(scene: &Scene, kind: Kind, pipeline: usize) -> Heal<'_> {
    if kind == Kind::BrokerUserRotated {
        let user = new_broker_user(scene, pipeline).await;
        async move { tell_broker_user(scene, pipeline, &user).await }.boxed_local()
    } else {
        let user = new_store_user(scene, pipeline).await;
        async move { tell_store_user(scene, pipeline, &user).await }.boxed_local()
    }
}

/// Gives a pipeline valid credentials.
pub async fn renew(scene: &Scene, pipeline: usize) {
    let guest = || "guest".to_owned();
    let user = if pipeline == LED { (guest(), guest()) } else { new_broker_user(scene, pipeline).await };
    tell_broker_user(scene, pipeline, &user).await;
    let user = new_store_user(scene, pipeline).await;
    tell_store_user(scene, pipeline, &user).await;
}

/// User and password named after the pipeline and the turn.
fn user(scene: &Scene, pipeline: usize) -> (String, String) {
    let user = format!("{}-{}", scene.pipelines[pipeline].plan.name, scene.turn(pipeline));
    let password = format!("password-of-{user}");
    (user, password)
}

/// Creates a user and deletes the old users. RabbitMQ closes the connections of deleted users.
async fn new_broker_user(scene: &Scene, pipeline: usize) -> (String, String) {
    let (user, password) = user(scene, pipeline);
    let prefix = format!("{}-", scene.pipelines[pipeline].plan.name);
    let expression = format!(
        "Old = [U || L <- rabbit_auth_backend_internal:list_users(), U <- [proplists:get_value(user, L)], \
         binary:longest_common_prefix([U, <<\"{prefix}\">>]) =:= {length}, U =/= <<\"{user}\">>], \
         catch rabbit_auth_backend_internal:add_user(<<\"{user}\">>, <<\"{password}\">>, <<\"soak\">>), \
         ok = rabbit_auth_backend_internal:set_permissions(<<\"{user}\">>, <<\"/\">>, <<\".*\">>, <<\".*\">>, \
         <<\".*\">>, <<\"soak\">>), \
         [rabbit_auth_backend_internal:delete_user(U, <<\"soak\">>) || U <- Old], ok.",
        length = prefix.len(),
    );
    scene.broker_evaluates(&expression).await;
    (user, password)
}

async fn tell_broker_user(scene: &Scene, pipeline: usize, (user, password): &(String, String)) {
    let pipeline = &scene.pipelines[pipeline];
    let (name, way) = (pipeline.plan.name, pipeline.amqp.address());
    let data = json!({
        "host": way.ip().to_string(), "port": way.port().to_string(), "username": user, "password": password,
    });
    scene.secret(&format!("{name}-broker"), data).await;
}

/// Makes a new user the owner of the bucket; all other users lose access.
async fn new_store_user(scene: &Scene, pipeline: usize) -> (String, String) {
    let (user, password) = user(scene, pipeline);
    administer(scene, &["create-user", "--access", &user, "--secret", &password, "--role", "user"]).await;
    let bucket = scene.pipelines[pipeline].plan.name;
    administer(scene, &["change-bucket-owner", "--bucket", bucket, "--owner", &user]).await;
    (user, password)
}

async fn tell_store_user(scene: &Scene, pipeline: usize, (user, password): &(String, String)) {
    let name = scene.pipelines[pipeline].plan.name;
    let data = json!({ "AWS_ACCESS_KEY_ID": user, "AWS_SECRET_ACCESS_KEY": password });
    scene.secret(&format!("{name}-s3"), data).await;
}

async fn administer(scene: &Scene, arguments: &[&str]) {
    let [url, access, secret] = &scene.store;
    commands::persist(|| {
        let mut command = Command::new("versitygw");
        command.args(["admin", "--access", access, "--secret", secret, "--endpoint-url", url]).args(arguments);
        command
    })
    .await;
}
