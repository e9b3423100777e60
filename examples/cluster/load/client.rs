//! One way to ask, shared by all clients.

use std::time::Duration;

use axum::http::{Method, Request, StatusCode, header};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use super::Target;

/// How long an answer may take: longer than a cluster needs to find a leader.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// Keeps connections and sends requests over them.
#[derive(Debug, Clone)]
pub(super) struct Client {
    pool: Pool<HttpConnector, Full<Bytes>>,
}

/// What came back.
#[derive(Debug)]
pub(super) enum Answer {
    /// It was done; this is the body.
    Done(Bytes),
    /// It was refused, with this code.
    Refused(String),
    /// There was no answer, for this reason.
    None(String),
}

impl Client {
    pub(super) fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(Duration::from_secs(2)));
        Self { pool: Pool::builder(TokioExecutor::new()).build(connector) }
    }

    /// Asks, with a body of JSON unless it is raw bytes.
    pub(super) async fn ask(
        &self,
        target: &Target,
        method: Method,
        path: &str,
        body: Body,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(target.at(path));
        let body = match body {
            Body::None => Bytes::new(),
            Body::Raw(bytes) => bytes,
            Body::Json(value) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                Bytes::from(value.to_string())
            }
        };
        let request = request.body(Full::new(body)).expect("method, path and body make a request");
        match tokio::time::timeout(ANSWER_MAX, self.send(request)).await {
            Ok(answer) => answer,
            Err(_) => Answer::None("timeout".to_owned()),
        }
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Answer {
        let response = match self.pool.request(request).await {
            Ok(response) => response,
            Err(error) if error.is_connect() => return Answer::None("not_connected".to_owned()),
            Err(_) => return Answer::None("broken_off".to_owned()),
        };
        let status = response.status();
        let Ok(body) = response.into_body().collect().await else {
            return Answer::None("broken_off".to_owned());
        };
        let body = body.to_bytes();
        if status.is_success() { Answer::Done(body) } else { Answer::Refused(code(status, &body)) }
    }
}

/// What to send along.
#[derive(Debug)]
pub(super) enum Body {
    None,
    Raw(Bytes),
    Json(Value),
}

/// The `code` of a problem document, or the status of what is none.
fn code(status: StatusCode, body: &[u8]) -> String {
    let problem: Value = serde_json::from_slice(body).unwrap_or_default();
    match problem["code"].as_str() {
        Some(code) => code.to_owned(),
        None => format!("status_{}", status.as_u16()),
    }
}
