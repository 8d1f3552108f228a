//! Explains redirects, which the client does not follow: S3 redirects to another region, which the user must configure;
//! a redirect from any other server shows that the endpoint is wrong.

use url::Url;

use super::advice::{Answer, wrong_region};
use super::fault::Kind;
use super::names::store;
use crate::api::destination::S3Destination;
use crate::reason::Reason;

/// The kind, the reason and the message for a redirect.
pub fn judge(destination: &S3Destination, answer: &Answer<'_>) -> (Kind, Reason, String) {
    let store = store(destination);
    let is_here = answer.region == Some(destination.region.as_str());
    match (answer.status, answer.code, answer.region) {
        (_, _, Some(_)) if !is_here => (Kind::Environment, Reason::WrongRegion, wrong_region(destination, answer)),
        // S3 answers this until DNS knows the name of a new bucket.
        (307, Some("TemporaryRedirect"), _) | (307, _, Some(_)) => {
            let message =
                format!("{store} redirects requests until DNS knows a new bucket ({answer}); no action is needed");
            (Kind::Passing, Reason::StorageUnavailable, message)
        }
        (_, code, _) => match elsewhere(destination, answer.location) {
            Some(origin) => {
                let message = format!(
                    "{store} redirects to {origin} ({answer}); set destination.s3.endpoint to that address if it is \
                     your object store"
                );
                (Kind::Environment, Reason::StorageRefused, message)
            }
            None if is_here => {
                let message = format!(
                    "bucket {:?} is in region {:?}, which matches destination.s3.region, but {store} serves another \
                     region ({answer}); correct destination.s3.endpoint, or remove it",
                    destination.bucket, destination.region
                );
                (Kind::Environment, Reason::StorageRefused, message)
            }
            None if code == Some("PermanentRedirect") => {
                (Kind::Environment, Reason::WrongRegion, wrong_region(destination, answer))
            }
            None => {
                let message = format!(
                    "{store} redirects to itself ({answer}), which S3 never does; check destination.s3.endpoint: it \
                     must be the address of the S3 API"
                );
                (Kind::Environment, Reason::StorageRefused, message)
            }
        },
    }
}

/// Scheme, host and port of a redirect to another server. Path and query are left out: they name objects and may
/// contain tokens.
fn elsewhere(destination: &S3Destination, location: Option<&str>) -> Option<String> {
    let origin = |url: &str| Some(Url::parse(url).ok()?.origin()).filter(|origin| origin.is_tuple());
    let location = origin(location?)?;
    (origin(&destination.endpoint).as_ref() != Some(&location)).then(|| location.ascii_serialization())
}
