//! The faults injected into a write, and the identity of a write within a run. Each fault can occur with a real API
//! server or network.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use strum::{EnumIter, IntoStaticStr};

/// A write of a run. It is the same in every run of the scenario.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Write {
    /// The step of the scenario that contains the write.
    pub step: &'static str,
    /// Method and path, without names.
    pub request: String,
    /// Number of this write among equal requests in the step, from 1.
    pub nth: usize,
}

impl std::fmt::Display for Write {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} {} of \"{}\"", self.request, self.nth, self.step)
    }
}

/// The fault of a write.
#[derive(Clone, Copy, Debug, EnumIter, Eq, IntoStaticStr, PartialEq)]
#[strum(serialize_all = "lowercase")]
pub enum Fault {
    /// The operator is killed before it reaches the API server.
    #[strum(serialize = "killed before")]
    KilledBefore,
    /// The operator is killed after the API server has applied it, before the answer.
    #[strum(serialize = "killed after")]
    KilledAfter,
    /// It is applied and never answered.
    #[strum(serialize = "applied and never answered")]
    Unanswered,
    /// Answered 500 and not applied.
    #[strum(serialize = "answered 500")]
    Failed,
    /// Answered 409 and not applied.
    #[strum(serialize = "answered 409")]
    Conflict,
    /// Answered 429 with a Retry-After header, and not applied.
    #[strum(serialize = "answered 429")]
    TooMany,
}

impl Fault {
    /// Whether the API server receives the write.
    pub fn is_applied(self) -> bool {
        matches!(self, Self::KilledAfter | Self::Unanswered)
    }

    /// Whether the operator is killed.
    pub fn kills(self) -> bool {
        matches!(self, Self::KilledBefore | Self::KilledAfter)
    }

    /// The answer that the operator receives, if any.
    pub fn answer(self) -> Option<Response> {
        let (code, reason) = match self {
            Self::KilledBefore | Self::KilledAfter | Self::Unanswered => return None,
            Self::Failed => (StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
            Self::Conflict => (StatusCode::CONFLICT, "Conflict"),
            Self::TooMany => (StatusCode::TOO_MANY_REQUESTS, "TooManyRequests"),
        };
        let status = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code.as_u16(),
            "reason": reason, "message": "a fault of the test" });
        let mut answer = (code, axum::Json(status)).into_response();
        if self == Self::TooMany {
            answer.headers_mut().insert(header::RETRY_AFTER, 1.into());
        }
        Some(answer)
    }
}
