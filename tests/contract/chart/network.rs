//! Network access: the operator's NetworkPolicy and the example for consumers, compared with the labels, ports and
//! addresses in the code.

use std::net::IpAddr;

use image_pipeline::api::names;
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};

use super::{REPOSITORY, rendered, root, template, yaml};

const POLICY: &str = "networkPolicy.enabled=true";

fn policy(values: &[&str]) -> NetworkPolicy {
    serde_json::from_value(rendered("NetworkPolicy", &[&[REPOSITORY, POLICY], values].concat())).unwrap()
}

/// Whether a label selector without expressions selects these labels.
fn selects(selector: &LabelSelector, labels: &Value) -> bool {
    let wanted = selector.match_labels.iter().flatten();
    selector.match_expressions.is_none() && wanted.into_iter().all(|(key, value)| labels[key] == **value)
}

fn consumer() -> Value {
    json!(names::labels("forest-tiles"))
}

fn operator() -> Value {
    template(&[REPOSITORY])["metadata"]["labels"].clone()
}

fn ports(rule: &Value) -> Vec<i64> {
    rule["ports"].as_array().unwrap().iter().map(|port| port["port"].as_i64().unwrap()).collect()
}

/// Whether an address is in a CIDR block such as 10.0.0.0/8.
fn within(block: &str, address: IpAddr) -> bool {
    let (network, length) = block.split_once('/').unwrap();
    let (bits, length) = (
        |ip: IpAddr| match ip {
            IpAddr::V4(four) => (u128::from(four.to_bits()) << 96, 32),
            IpAddr::V6(six) => (six.to_bits(), 128),
        },
        length.parse::<u32>().unwrap(),
    );
    let ((network, kind), (address, of)) = (bits(network.parse().unwrap()), bits(address));
    kind == of && (length == 0 || network >> (128 - length) == address >> (128 - length))
}

fn lets_out(peers: &[NetworkPolicyPeer], address: &str) -> bool {
    let address: IpAddr = address.parse().unwrap();
    peers.iter().filter_map(|peer| peer.ip_block.as_ref()).any(|block| {
        let except = block.except.iter().flatten().any(|except| within(except, address));
        within(&block.cidr, address) && !except
    })
}

#[test]
fn it_is_the_operator_that_it_is_about() {
    let spec = policy(&[]).spec.unwrap();
    let subject = spec.pod_selector.unwrap();
    assert!(selects(&subject, &operator()) && !selects(&subject, &consumer()));
    let test = rendered("Pod", &[REPOSITORY])["metadata"]["labels"].clone();
    assert!(!selects(&subject, &test));

    let only = policy(&["networkPolicy.ingressFrom[0].namespaceSelector.matchLabels.team=monitoring"]).spec.unwrap();
    let from = only.ingress.unwrap()[0].from.clone().unwrap();
    assert!(selects(from[0].pod_selector.as_ref().unwrap(), &test), "helm test must still work");
    assert_eq!(json!(from[1]), json!({ "namespaceSelector": { "matchLabels": { "team": "monitoring" } } }));
    assert_eq!(spec.ingress.unwrap()[0].from, None);
}

#[test]
fn the_operator_reaches_what_it_needs() {
    let rendered = rendered("NetworkPolicy", &[REPOSITORY, POLICY]);
    let rules = rendered["spec"]["egress"].as_array().unwrap();
    assert_eq!(
        rules.iter().map(ports).collect::<Vec<_>>(),
        [vec![53, 53, 5353, 5353], vec![443, 6443, 5672, 5671], vec![i64::from(names::HTTP_PORT)],]
    );
    let spec = policy(&[]).spec.unwrap();
    let consumers = &spec.egress.as_ref().unwrap()[2].to.as_ref().unwrap()[0];
    let selector = consumers.pod_selector.as_ref().unwrap();
    assert!(selects(selector, &consumer()) && !selects(selector, &operator()));
    assert_eq!(names::CONSUMER_SELECTOR.split(',').count(), selector.match_labels.as_ref().unwrap().len());
    for label in names::CONSUMER_SELECTOR.split(',') {
        let (key, value) = label.split_once('=').unwrap();
        assert_eq!(selector.match_labels.as_ref().unwrap()[key], value);
    }
}

/// Addresses that the operator refuses to dial, too (`rabbitmq::DialPolicy`).
#[test]
fn no_rule_leads_to_what_tells_a_machine_its_secrets() {
    let egress = policy(&[]).spec.unwrap().egress.unwrap();
    let anywhere = egress[1].to.clone().unwrap();
    for address in [
        "169.254.169.254",
        "169.254.170.23",
        "fe80::1",
        "fd00:ec2::254",
        "fd20:ce::254",
        "100.100.100.200",
        "168.63.129.16",
    ] {
        assert!(egress.iter().all(|rule| !lets_out(rule.to.as_ref().unwrap(), address)), "{address}");
    }
    for address in ["10.0.0.7", "192.168.1.1", "100.64.0.1", "203.0.113.9", "fd00::7", "2001:db8::7"] {
        assert!(lets_out(&anywhere, address), "{address}");
    }
    assert!(egress.iter().all(|rule| rule.to.is_some()), "a rule without peers allows every address");
}

#[test]
fn the_example_for_consumers_is_about_them_and_lets_the_operator_in() {
    let text = std::fs::read_to_string(root("examples/networkpolicy-consumers.yaml")).unwrap();
    let example: NetworkPolicy = serde_json::from_value(yaml(&text)).unwrap();
    assert_eq!(json!(example), yaml(&text), "a field that NetworkPolicy does not have");
    let spec = example.spec.unwrap();
    let subject = spec.pod_selector.unwrap();
    assert!(selects(&subject, &consumer()) && !selects(&subject, &operator()));
    let ingress = spec.ingress.unwrap();
    let from = ingress[0].from.as_ref().unwrap();
    assert!(selects(from[0].pod_selector.as_ref().unwrap(), &operator()));
    assert_eq!(ingress[0].ports.as_ref().unwrap()[0].port, Some(IntOrString::Int(i32::from(names::HTTP_PORT))));
    let egress = spec.egress.unwrap();
    for secrets in ["169.254.169.254", "169.254.170.23"] {
        assert!(egress.iter().all(|rule| !lets_out(rule.to.as_ref().unwrap(), secrets)), "{secrets}");
    }
}
