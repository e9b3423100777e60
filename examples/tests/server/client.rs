//! A small HTTP client: one request, one answer, nothing retried.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::CONTENT_TYPE;
use hyper::{HeaderMap, Method, Request, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use crate::certificates::{self, Signed};

/// How long any answer may take: longer than the server's own longest wait.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// Talks to any node; cheap to clone.
#[derive(Clone)]
pub(crate) struct Client {
    inner: HyperClient<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

/// What came back.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Nothing came back: the connection failed or broke, or the answer took too long.
#[derive(Debug)]
pub(crate) struct NoAnswer;

impl Client {
    /// One that believes no certificate.
    pub(crate) fn new() -> Self {
        Self::encrypting(certificates::client(&[]))
    }

    /// One that believes the certificates of the authority in this file.
    pub(crate) fn trusting(authority: &Path) -> Self {
        let authority = std::fs::read_to_string(authority).expect("a readable file");
        Self::encrypting(certificates::client(&[&authority]))
    }

    /// The same, and it shows this.
    pub(crate) fn showing(authority: &Path, shows: &Signed) -> Self {
        let authority = std::fs::read_to_string(authority).expect("a readable file");
        Self::encrypting(certificates::dialer(&authority, &rustls::version::TLS13, Some(shows)))
    }

    fn encrypting(config: rustls::ClientConfig) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.enforce_http(false);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        Self { inner: HyperClient::builder(TokioExecutor::new()).build(connector) }
    }

    pub(crate) async fn get(&self, url: &str) -> Result<Answer, NoAnswer> {
        self.send(Method::GET, url, &[], Bytes::new()).await
    }

    pub(crate) async fn post(&self, url: &str, body: Value) -> Result<Answer, NoAnswer> {
        let json = [(CONTENT_TYPE.as_str(), "application/json")];
        self.send(Method::POST, url, &json, body.to_string().into()).await
    }

    pub(crate) async fn put_bytes(
        &self,
        url: &str,
        body: impl Into<Bytes>,
    ) -> Result<Answer, NoAnswer> {
        self.send(Method::PUT, url, &[], body.into()).await
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Answer, NoAnswer> {
        let mut request = Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body)).expect("tests build valid requests");
        let exchange = async {
            let response = self.inner.request(request).await.map_err(|_| NoAnswer)?;
            let (parts, body) = response.into_parts();
            let body = body.collect().await.map_err(|_| NoAnswer)?.to_bytes();
            Ok(Answer { status: parts.status, headers: parts.headers, body })
        };
        tokio::time::timeout(ANSWER_MAX, exchange).await.map_err(|_| NoAnswer)?
    }
}

impl Answer {
    /// The value of a header; empty where there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {self:?}"))
    }
}
