//! A node for tests: a cluster of one, in memory.

use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use serde_json::Value;
use tower::ServiceExt as _;

use crate::http::Http;
use crate::http::problem::PROBLEM_JSON;
use crate::http::tests::app::app;

/// A running node and its router.
pub(super) struct TestNode {
    pub(super) http: Http,
}

/// An answer that was read to its end.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl TestNode {
    pub(super) async fn start() -> Self {
        Self { http: Http::new(app().await) }
    }

    /// Sends a request and checks what every answer must have.
    pub(super) async fn send(&self, request: Request<Body>) -> Answered {
        let asked = format!("{} {}", request.method(), request.uri());
        let response = self.http.router().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let answered = Answered { status: head.status, headers: head.headers, body };
        assert_eq!(answered.header("x-dss-node"), "n1", "{asked}");
        if !answered.status.is_success() {
            answered.assert_is_problem(&asked);
        }
        answered
    }

    /// Sends JSON, or nothing where `body` is empty.
    pub(super) async fn ask(&self, method: Method, uri: &str, body: &str) -> Answered {
        let mut request = Request::builder().method(method).uri(uri);
        if !body.is_empty() {
            request = request.header("content-type", "application/json");
        }
        self.send(request.body(Body::from(body.to_owned())).unwrap()).await
    }

    /// `(status, code)` of a refusal.
    pub(super) async fn refusal(&self, method: Method, uri: &str, body: &str) -> (u16, String) {
        self.ask(method, uri, body).await.refusal()
    }
}

impl Answered {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(super) fn refusal(&self) -> (u16, String) {
        let code = self.json()["code"].as_str().unwrap_or_default().to_owned();
        (self.status.as_u16(), code)
    }

    /// The `code` of the problem, whose status must be the one that goes with it.
    fn assert_is_problem(&self, asked: &str) {
        assert_eq!(self.header("content-type"), PROBLEM_JSON, "{asked}");
        let problem = self.json();
        for member in ["type", "title", "detail", "code"] {
            assert!(problem[member].is_string(), "{asked}: {member} of {problem}");
        }
        assert_eq!(problem["status"], self.status.as_u16(), "{asked}");
        let must_wait = matches!(self.status.as_u16(), 429 | 503);
        assert_eq!(self.headers.contains_key("retry-after"), must_wait, "{asked}");
    }
}
