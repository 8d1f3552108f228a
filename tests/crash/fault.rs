//! The faults that are done to a write, and how a write is told from the others of a run. It must
//! never name a fault that a real API server, or the way to it, does not have.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use strum::{EnumIter, IntoStaticStr};

/// One write of a run: the same in every run of the scenario.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Write {
    /// The step of the scenario in which it comes.
    pub step: &'static str,
    /// Method and path, without names.
    pub request: String,
    /// Which one of its kind in this step, from 1.
    pub nth: usize,
}

impl std::fmt::Display for Write {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} {} of \"{}\"", self.request, self.nth, self.step)
    }
}

/// What happens to it.
#[derive(Clone, Copy, Debug, EnumIter, Eq, IntoStaticStr, PartialEq)]
#[strum(serialize_all = "lowercase")]
pub enum Fault {
    /// The operator is killed before it reaches the API server.
    #[strum(serialize = "killed before")]
    KilledBefore,
    /// The operator is killed after the API server has applied it, before the answer.
    #[strum(serialize = "killed after")]
    KilledAfter,
    /// It is applied, and no answer ever comes.
    #[strum(serialize = "applied and never answered")]
    Unanswered,
    /// 500, and it is not applied.
    #[strum(serialize = "answered 500")]
    Failed,
    /// 409, and it is not applied.
    #[strum(serialize = "answered 409")]
    Conflict,
    /// 429 with a time after which to come again.
    #[strum(serialize = "answered 429")]
    TooMany,
}

impl Fault {
    /// Whether the API server sees it.
    pub fn is_applied(self) -> bool {
        matches!(self, Self::KilledAfter | Self::Unanswered)
    }

    /// Whether the operator ends.
    pub fn kills(self) -> bool {
        matches!(self, Self::KilledBefore | Self::KilledAfter)
    }

    /// What the operator is told, if anything.
    pub fn answer(self) -> Option<Response> {
        let (code, reason) = match self {
            Self::KilledBefore | Self::KilledAfter | Self::Unanswered => return None,
            Self::Failed => (StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
            Self::Conflict => (StatusCode::CONFLICT, "Conflict"),
            Self::TooMany => (StatusCode::TOO_MANY_REQUESTS, "TooManyRequests"),
        };
        let status = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code.as_u16(),
            "reason": reason, "message": "a fault of the test's" });
        let mut answer = (code, axum::Json(status)).into_response();
        if self == Self::TooMany {
            answer.headers_mut().insert(header::RETRY_AFTER, 1.into());
        }
        Some(answer)
    }
}
