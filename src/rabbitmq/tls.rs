//! TLS for RabbitMQ: trusted CA certificates, the client certificate, and explanations of TLS failures. Certificates
//! are always verified, including the host name.

use std::io;

use lapin::tcp::{RustlsConnector, RustlsConnectorConfig};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{AlertDescription, CertificateError};

use super::address::{BrokerAddress, Tls};

/// Maximum number of certificate names in a message.
const NAMES_SHOWN: usize = 5;

/// The client configuration. The system may have no CA certificates, like a minimal container image: then those of
/// the Secret must suffice.
pub(super) fn connector(tls: &Tls) -> io::Result<RustlsConnector> {
    let mut config = RustlsConnectorConfig::new_with_native_certs().unwrap_or_default();
    if let Some(authorities) = &tls.authorities {
        config.add_parsable_certificates(certificates(authorities)?);
    }
    match &tls.certificate {
        None => config.connector_with_no_client_auth(),
        Some(certificate) => {
            let key = PrivateKeyDer::from_pem_slice(&certificate.key).map_err(io::Error::other)?;
            config.connector_with_single_cert(certificates(&certificate.chain)?, key)
        }
    }
}

fn certificates(pem: &[u8]) -> io::Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(io::Error::other)
}

/// Explains a failed connection, with advice. `None`: TLS is not the cause.
pub(super) fn explain(address: &BrokerAddress, error: &io::Error) -> Option<(String, String)> {
    let tls = address.tls.as_ref()?;
    let shown = tls.certificate.is_some();
    let Some(cause) = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>()) else {
        // A broker that requires a certificate sends an alert and closes; the alert may be lost.
        let asks = format!("if it asks for a certificate, {SHOW}");
        return (closed(error) && !shown).then(|| ("it closes the connection".to_owned(), asks));
    };
    let (why, advice) = match cause {
        rustls::Error::InvalidCertificate(error) => return Some(certificate(&address.host, error)),
        rustls::Error::AlertReceived(alert) if !shown && asks(*alert) => ("it asks for a certificate".to_owned(), SHOW),
        rustls::Error::AlertReceived(alert) if shown && about_certificate(*alert) => {
            let why = format!("it refuses the certificate of source.rabbitmq.tls.clientCertSecret ({alert:?})");
            (why, "renew tls.crt")
        }
        rustls::Error::InvalidMessage(_) => (
            "the server does not speak TLS".to_owned(),
            "correct port in the broker's Secret (with TLS usually 5671), or remove source.rabbitmq.tls",
        ),
        rustls::Error::InconsistentKeys(_) => (
            "tls.key is not the key of tls.crt".to_owned(),
            "put the key of tls.crt into the Secret of source.rabbitmq.tls.clientCertSecret",
        ),
        other => (other.to_string(), ""),
    };
    Some((why, advice.to_owned()))
}

const SHOW: &str = "name a Secret with tls.crt and tls.key in source.rabbitmq.tls.clientCertSecret";

/// Whether the peer closed the connection.
pub(super) fn closed(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

/// TLS 1.3 has the alert `certificate_required`; earlier versions use general alerts.
fn asks(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::CertificateRequired | AlertDescription::HandshakeFailure | AlertDescription::BadCertificate
    )
}

fn about_certificate(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::HandshakeFailure
    )
}

fn certificate(host: &str, error: &CertificateError) -> (String, String) {
    let (why, advice) = match error {
        // `BadSignature`: a CA that was recreated under its old name is found, but did not sign this certificate.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => (
            "its certificate comes from an authority that is not trusted".to_owned(),
            "put that authority's certificate as ca.crt into the Secret of source.rabbitmq.tls.caSecret",
        ),
        CertificateError::NotValidForName => (format!("its certificate is not for {host:?}"), NAME),
        CertificateError::NotValidForNameContext { presented, .. } => {
            let names: Vec<&str> = presented.iter().take(NAMES_SHOWN).map(String::as_str).collect();
            (format!("its certificate is for {}, not for {host:?}", names.join(", ")), NAME)
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            ("its certificate has expired".to_owned(), "renew it")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            ("its certificate is not valid yet".to_owned(), "check the clocks")
        }
        other => (format!("its certificate can't be accepted: {other}"), ""),
    };
    (why, advice.to_owned())
}

const NAME: &str = "use a name of the certificate as host in the broker's Secret, or issue a certificate for this host";
