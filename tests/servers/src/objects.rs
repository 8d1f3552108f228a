//! Kubernetes objects as an API server holds them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

/// An ImagePipeline that has only the fields that it must have, with `changes` merged into its spec (RFC 7396: null
/// removes a field). Its uid is its name.
pub fn pipeline(namespace: &str, name: &str, changes: &Value) -> Value {
    let mut spec = json!({
        "source": { "rabbitmq": { "queue": "tiles", "rabbitmqClusterReference": { "name": "rabbit" } } },
        "destination": { "s3": { "bucket": "tiles" } },
    });
    merge(&mut spec, changes);
    json!({
        "apiVersion": "greench.dev/v1alpha1",
        "kind": "ImagePipeline",
        "metadata": { "name": name, "namespace": namespace, "uid": name, "generation": 1 },
        "spec": spec,
    })
}

/// The same object after `generation - 1` changes of its spec.
pub fn of_generation(generation: u64, mut object: Value) -> Value {
    object["metadata"]["generation"] = generation.into();
    object
}

/// `rabbitmqClusterReference` of a Secret by its own name.
pub fn connection_secret(name: &str) -> Value {
    json!({ "name": null, "connectionSecret": { "name": name } })
}

pub fn secret(namespace: &str, name: &str, keys: &[(&str, &str)]) -> Value {
    let data: Map<_, _> = keys.iter().map(|(key, value)| ((*key).to_owned(), STANDARD.encode(value).into())).collect();
    json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name, "namespace": namespace }, "data": data })
}

fn merge(into: &mut Value, changes: &Value) {
    let (Value::Object(fields), Value::Object(changes)) = (&mut *into, changes) else {
        *into = changes.clone();
        return;
    };
    for (name, change) in changes {
        match change {
            Value::Null => drop(fields.remove(name)),
            change => merge(fields.entry(name).or_insert(Value::Null), change),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_merged_and_null_removes() {
        let changes = json!({ "source": { "rabbitmq": { "rabbitmqClusterReference": connection_secret("own") } } });
        let pipeline = pipeline("forest", "tiles", &changes);
        let reference = json!({ "connectionSecret": { "name": "own" } });
        assert_eq!(pipeline["spec"]["source"]["rabbitmq"]["rabbitmqClusterReference"], reference);
        assert_eq!(pipeline["spec"]["source"]["rabbitmq"]["queue"], "tiles");
    }
}
