//! What a redirect means. The client follows none: S3 redirects to another region, which the user has to
//! set, and a redirect of any other server shows that the endpoint is not the store's.

use url::Url;

use super::advice::{Answer, store, wrong_region};
use super::error::Kind;
use crate::api::destination::S3Destination;
use crate::reason::Reason;

/// Whose fault a redirect is, its reason, and a sentence.
pub fn judge(destination: &S3Destination, answer: &Answer<'_>) -> (Kind, Reason, String) {
    let store = store(destination);
    let is_here = answer.region == Some(destination.region.as_str());
    match (answer.status, answer.code, answer.region) {
        (_, _, Some(_)) if !is_here => (Kind::Environment, Reason::WrongRegion, wrong_region(destination, answer)),
        // S3 answers so until its DNS has the name of a bucket that was just created.
        (307, Some("TemporaryRedirect"), _) | (307, _, Some(_)) => {
            let message =
                format!("{store} redirects requests for a bucket that is new ({answer}); that passes by itself");
            (Kind::Passing, Reason::StorageUnavailable, message)
        }
        (_, code, _) => match elsewhere(destination, answer.location) {
            Some(origin) => {
                let message = format!(
                    "{store} redirects to {origin} ({answer}); set destination.s3.endpoint to that address if it is your \
                     store"
                );
                (Kind::Environment, Reason::StorageRefused, message)
            }
            None if is_here => {
                let message = format!(
                    "bucket {:?} is in region {:?}, as destination.s3.region says, and {store} is the address of another \
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
                    "{store} redirects within itself ({answer}), as S3 never does; check destination.s3.endpoint: it must \
                     be the address of the store's S3 API"
                );
                (Kind::Environment, Reason::StorageRefused, message)
            }
        },
    }
}

/// Scheme, host and port of a redirect to another server. Its path and query name objects and may hold tokens.
fn elsewhere(destination: &S3Destination, location: Option<&str>) -> Option<String> {
    let origin = |url: &str| Some(Url::parse(url).ok()?.origin()).filter(|origin| origin.is_tuple());
    let location = origin(location?)?;
    (origin(&destination.endpoint).as_ref() != Some(&location)).then(|| location.ascii_serialization())
}
