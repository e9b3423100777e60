//! The HTTP side of programs that are clients of a cluster.

mod credentials;
mod in_turn;
mod locks;
mod trust;

use std::str::FromStr;
use std::time::Duration;

use axum::http::uri::{PathAndQuery, Scheme};
use axum::http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use serde_json::Value;

pub(crate) use self::credentials::{Asked, Credentials, CredentialsError};
pub(crate) use self::in_turn::Unanswered;
pub(crate) use self::locks::HttpLocks;
pub(crate) use self::trust::Encryption;

/// How long an answer may take: longer than a cluster needs to find a leader.
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(30);

/// A node to ask: `http://HOST:PORT` or `https://HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target(Uri);

/// What is not a [`Target`].
#[derive(Debug, thiserror::Error)]
#[error("a target looks like http://127.0.0.1:8001")]
pub(crate) struct TargetError;

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let uri: Uri = text.parse().map_err(|_| TargetError)?;
        let has_path = uri.path_and_query().is_some_and(|path| path.as_str() != "/");
        let is_http = [&Scheme::HTTP, &Scheme::HTTPS].map(Some).contains(&uri.scheme());
        if !is_http || uri.authority().is_none() || has_path {
            return Err(TargetError);
        }
        Ok(Self(uri))
    }
}

impl Target {
    fn is_encrypted(&self) -> bool {
        self.0.scheme() == Some(&Scheme::HTTPS)
    }

    /// The address of `path`, which must begin with a slash and be encoded.
    pub(crate) fn at(&self, path: &str) -> Uri {
        let mut parts = self.0.clone().into_parts();
        let path = PathAndQuery::try_from(path).expect("who asks encodes paths");
        parts.path_and_query = Some(path);
        Uri::from_parts(parts).expect("scheme, authority and path make an address")
    }
}

/// Keeps connections and sends requests over them.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pool: Pool<HttpsConnector<HttpConnector>, Full<Bytes>>,
    /// Whether it believes any certificate.
    trusts: bool,
    /// What requests carry to say who makes them.
    authorization: Option<HeaderValue>,
}

/// What came back.
#[derive(Debug)]
pub(crate) enum Answer {
    /// It was done; this is the body.
    Done(Bytes),
    /// It was refused.
    Refused(Refused),
    /// There was no answer, for this reason.
    None(String),
}

/// Why the connection of a request that was surely not received could not be had.
const NOT_CONNECTED: &str = "not_connected";
/// Why a node is not even connected to whose certificate could not be believed.
const NO_TRUST: &str = "https needs --cacert FILE";

/// What a problem document says.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Refused {
    /// The code; that of the status where the answer was no problem document.
    pub(crate) code: String,
    pub(crate) detail: String,
    /// The sessions of a deadlock.
    pub(crate) cycle: Vec<String>,
    /// The lock of several that is held already.
    pub(crate) lock: Option<String>,
}

impl Client {
    /// Without an authority to believe, it asks `http` targets alone.
    pub(crate) fn new(encryption: &Encryption) -> Self {
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(Duration::from_secs(2)));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(encryption.config())
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let pool = Pool::builder(TokioExecutor::new()).build(connector);
        Self { pool, trusts: encryption.trusts(), authorization: None }
    }

    /// A client that says who it is.
    ///
    /// # Errors
    ///
    /// Where the token is not to be had.
    pub(crate) fn with_credentials(credentials: &Credentials) -> Result<Self, CredentialsError> {
        let authorization = credentials.header()?;
        Ok(Self { authorization, ..Self::new(credentials.encryption()) })
    }

    /// Asks, with a body of JSON unless it is raw bytes.
    pub(crate) async fn ask(
        &self,
        target: &Target,
        method: Method,
        path: &str,
        body: Body,
    ) -> Answer {
        self.ask_within(ANSWER_MAX, target, method, path, body).await
    }

    /// The same, with as much time for the answer.
    pub(crate) async fn ask_within(
        &self,
        limit: Duration,
        target: &Target,
        method: Method,
        path: &str,
        body: Body,
    ) -> Answer {
        if target.is_encrypted() && !self.trusts {
            return Answer::None(NO_TRUST.to_owned());
        }
        let mut request = Request::builder().method(method).uri(target.at(path));
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let body = match body {
            Body::None => Bytes::new(),
            Body::Raw(bytes) => bytes,
            Body::Json(value) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                Bytes::from(value.to_string())
            }
        };
        let request = request.body(Full::new(body)).expect("method, path and body make a request");
        match tokio::time::timeout(limit, self.send(request)).await {
            Ok(answer) => answer,
            Err(_) => Answer::None("timeout".to_owned()),
        }
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Answer {
        let response = match self.pool.request(request).await {
            Ok(response) => response,
            Err(error) if error.is_connect() => return Answer::None(NOT_CONNECTED.to_owned()),
            Err(_) => return Answer::None("broken_off".to_owned()),
        };
        let status = response.status();
        let Ok(body) = response.into_body().collect().await else {
            return Answer::None("broken_off".to_owned());
        };
        let body = body.to_bytes();
        if status.is_success() {
            Answer::Done(body)
        } else {
            Answer::Refused(Refused::read(status, &body))
        }
    }
}

/// What to send along.
#[derive(Debug, Clone)]
pub(crate) enum Body {
    None,
    Raw(Bytes),
    Json(Value),
}

impl Refused {
    fn read(status: StatusCode, body: &[u8]) -> Self {
        let refused: Self = serde_json::from_slice(body).unwrap_or_default();
        if refused.code.is_empty() {
            return Self { code: format!("status_{}", status.as_u16()), ..refused };
        }
        refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_scheme_host_and_port() {
        for text in ["http://127.0.0.1:8001", "http://localhost:8001/", "https://[::1]:80"] {
            let target: Target = text.parse().unwrap();
            let expected = format!("{}/v1/locks", text.trim_end_matches('/'));
            assert_eq!(target.at("/v1/locks").to_string(), expected);
        }
        for text in ["", "127.0.0.1:8001", "ftp://a:1", "http://", "http://a:1/v1", "http://a?b"] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }
}
