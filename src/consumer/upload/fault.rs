//! What an upload error says of the failed request.

use std::error::Error;

/// Who can fix a failure.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// The message is at fault: its object can never be stored unchanged.
    Message,
    /// A temporary failure: a retry can succeed without intervention.
    Passing,
    /// The configuration or the environment is at fault; a person must fix it.
    Environment,
}

/// Which objects a failure concerns.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Extent {
    /// Only this object: it can never be stored unchanged.
    Object,
    /// Perhaps only this object: for a policy, a size or a name, S3 can refuse one object and store others. Only an
    /// upload of another object decides.
    MaybeObject,
    /// The connection broke while the object was sent. A proxy may refuse its size by closing the connection.
    MaybeTooLarge,
    Store,
}

/// The purpose of the failed request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    Put,
    /// Read the existing object or its metadata.
    Read,
    /// Delete the test object of `image-pipeline check`.
    Delete,
}

/// How an existing object differs from the image.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Difference {
    /// Its metadata has a different digest.
    Pixels,
    /// Its metadata has no digest.
    NoDigest,
    /// Its metadata has the same digest, but its bytes differ.
    Bytes,
}

/// An error and its causes. `source` of an I/O error skips the error that it wraps.
pub fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error: &&'a (dyn Error + 'static)| {
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        match wrapped {
            Some(wrapped) => Some(wrapped as &(dyn Error + 'static)),
            None => error.source(),
        }
    })
}
