//! A client that checks what every answer must have.

use std::any::Any;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use serde_json::Value;
use tower::ServiceExt as _;

use crate::http::problem::PROBLEM_JSON;
use crate::origin::Origin;

/// A client of one node.
#[derive(Clone)]
pub(super) struct Client {
    router: Router,
    node: String,
    token: Option<String>,
    origin: Option<Origin>,
    /// What must not end before the client does.
    _cluster: Arc<dyn Any + Send + Sync>,
}

/// An answer that was read to its end.
#[derive(Debug)]
pub(super) struct Answered {
    /// What was asked.
    asked: String,
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Client {
    pub(super) fn new(router: Router, node: &str, cluster: Arc<dyn Any + Send + Sync>) -> Self {
        Self { router, node: node.to_owned(), token: None, origin: None, _cluster: cluster }
    }

    /// The same client with a token.
    pub(super) fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    /// The same client at another address.
    pub(super) fn from(&self, address: &str) -> Self {
        Self { origin: Some(Origin(address.parse().unwrap())), ..self.clone() }
    }

    /// What it sends its requests to, for answers that are to be read as they come.
    pub(super) fn router(&self) -> Router {
        self.router.clone()
    }

    pub(super) async fn send(&self, request: Request<Body>) -> Answered {
        let asked = format!("{} {} {:?}", request.method(), request.uri(), request.headers());
        self.send_as(asked, request).await
    }

    async fn send_as(&self, asked: String, mut request: Request<Body>) -> Answered {
        if let Some(token) = &self.token {
            let value = format!("Bearer {token}").parse().unwrap();
            request.headers_mut().insert("authorization", value);
        }
        if let Some(origin) = self.origin {
            request.extensions_mut().insert(origin);
        }
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let status = head.status.as_u16();
        let answered = Answered { asked, status, headers: head.headers, body };
        assert_eq!(answered.header("x-dss-node"), self.node, "{}", answered.asked);
        if !head.status.is_success() {
            answered.assert_is_problem(head.status);
        }
        answered
    }

    /// Sends a body, JSON unless it is empty, with these headers.
    pub(super) async fn ask_with(
        &self,
        method: Method,
        uri: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answered {
        let mut request = Request::builder().method(method.clone()).uri(uri);
        if !body.is_empty() {
            request = request.header("content-type", "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let asked = format!("{method} {uri} {headers:?} {body:.200}");
        self.send_as(asked, request.body(Body::from(body.to_owned())).unwrap()).await
    }

    pub(super) async fn ask(&self, method: Method, uri: &str, body: &str) -> Answered {
        self.ask_with(method, uri, &[], body).await
    }

    pub(super) async fn get(&self, uri: &str) -> Answered {
        self.ask(Method::GET, uri, "").await
    }

    pub(super) async fn post(&self, uri: &str, body: &str) -> Answered {
        self.ask(Method::POST, uri, body).await
    }

    pub(super) async fn put(&self, uri: &str, body: &str) -> Answered {
        self.ask(Method::PUT, uri, body).await
    }

    pub(super) async fn delete(&self, uri: &str) -> Answered {
        self.ask(Method::DELETE, uri, "").await
    }
}

impl Answered {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The body of a success with this status.
    #[track_caller]
    pub(super) fn json(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}: {}", self.asked, self.text());
        assert_eq!(self.header("content-type"), "application/json");
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The problem document of a refusal, which must be this one.
    #[track_caller]
    pub(super) fn problem(&self, status: u16, code: &str) -> Value {
        let problem: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let found = (self.status, problem["code"].as_str().unwrap_or_default());
        assert_eq!(found, (status, code), "{}: {}", self.asked, self.text());
        problem
    }

    fn assert_is_problem(&self, status: StatusCode) {
        let asked = &self.asked;
        assert_eq!(self.header("content-type"), PROBLEM_JSON, "{asked}");
        let problem: Value = serde_json::from_slice(&self.body).unwrap();
        for member in ["type", "title", "detail", "code"] {
            assert!(problem[member].is_string(), "{asked}: {member} of {problem}");
        }
        assert_eq!(problem["status"], status.as_u16(), "{asked}");
        let must_wait = matches!(status.as_u16(), 429 | 503);
        assert_eq!(self.headers.contains_key("retry-after"), must_wait, "{asked}");
    }
}
