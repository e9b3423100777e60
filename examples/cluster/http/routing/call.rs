//! A request that can be made more than once.

use std::time::Duration;

use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header};
use bytes::Bytes;
use dss_raft::NodeId;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::config::raft_id;
use crate::http::fence;
use crate::http::values::WaitMs;

/// The headers that handlers read. Others (credentials among them) are the business of the node
/// that the client talks to, and do not travel.
const HEADERS: [HeaderName; 6] = [
    header::CONTENT_TYPE,
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    HeaderName::from_static(fence::LOCK),
    HeaderName::from_static(fence::TOKEN),
    TRACE_ID,
];

/// Names a request in the logs of all nodes that it passes, and in its answer. It is the client's
/// where that has a good one.
pub(crate) const TRACE_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Names a request that its client has not named, so that it can be made again. Between nodes
/// only: what a client says here is not heard.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-dss-request-id");

/// Names the node that is to do a request, in place of whichever finds it its own.
pub(crate) const AT: HeaderName = HeaderName::from_static("x-dss-at");

/// What a request does, as far as asking again and waiting are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Conduct {
    /// Changes nothing.
    Reads,
    /// Changes something at once.
    Acts,
    /// Acts, so that acting twice is acting once.
    ActsIdempotently,
    /// Changes a value that has a version, which a `GET` of the same path tells as its `etag`.
    Writes,
    /// Waits for a lock for up to `wait_ms`; with a `request_id` it is done once.
    Acquires,
    /// Stores messages; with a `dedupe_id` in each they are stored once.
    Publishes,
    /// Waits for messages for up to `wait_ms`.
    Receives,
}

/// Whether a request may be made again once it may have been done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeating {
    /// As often as one likes: it changes nothing.
    ChangesNothing,
    /// Done twice is done once.
    IsSafe,
    /// It might be done twice.
    IsUnsafe,
}

/// One request with all of its body.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
    conduct: Conduct,
    wait: Duration,
    repeating: Repeating,
    /// Which node is asked first.
    first: Option<NodeId>,
    /// Which node is to do it, and no other.
    at: Option<NodeId>,
}

impl Call {
    /// The request with this head and body, which conducts itself like this.
    pub(crate) fn new(conduct: Conduct, head: &Parts, body: Bytes) -> Self {
        let mut headers = HeaderMap::new();
        for name in HEADERS {
            for value in head.headers.get_all(&name) {
                headers.append(&name, value.clone());
            }
        }
        let hints = Hints::of(conduct, &body);
        Self {
            method: head.method.clone(),
            uri: head.uri.clone(),
            headers,
            conduct,
            wait: hints.wait(),
            repeating: hints.repeating(conduct),
            first: None,
            at: head.headers.get(AT).map(|name| raft_id(name.as_bytes())),
            body,
        }
    }

    /// What reads this path: a question of the node's own.
    pub(crate) fn question(uri: Uri) -> Self {
        Self {
            method: Method::GET,
            uri,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            conduct: Conduct::Reads,
            wait: Duration::ZERO,
            repeating: Repeating::ChangesNothing,
            first: None,
            at: None,
        }
    }

    /// The same, to be done by this node and no other.
    pub(crate) fn at(mut self, node: NodeId) -> Self {
        self.at = Some(node);
        self
    }

    /// Which node is to do it, where the client has named one.
    pub(crate) fn node(&self) -> Option<NodeId> {
        self.at
    }

    /// The same request with a name, where it is of a kind that can have one and has none. Making
    /// it again is safe then. Messages are not named so: what their queue would have to remember
    /// for five minutes is as large as they are.
    pub(crate) fn named(mut self, name: impl FnOnce() -> HeaderValue) -> Self {
        if self.conduct == Conduct::Acquires && self.repeating == Repeating::IsUnsafe {
            self.headers.insert(REQUEST_ID, name());
            self.repeating = Repeating::IsSafe;
        }
        self
    }

    /// The same, of which this node is asked first: it is likely to be the one that can answer.
    pub(crate) fn first_asked_of(self, first: Option<NodeId>) -> Self {
        Self { first, ..self }
    }

    /// Which node is asked first, where that is not this one.
    pub(crate) fn first(&self) -> Option<NodeId> {
        self.first
    }

    /// The request, once more.
    pub(crate) fn request(&self) -> Request<Bytes> {
        let mut request = Request::new(self.body.clone());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }

    /// Whether it changes a value whatever its version is.
    pub(crate) fn writes_any_version(&self) -> bool {
        let names_version = |name| matches!(name, &header::IF_MATCH | &header::IF_NONE_MATCH);
        self.conduct == Conduct::Writes && !self.headers.keys().any(names_version)
    }

    /// Whether it removes what its path names.
    pub(crate) fn removes(&self) -> bool {
        self.method == Method::DELETE
    }

    /// What reads the value that this changes.
    pub(crate) fn reading(&self) -> Self {
        Self { at: self.at, ..Self::question(self.uri.clone()) }
    }

    /// The same, done only where this is the version of the value; none where there is none.
    pub(crate) fn only_on(&self, version: Option<HeaderValue>) -> Self {
        let mut call = self.clone();
        match version {
            Some(version) => call.headers.insert(header::IF_MATCH, version),
            None => call.headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static("*")),
        };
        call
    }

    /// How long it may wait for what it asks for.
    pub(crate) fn wait(&self) -> Duration {
        self.wait
    }

    /// Whether it may be made again once it may have been done.
    pub(crate) fn repeating(&self) -> Repeating {
        self.repeating
    }
}

/// What a body says about waiting and repeating. It is the handler that checks the body: one that
/// makes no sense gives no hints and is refused there.
#[derive(Debug, Default, Deserialize)]
struct Hints {
    wait_ms: Option<WaitMs>,
    request_id: Option<IgnoredAny>,
    messages: Option<Vec<MessageHints>>,
}

#[derive(Debug, Deserialize)]
struct MessageHints {
    dedupe_id: Option<IgnoredAny>,
}

impl Hints {
    fn of(conduct: Conduct, body: &[u8]) -> Self {
        match conduct {
            Conduct::Reads | Conduct::Acts | Conduct::ActsIdempotently | Conduct::Writes => {
                Self::default()
            }
            Conduct::Acquires | Conduct::Publishes | Conduct::Receives => {
                serde_json::from_slice(body).unwrap_or_default()
            }
        }
    }

    fn wait(&self) -> Duration {
        self.wait_ms.map_or(Duration::ZERO, WaitMs::get)
    }

    fn repeating(&self, conduct: Conduct) -> Repeating {
        let safe = match conduct {
            Conduct::Reads => return Repeating::ChangesNothing,
            Conduct::ActsIdempotently => true,
            Conduct::Acquires => self.request_id.is_some(),
            Conduct::Publishes => self
                .messages
                .as_ref()
                .is_some_and(|messages| messages.iter().all(|message| message.dedupe_id.is_some())),
            Conduct::Acts | Conduct::Writes | Conduct::Receives => false,
        };
        if safe { Repeating::IsSafe } else { Repeating::IsUnsafe }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(conduct: Conduct, body: &'static str) -> Call {
        let (head, ()) = Request::post("/x").body(()).unwrap().into_parts();
        Call::new(conduct, &head, Bytes::from_static(body.as_bytes()))
    }

    #[test]
    fn waiting_is_read_from_the_body_of_what_waits() {
        let body = r#"{"session":"s","wait_ms":1500}"#;
        assert_eq!(call(Conduct::Acquires, body).wait(), Duration::from_millis(1500));
        assert_eq!(call(Conduct::Receives, body).wait(), Duration::from_millis(1500));
        assert_eq!(call(Conduct::Acts, body).wait(), Duration::ZERO);
        for body in ["{", "", "[]", r#"{"wait_ms":1000000000000000000}"#] {
            assert_eq!(call(Conduct::Acquires, body).wait(), Duration::ZERO, "{body}");
        }
    }

    #[test]
    fn only_what_carries_ids_may_be_repeated() {
        use Repeating::{ChangesNothing, IsSafe, IsUnsafe};
        let with_id = r#"{"request_id":"r"}"#;
        let one_without = r#"{"messages":[{"dedupe_id":"1"},{"payload":"x"}]}"#;
        let all_with = r#"{"messages":[{"dedupe_id":"1"},{"dedupe_id":"2"}]}"#;
        for (conduct, body, expected) in [
            (Conduct::Reads, "", ChangesNothing),
            (Conduct::Acts, with_id, IsUnsafe),
            (Conduct::ActsIdempotently, "", IsSafe),
            (Conduct::Acquires, "{}", IsUnsafe),
            (Conduct::Acquires, r#"{"request_id":null}"#, IsUnsafe),
            (Conduct::Acquires, with_id, IsSafe),
            (Conduct::Publishes, "{", IsUnsafe),
            (Conduct::Publishes, one_without, IsUnsafe),
            (Conduct::Publishes, all_with, IsSafe),
            (Conduct::Receives, with_id, IsUnsafe),
        ] {
            assert_eq!(call(conduct, body).repeating(), expected, "{conduct:?} {body}");
        }
    }

    #[test]
    fn an_acquire_without_a_name_gets_one_and_nothing_else_does() {
        let name = || HeaderValue::from_static("n");
        let named = call(Conduct::Acquires, r#"{"session":"s"}"#).named(name);
        assert_eq!(named.repeating(), Repeating::IsSafe);
        assert_eq!(named.request().headers()[REQUEST_ID], "n");
        for (conduct, body) in [
            (Conduct::Acquires, r#"{"session":"s","request_id":"r"}"#),
            (Conduct::Publishes, r#"{"messages":[{"payload":"x"}]}"#),
            (Conduct::Receives, "{}"),
            (Conduct::Acts, "{}"),
            (Conduct::Reads, ""),
        ] {
            let (as_it_was, named) = (call(conduct, body), call(conduct, body).named(name));
            assert_eq!(named.repeating(), as_it_was.repeating(), "{conduct:?}");
            assert!(named.request().headers().is_empty(), "{conduct:?}");
        }
    }

    #[test]
    fn credentials_do_not_travel() {
        let request = Request::post("/x?y=z")
            .header("authorization", "Bearer secret")
            .header("content-type", "application/json")
            .header("x-dss-request-id", "another client's")
            .header("cookie", "secret");
        let (head, ()) = request.body(()).unwrap().into_parts();
        let request = Call::new(Conduct::Acts, &head, Bytes::new()).request();
        assert_eq!(request.uri(), "/x?y=z");
        assert_eq!(request.headers().keys().collect::<Vec<_>>(), [header::CONTENT_TYPE]);
    }
}
