//! What every refusal looks like: `application/problem+json` (RFC 9457) with a code.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// The media type of every error.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// After how many seconds a client that was refused for load or for want of a leader may try
/// again: an election takes one to two seconds with the default timing.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// How much of a detail is told. Parsers quote what they refuse, and that can be a whole body.
const DETAIL_CHARS_MAX: usize = 300;

/// What a client branches on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Code {
    InvalidRequest,
    Unauthenticated,
    Forbidden,
    NotFound,
    SessionExpired,
    LockHeld,
    WaitTimeout,
    Deadlock,
    OwnerBusy,
    NotHolder,
    StaleToken,
    AlreadyExists,
    VersionMismatch,
    PayloadTooLarge,
    UnsupportedMediaType,
    Overloaded,
    NoLeader,
    Unavailable,
    OutcomeUnknown,
}

impl Code {
    /// Every code, in the order of the contract's table.
    pub(crate) const ALL: [Self; 19] = [
        Self::InvalidRequest,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::NotFound,
        Self::SessionExpired,
        Self::LockHeld,
        Self::WaitTimeout,
        Self::Deadlock,
        Self::OwnerBusy,
        Self::NotHolder,
        Self::StaleToken,
        Self::AlreadyExists,
        Self::VersionMismatch,
        Self::PayloadTooLarge,
        Self::UnsupportedMediaType,
        Self::Overloaded,
        Self::NoLeader,
        Self::Unavailable,
        Self::OutcomeUnknown,
    ];

    /// The word that stands in the `code` member.
    pub(crate) fn as_str(self) -> &'static str {
        self.row().1
    }

    /// The status that goes with it.
    pub(crate) fn status(self) -> StatusCode {
        self.row().0
    }

    /// What it means, the same for every occurrence.
    pub(crate) fn title(self) -> &'static str {
        self.row().2
    }

    fn row(self) -> (StatusCode, &'static str, &'static str) {
        use StatusCode as Status;
        match self {
            Self::InvalidRequest => {
                (Status::BAD_REQUEST, "invalid_request", "The request cannot be understood")
            }
            Self::Unauthenticated => {
                (Status::UNAUTHORIZED, "unauthenticated", "A valid bearer token is needed")
            }
            Self::Forbidden => (Status::FORBIDDEN, "forbidden", "The role does not allow this"),
            Self::NotFound => (Status::NOT_FOUND, "not_found", "There is no such thing"),
            Self::SessionExpired => {
                (Status::NOT_FOUND, "session_expired", "There is no such session")
            }
            Self::LockHeld => (Status::CONFLICT, "lock_held", "The lock is held"),
            Self::WaitTimeout => {
                (Status::CONFLICT, "wait_timeout", "The lock was not granted in time")
            }
            Self::Deadlock => (Status::CONFLICT, "deadlock", "The wait would never end"),
            Self::OwnerBusy => {
                (Status::CONFLICT, "owner_busy", "The owner already waits for another lock")
            }
            Self::NotHolder => {
                (Status::CONFLICT, "not_holder", "The lock is not held by this owner")
            }
            Self::StaleToken => {
                (Status::CONFLICT, "stale_token", "The fencing token is not the newest")
            }
            Self::AlreadyExists => (Status::CONFLICT, "already_exists", "It exists already"),
            Self::VersionMismatch => {
                (Status::PRECONDITION_FAILED, "version_mismatch", "The version is another one")
            }
            Self::PayloadTooLarge => {
                (Status::PAYLOAD_TOO_LARGE, "payload_too_large", "The body is too large")
            }
            Self::UnsupportedMediaType => (
                Status::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                "The body must be application/json",
            ),
            Self::Overloaded => {
                (Status::TOO_MANY_REQUESTS, "overloaded", "The cluster has too much to do")
            }
            Self::NoLeader => {
                (Status::SERVICE_UNAVAILABLE, "no_leader", "No leader is known; nothing was done")
            }
            Self::Unavailable => (Status::SERVICE_UNAVAILABLE, "unavailable", "Nothing was done"),
            Self::OutcomeUnknown => {
                (Status::GATEWAY_TIMEOUT, "outcome_unknown", "It may or may not have been done")
            }
        }
    }
}

/// One refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    code: Code,
    status: StatusCode,
    detail: String,
    particular: Particular,
}

/// What some problems tell besides.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Particular {
    None,
    /// The sessions that would wait for one another.
    Cycle(Vec<String>),
    /// The lock that is held already.
    Lock(String),
    /// The version that is there.
    Etag(HeaderValue),
    /// How to say who one is.
    Challenge(&'static str),
}

impl Problem {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        let mut detail = detail.into();
        if let Some((end, _)) = detail.char_indices().nth(DETAIL_CHARS_MAX) {
            detail.truncate(end);
            detail.push('…');
        }
        let status = code.status();
        Self { code, status, detail, particular: Particular::None }
    }

    /// A request that makes no sense as a whole.
    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(Code::InvalidRequest, detail)
    }

    /// A member, header or parameter of a request that makes no sense.
    pub(crate) fn invalid_field(field: &str, problem: impl std::fmt::Display) -> Self {
        Self::invalid(format!("{field}: {problem}"))
    }

    /// A method that the path does not know. The contract's table has no code for it, and a
    /// client branches on `code`: it is an invalid request, with the status HTTP has for it.
    pub(crate) fn method_not_allowed(method: &axum::http::Method) -> Self {
        let detail = format!("{method} is not served here; see the allow header");
        Self { status: StatusCode::METHOD_NOT_ALLOWED, ..Self::invalid(detail) }
    }

    /// A request that could not even be read as HTTP, which has this status for it.
    pub(crate) fn unreadable(status: StatusCode, detail: &'static str) -> Self {
        Self { status, ..Self::invalid(detail) }
    }

    /// The document that tells of it, of the media type [`PROBLEM_JSON`].
    pub(crate) fn into_document(self) -> Vec<u8> {
        serde_json::to_vec(&ProblemBody::from(self))
            .expect("strings and numbers are always written as JSON")
    }

    /// A wait that would close this cycle of sessions.
    pub(crate) fn deadlock(cycle: Vec<String>) -> Self {
        let detail = "every session of the cycle would wait for the next one";
        Self { particular: Particular::Cycle(cycle), ..Self::new(Code::Deadlock, detail) }
    }

    /// Several locks, of which the owner already holds this one, and not all.
    pub(crate) fn already_holds(lock: String) -> Self {
        let detail = format!("the owner already holds {lock}, and not all");
        Self { particular: Particular::Lock(lock), ..Self::new(Code::AlreadyExists, detail) }
    }

    /// A write whose condition does not hold, with the version that is there.
    pub(crate) fn version_mismatch(etag: HeaderValue) -> Self {
        let detail = "the value has another version; see the etag header";
        Self { particular: Particular::Etag(etag), ..Self::new(Code::VersionMismatch, detail) }
    }

    /// A request without a token, or with one that is worth nothing. Which of the ways to be worth
    /// nothing it is, is not told.
    pub(crate) fn unauthenticated(has_token: bool) -> Self {
        let (detail, challenge) = if has_token {
            ("the token is not valid", "Bearer realm=\"dss\", error=\"invalid_token\"")
        } else {
            ("authorization: Bearer <token> is needed", "Bearer realm=\"dss\"")
        };
        let particular = Particular::Challenge(challenge);
        Self { particular, ..Self::new(Code::Unauthenticated, detail) }
    }

    #[cfg(test)]
    pub(crate) fn code(&self) -> Code {
        self.code
    }
}

/// The members of a problem document.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemBody {
    /// Where this kind of problem is described: a reference into this document.
    r#type: String,
    /// What the code means.
    title: &'static str,
    /// The HTTP status, once more.
    status: u16,
    /// What was wrong with this request, for people.
    detail: String,
    /// What a client branches on.
    code: &'static str,
    /// With `deadlock`: the sessions that would wait for one another.
    #[serde(skip_serializing_if = "Option::is_none")]
    cycle: Option<Vec<String>>,
    /// With `already_exists` of several locks: the one that the owner already holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    lock: Option<String>,
}

impl From<Problem> for ProblemBody {
    fn from(problem: Problem) -> Self {
        let code = problem.code;
        let (cycle, lock) = match problem.particular {
            Particular::Cycle(cycle) => (Some(cycle), None),
            Particular::Lock(lock) => (None, Some(lock)),
            Particular::None | Particular::Etag(_) | Particular::Challenge(_) => (None, None),
        };
        Self {
            r#type: format!("/openapi.json#/components/responses/{}", code.as_str()),
            title: code.title(),
            status: problem.status.as_u16(),
            detail: problem.detail,
            code: code.as_str(),
            cycle,
            lock,
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status;
        let told = match &self.particular {
            Particular::Etag(etag) => Some((header::ETAG, etag.clone())),
            Particular::Challenge(challenge) => {
                Some((header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge)))
            }
            Particular::None | Particular::Cycle(_) | Particular::Lock(_) => None,
        };
        let content_type = [(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON))];
        let mut response = (status, content_type, self.into_document()).into_response();
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        response.headers_mut().extend(told);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_word_and_a_status_of_its_own_table_row() {
        let words: std::collections::BTreeSet<_> =
            Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(words.len(), Code::ALL.len());
        assert!(Code::ALL.iter().all(|code| !code.status().is_success()));
    }

    #[test]
    fn refusals_that_pass_say_when_to_try_again() {
        for code in Code::ALL {
            let response = Problem::new(code, "x").into_response();
            let passes = matches!(code, Code::Overloaded | Code::NoLeader | Code::Unavailable);
            assert_eq!(response.headers().contains_key(header::RETRY_AFTER), passes, "{code:?}");
            assert_eq!(response.headers()[header::CONTENT_TYPE], PROBLEM_JSON);
        }
    }

    #[test]
    fn who_is_not_known_is_told_how_to_say_it() {
        for (has_token, expected) in [
            (false, "Bearer realm=\"dss\""),
            (true, "Bearer realm=\"dss\", error=\"invalid_token\""),
        ] {
            let response = Problem::unauthenticated(has_token).into_response();
            assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
            assert_eq!(response.headers()[header::WWW_AUTHENTICATE], expected);
        }
    }

    #[test]
    fn details_are_cut_where_a_parser_quotes_a_whole_body() {
        let body = ProblemBody::from(Problem::invalid("ä".repeat(100_000)));
        assert_eq!(body.detail.chars().count(), DETAIL_CHARS_MAX + 1);
        assert!(body.detail.ends_with('…'));
    }
}
