//! Objects for Prometheus and Grafana: monitors that select the operator and the consumers, alerts, and a dashboard
//! that loads. The module `queries` checks the queries.

use std::collections::BTreeSet;

use image_pipeline::api::{ImagePipeline, names};
use image_pipeline::controller::{ConsumerImage, build};
use serde_json::{Value, json};

use super::{REPOSITORY, chart, rendered, root, yaml};

#[test]
fn the_operator_is_scraped_by_its_service() {
    let values = [REPOSITORY, "serviceMonitor.enabled=true"];
    let (monitor, service) = (rendered("ServiceMonitor", &values), rendered("Service", &values));
    assert_eq!(monitor["apiVersion"], "monitoring.coreos.com/v1");
    for (label, value) in monitor["spec"]["selector"]["matchLabels"].as_object().unwrap() {
        assert_eq!(service["metadata"]["labels"][label], *value);
    }
    let port = &service["spec"]["ports"][0]["name"];
    assert_eq!(monitor["spec"]["endpoints"], json!([{ "port": port, "path": "/metrics", "honorLabels": true }]));
}

#[test]
fn consumers_are_scraped_and_named_by_their_pipeline() {
    let monitor = rendered("PodMonitor", &[REPOSITORY, "podMonitor.enabled=true"]);
    let example = yaml(&std::fs::read_to_string(root("examples/imagepipeline.yaml")).unwrap());
    let pipeline: ImagePipeline = serde_json::from_value(example).unwrap();
    let image = ConsumerImage { image: "image:1".to_owned(), pull_policy: "Never".to_owned(), pull_secrets: vec![] };
    let template =
        json!(build::deployment(&pipeline, 1, &build::Template::new(&pipeline, image)).spec.unwrap().template);

    let selector: Vec<_> = names::CONSUMER_SELECTOR.split(',').map(|label| label.split_once('=').unwrap()).collect();
    let selects = monitor["spec"]["selector"]["matchLabels"].as_object().unwrap();
    assert_eq!(selects.len(), selector.len());
    for (label, value) in selector {
        assert_eq!((&selects[label], &template["metadata"]["labels"][label]), (&json!(value), &json!(value)));
    }
    let whose = format!("__meta_kubernetes_pod_label_{}", names::INSTANCE_LABEL.replace(['.', '/'], "_"));
    let endpoint = json!({
        "port": template["spec"]["containers"][0]["ports"][0]["name"],
        "path": "/metrics",
        "relabelings": [{ "sourceLabels": [whose], "targetLabel": "pipeline" }],
    });
    assert_eq!(monitor["spec"]["podMetricsEndpoints"], json!([endpoint]));
    assert_eq!(monitor["spec"]["namespaceSelector"], json!({ "any": true }));
    assert_eq!(template["metadata"]["labels"][names::INSTANCE_LABEL], "forest-tiles");
}

#[test]
fn every_alert_says_how_grave_it_is_and_what_to_do() {
    let rule = rendered("PrometheusRule", &[REPOSITORY, "prometheusRule.enabled=true"]);
    let alerts = &rule["spec"]["groups"][0]["rules"];
    assert_eq!(*alerts, yaml(&chart("files/alerts.yaml")));
    let mut names = BTreeSet::new();
    for alert in alerts.as_array().unwrap() {
        assert!(names.insert(alert["alert"].as_str().unwrap()), "twice: {alert}");
        assert!(["warning", "critical"].iter().any(|severity| alert["labels"]["severity"] == *severity), "{alert}");
        for text in ["summary", "description"] {
            assert!(alert["annotations"][text].as_str().is_some_and(|text| text.len() > 20), "{alert}");
        }
        let known = ["alert", "annotations", "expr", "for", "labels"];
        assert!(alert.as_object().unwrap().keys().all(|key| known.contains(&key.as_str())), "{alert}");
    }
    for matters in ["BacklogNotDraining", "ParkedGrowing", "MessagesRenewed", "StorageUnavailable", "DepthUnknown"] {
        assert!(names.contains(&*format!("ImagePipeline{matters}")), "{names:?}");
    }
}

#[test]
fn the_dashboard_is_whole_and_its_panels_do_not_overlap() {
    let map = rendered("ConfigMap", &[REPOSITORY, "dashboard.enabled=true"]);
    let text = map["data"]["image-pipeline.json"].as_str().unwrap();
    assert_eq!(text.trim_end(), chart("files/dashboard.json").trim_end());
    let dashboard: Value = serde_json::from_str(text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let (mut ids, mut cells) = (BTreeSet::new(), BTreeSet::new());
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "twice: {panel}");
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|edge| panel["gridPos"][edge].as_u64().unwrap());
        assert!(x + w <= 24, "{panel}");
        for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert!(cells.insert(cell), "over another: {panel}");
        }
        assert!(panel["type"] == "row" || panel["targets"].as_array().is_some_and(|asks| !asks.is_empty()), "{panel}");
    }
}
