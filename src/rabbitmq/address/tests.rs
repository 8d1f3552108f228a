//! The address that each form of Secret gives, and the errors for malformed Secrets.
#![allow(clippy::expect_used)]

use super::*;

type Pairs<'a> = &'a [(&'static str, &'a str)];
type Keys<'a> = &'a [(SecretRole, &'a str, &'a str)];

const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
const KEY: &str = "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n";

use SecretRole::{Broker, BrokerAuthority, BrokerCertificate, BrokerCredentials};

fn source(fields: serde_json::Value) -> RabbitmqSource {
    let mut source = serde_json::json!({ "queue": "images", "rabbitmqClusterReference": { "name": "rabbit" } });
    let into = source.as_object_mut().expect("an object");
    into.extend(fields.as_object().expect("an object").clone());
    serde_json::from_value(source).expect("a source")
}

fn read(fields: serde_json::Value, keys: Keys<'_>) -> Result<BrokerAddress, Invalid> {
    BrokerAddress::read(&source(fields), |role, key| {
        keys.iter().find(|given| (given.0, given.1) == (role, key)).map(|given| given.2.as_bytes().to_vec())
    })
}

fn plain(pairs: Pairs<'_>) -> Result<BrokerAddress, Invalid> {
    let keys: Vec<_> = pairs.iter().map(|(key, value)| (Broker, *key, *value)).collect();
    read(serde_json::json!({}), &keys)
}

/// The compared fields of an address, on one line.
fn line(address: &BrokerAddress) -> String {
    let BrokerAddress { host, port, username, password, tls, .. } = address;
    format!("{username} {password} {host} {port}{}", if tls.is_some() { " tls" } else { "" })
}

#[test]
fn one_secret_of_any_shape_names_a_broker() {
    let cases: &[(&str, Pairs<'_>, &str)] = &[
        (
            "the cluster operator's default user",
            &[
                ("connection_string", "amqp://u:p@elsewhere:1/"),
                ("default_user.conf", "default_user = u"),
                ("host", "rabbit.greench.svc"),
                ("password", "p#%/@"),
                ("port", "5672"),
                ("provider", "rabbitmq"),
                ("type", "rabbitmq"),
                ("username", "u"),
            ],
            "u p#%/@ rabbit.greench.svc 5672",
        ),
        ("files end with a newline", &[("host", "h\n"), ("username", "u\n"), ("password", "p\r\n")], "u p h 5672"),
        (
            "a service binding has keys and a uri",
            &[
                ("type", "rabbitmq"),
                ("provider", "example"),
                ("host", "h"),
                ("port", "5673"),
                ("username", "u"),
                ("password", "p"),
                ("uri", "amqps://other:other@other:1/other"),
            ],
            "u p h 5673",
        ),
        (
            "keys are taken verbatim, except for the newline at the end",
            &[("host", "h"), ("port", "5673\n"), ("username", "u%40x"), ("password", " p%23+&\"é \n")],
            "u%40x  p%23+&\"é  h 5673",
        ),
        (
            "an empty key counts as absent",
            &[("host", ""), ("port", ""), ("username", ""), ("password", "\n"), ("uri", "amqp://u:p@h:5673")],
            "u p h 5673",
        ),
        (
            "an empty uri counts as absent",
            &[("host", "h"), ("username", "u"), ("password", "p"), ("uri", "")],
            "u p h 5672",
        ),
        ("a uri that ends with a newline", &[("uri", "amqp://u:p@h:5673\n")], "u p h 5673"),
        ("only a uri", &[("uri", "amqp://u:p@h:5673")], "u p h 5673"),
        ("a uri without a port", &[("uri", "amqp://u:p@h")], "u p h 5672"),
        ("a uri of TLS", &[("uri", "amqps://u:p@h")], "u p h 5671 tls"),
        ("a uri of TLS with a port", &[("uri", "amqps://u:p@h:5673/")], "u p h 5673 tls"),
        ("an encoded uri", &[("uri", "amqp://u%40x:p%23%2f%25%3A@h/%2f")], "u@x p#/%: h 5672"),
        ("an IPv6 address", &[("uri", "amqp://u:p@[fd00::7]:5673")], "u p fd00::7 5673"),
        ("keys take precedence over the uri", &[("uri", "amqp://u:p@h:1"), ("port", "2")], "u p h 2"),
        (
            "a user in keys, the host in the uri",
            &[("uri", "amqp://u:p@h:1"), ("username", "x"), ("password", "y")],
            "x y h 1",
        ),
        ("a user in the uri, the host in a key", &[("uri", "amqps://u:p@other:1"), ("host", "h")], "u p h 5672"),
        (
            "a Secret of the topology operator",
            &[("uri", "https://rabbit.svc:15671"), ("username", "u"), ("password", "p")],
            "u p rabbit.svc 5672",
        ),
        (
            "a Secret of the topology operator, uri without a scheme",
            &[("uri", "rabbit.svc:15672"), ("username", "u"), ("password", "p")],
            "u p rabbit.svc 5672",
        ),
    ];
    for (shape, keys, expected) in cases {
        let address = plain(keys).unwrap_or_else(|invalid| panic!("{shape}: {invalid}"));
        assert_eq!(line(&address), *expected, "{shape}");
    }
}

#[test]
fn a_user_of_its_own_goes_before_the_brokers() {
    let credentials = serde_json::json!({ "credentialsSecret": { "name": "reader" } });
    let broker = [(Broker, "host", "h"), (Broker, "username", "admin"), (Broker, "password", "secret")];
    let mut keys = broker.to_vec();
    keys.extend([(BrokerCredentials, "username", "reader"), (BrokerCredentials, "password", "r")]);
    assert_eq!(line(&read(credentials.clone(), &keys).expect("valid")), "reader r h 5672");

    let absent = read(credentials.clone(), &broker).expect_err("no Secret");
    assert_eq!((absent.role, absent.reason()), (BrokerCredentials, Reason::SecretNotFound));
    keys.pop();
    let half = read(credentials, &keys).expect_err("no password");
    assert_eq!(
        half.to_string(),
        "the Secret of source.rabbitmq.credentialsSecret needs the key password, which is missing or empty; \
         supported keys: username, password"
    );
}

/// The Cluster Operator's Secret has the address, the Messaging Topology Operator's Secret the login.
#[test]
fn a_user_of_the_topology_operator_reads_a_broker_of_the_cluster_operator() {
    let credentials = serde_json::json!({ "credentialsSecret": { "name": "reader-user-credentials" } });
    let mut keys = vec![
        (Broker, "connection_string", "amqp://default_user_a:b@rabbit.greench.svc:5672/"),
        (Broker, "default_user.conf", "default_user = default_user_a"),
        (Broker, "host", "rabbit.greench.svc"),
        (Broker, "password", "admin"),
        (Broker, "port", "5672"),
        (Broker, "provider", "rabbitmq"),
        (Broker, "type", "rabbitmq"),
        (Broker, "username", "default_user_a"),
        (BrokerCredentials, "username", "reader"),
        (BrokerCredentials, "password", "p#%/@"),
    ];
    let address = read(credentials.clone(), &keys).expect("valid");
    assert_eq!(line(&address), "reader p#%/@ rabbit.greench.svc 5672");
    keys.retain(|(role, key, _)| *role == BrokerCredentials || matches!(*key, "host" | "port"));
    assert_eq!(read(credentials.clone(), &keys).expect("valid"), address, "the broker Secret needs no login");
    keys.retain(|(role, key, _)| (*role, *key) != (BrokerCredentials, "password"));
    keys.push((BrokerCredentials, "password", "\n"));
    let empty = read(credentials, &keys).expect_err("an empty password");
    assert_eq!((empty.role, empty.reason()), (BrokerCredentials, Reason::SecretInvalid));
}

#[test]
fn tls_takes_its_material_from_its_secrets() {
    let login = [(Broker, "host", "h"), (Broker, "username", "u"), (Broker, "password", "p")];
    let address = read(serde_json::json!({ "tls": {} }), &login).expect("valid");
    assert_eq!(line(&address), "u p h 5671 tls");

    let tls = serde_json::json!({ "tls": { "caSecret": { "name": "ca" }, "clientCertSecret": { "name": "client" } } });
    let material = [
        (BrokerAuthority, "ca.crt", CERTIFICATE),
        (BrokerCertificate, "tls.crt", CERTIFICATE),
        (BrokerCertificate, "tls.key", KEY),
    ];
    let address = read(tls.clone(), &[&login[..], &material].concat()).expect("valid");
    assert_eq!(
        (address.username.as_str(), address.port),
        ("u", 5671),
        "an explicit user takes precedence over the certificate"
    );
    let read_tls = address.tls.as_ref().expect("TLS");
    assert!(read_tls.authorities.as_deref() == Some(CERTIFICATE.as_bytes()));
    assert!(read_tls.certificate.as_ref().is_some_and(|certificate| certificate.key == KEY.as_bytes()));

    let external = read(tls.clone(), &[&login[..1], &material].concat()).expect("valid");
    assert_eq!(line(&external), "  h 5671 tls", "without a user the certificate names the user");
    assert!(external != address, "different logins share no connection");
    let half = read(tls, &[&login[..2], &material].concat()).expect_err("no password");
    assert_eq!(half.problem, Problem::Missing("password", "host, port, username, password, uri".to_owned()));
}

#[test]
fn tls_material_that_is_wrong_is_named() {
    let tls = serde_json::json!({ "tls": { "caSecret": { "name": "ca" }, "clientCertSecret": { "name": "client" } } });
    let all = [
        (Broker, "host", "h"),
        (BrokerAuthority, "ca.crt", CERTIFICATE),
        (BrokerCertificate, "tls.crt", CERTIFICATE),
        (BrokerCertificate, "tls.key", KEY),
    ];
    let cases = [
        (BrokerAuthority, "ca.crt", None, "source.rabbitmq.tls.caSecret is missing, or has none of the keys ca.crt"),
        (BrokerAuthority, "ca.crt", Some(KEY), "caSecret has a key ca.crt that holds no certificate in PEM"),
        (BrokerCertificate, "tls.key", None, "clientCertSecret needs the key tls.key, which is missing"),
        (BrokerCertificate, "tls.key", Some("a key"), "has a key tls.key that holds no unencrypted private key in PEM"),
        (BrokerCertificate, "tls.crt", Some(""), "clientCertSecret needs the key tls.crt, which is missing or empty"),
    ];
    for (role, key, value, expected) in cases {
        let mut keys: Vec<_> = all.into_iter().filter(|given| (given.0, given.1) != (role, key)).collect();
        keys.extend(value.map(|value| (role, key, value)));
        let invalid = read(tls.clone(), &keys).expect_err("wrong").to_string();
        assert!(invalid.contains(expected), "{invalid}");
    }
}

#[test]
fn a_secret_that_is_wrong_is_named_by_field_and_key() {
    let cases: &[(Pairs<'_>, &str)] = &[
        (&[], "is missing, or has none of the keys host, port, username, password, uri"),
        (&[("host", "h"), ("username", "u")], "needs the key password"),
        (&[("host", "h"), ("password", "p")], "needs the key username"),
        (&[("host", "h")], "needs the key username"),
        (&[("host", ""), ("username", "u"), ("password", "p")], "needs the key host"),
        (&[("host", "h"), ("port", "0"), ("username", "u"), ("password", "p")], "has a key port that is not a number"),
        (&[("uri", "http://h"), ("username", "u")], "needs the key password"),
        (&[("uri", "http://u:p@h")], "needs the key username"),
        (&[("uri", "amqp://h")], "needs the key username"),
        (&[("uri", "amqp://u@h")], "has a key uri that is not of the form"),
        (&[("uri", "amqp://u:12#34@h")], "has a key uri that is not of the form"),
        (&[("uri", "amqp://u:12/34@h")], "has a key uri that is not of the form"),
        (&[("uri", "amqp://u:p#q@h")], "has a key uri that is not of the form"),
        (&[("uri", "amqp://u:%ff@h")], "has a key uri that is not of the form"),
        (&[("uri", "mqtt://u:p@h")], "has a key uri that is not of the form"),
        (&[("uri", "amqp://u:p@h/prod")], r#"virtual host "prod", but source.rabbitmq.vhost is "/""#),
    ];
    for (keys, expected) in cases {
        let invalid = plain(keys).expect_err("wrong").to_string();
        let named = "the Secret of source.rabbitmq.rabbitmqClusterReference ";
        assert!(invalid.starts_with(named) && invalid.contains(expected), "{keys:?}: {invalid}");
        assert!(!invalid.contains("12") && !invalid.contains("34@"), "{invalid}");
    }
}

#[test]
fn a_virtual_host_is_taken_as_it_is_written() {
    let keys: Keys<'_> = &[(Broker, "uri", "amqp://u:p@h/a%2Fb")];
    let vhost = |vhost: &str| read(serde_json::json!({ "vhost": vhost }), keys).map(|address| address.vhost);
    assert_eq!(vhost("a/b").expect("the same"), "a/b");
    assert!(vhost("%2f").is_err());
    let keys: Keys<'_> = &[(Broker, "host", "h"), (Broker, "username", "u"), (Broker, "password", "p")];
    for written in ["/", "%2f", "#", "a@b", "a/b"] {
        let address = read(serde_json::json!({ "vhost": written }), keys).expect("valid");
        assert_eq!(address.vhost, written);
    }
}

#[test]
fn nothing_secret_is_shown() {
    let tls = serde_json::json!({ "tls": { "clientCertSecret": { "name": "client" } } });
    let keys: Keys<'_> = &[
        (Broker, "host", "h"),
        (Broker, "username", "u"),
        (Broker, "password", "hidden"),
        (BrokerCertificate, "tls.crt", CERTIFICATE),
        (BrokerCertificate, "tls.key", KEY),
    ];
    assert_eq!(format!("{:?}", read(tls, keys).expect("valid")), "u@h:5671// with TLS");
}
