//! How a request becomes domain types: once, at the edge, refusing what makes no sense.

use std::time::Duration;

use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::body;
use super::problem::{Code, Problem};

/// How long a name may be, in bytes of UTF-8.
pub(crate) const NAME_BYTES_MAX: usize = 512;

/// Whether `name` may stand in a path or in a body: 1 to 512 bytes without control characters.
pub(crate) fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("a name may not be empty");
    }
    if name.len() > NAME_BYTES_MAX {
        return Err("a name may not be longer than 512 bytes");
    }
    if name.chars().any(char::is_control) {
        return Err("a name may not contain control characters");
    }
    Ok(())
}

/// A type whose values are named by a path segment.
pub(crate) trait Named: Sized {
    /// The value with this name, which [`check_name`] has accepted; else what is wrong with it.
    fn named(name: String) -> Result<Self, String>;
}

/// The one name in a path.
#[derive(Debug)]
pub(crate) struct Name<T>(pub(crate) T);

/// The two names in a path, in their order.
#[derive(Debug)]
pub(crate) struct Names<A, B>(pub(crate) A, pub(crate) B);

impl<S: Send + Sync, T: Named> FromRequestParts<S> for Name<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let segments = path_segments(parts, state).await?;
        let mut segments = segments.iter();
        Ok(Self(next_name(&mut segments)?))
    }
}

impl<S: Send + Sync, A: Named, B: Named> FromRequestParts<S> for Names<A, B> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let segments = path_segments(parts, state).await?;
        let mut segments = segments.iter();
        Ok(Self(next_name(&mut segments)?, next_name(&mut segments)?))
    }
}

async fn path_segments<S: Send + Sync>(
    parts: &mut Parts,
    state: &S,
) -> Result<RawPathParams, Problem> {
    if !is_percent_encoded(parts.uri.path()) {
        return Err(Problem::invalid("a % in the path is not followed by two hexadecimal digits"));
    }
    RawPathParams::from_request_parts(parts, state)
        .await
        .map_err(|_| Problem::invalid("a path segment is not UTF-8"))
}

/// Decoders leave a `%` that begins nothing as it is: two spellings would then name one thing.
fn is_percent_encoded(path: &str) -> bool {
    path.split('%').skip(1).all(|rest| {
        rest.as_bytes().get(..2).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    })
}

fn next_name<'a, T: Named>(
    segments: &mut impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<T, Problem> {
    let (parameter, name) =
        segments.next().expect("a handler takes as many names as its path has parameters");
    check_name(name).map_err(|problem| Problem::invalid_field(parameter, problem))?;
    T::named(name.to_owned()).map_err(|problem| Problem::invalid_field(parameter, problem))
}

/// How long a handler waits for a body. The gateway has read it already, within its limit.
const BODY_HERE: Duration = Duration::from_secs(30);

/// A body of JSON. An empty one counts as `{}`, for where every member may be left out.
#[derive(Debug)]
pub(crate) struct Json<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        if !says_json(request.headers()) {
            let detail = "a content-type other than application/json was given";
            return Err(Problem::new(Code::UnsupportedMediaType, detail));
        }
        let (parts, body) = request.into_parts();
        parse_json(&body::read(&parts.headers, body, BODY_HERE).await?).map(Self)
    }
}

/// The value that the object in `body` spells.
pub(crate) fn parse_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let body = if body.is_empty() { b"{}" } else { body };
    // An array would be taken for an object's members in their order, which nobody can rely on.
    if body.trim_ascii_start().first() == Some(&b'[') {
        return Err(Problem::invalid("a body is an object, not an array"));
    }
    serde_json::from_slice(body).map_err(|error| Problem::invalid(error.to_string()))
}

/// Whether the body is JSON by its content-type, or has none.
fn says_json(headers: &HeaderMap) -> bool {
    let Some(content_type) = headers.get(CONTENT_TYPE) else { return true };
    let Ok(content_type) = content_type.to_str() else { return false };
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let Some(subtype) = essence.strip_prefix("application/") else { return false };
    subtype == "json" || subtype.ends_with("+json")
}

/// A body as it is.
#[derive(Debug)]
pub(crate) struct Raw(pub(crate) Bytes);

impl<S: Send + Sync> FromRequest<S> for Raw {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        body::read(&parts.headers, body, BODY_HERE).await.map(Self)
    }
}

/// The parameters behind the `?`.
#[derive(Debug)]
pub(crate) struct Query<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        axum::extract::Query::try_from_uri(&parts.uri)
            .map(|axum::extract::Query(value)| Self(value))
            .map_err(|rejection| Problem::invalid_field("query", rejection.body_text()))
    }
}

/// A value written as a JSON answer, status 200.
#[derive(Debug)]
pub(crate) struct Answer<T>(pub(crate) T);

impl<T: serde::Serialize> axum::response::IntoResponse for Answer<T> {
    fn into_response(self) -> axum::response::Response {
        axum::Json(self.0).into_response()
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::http::{Method, StatusCode};
    use axum::response::Response;
    use axum::routing::{get, post};
    use http_body_util::BodyExt as _;
    use serde::Deserialize;
    use tower::ServiceExt as _;

    use super::*;

    struct AnyName(String);

    impl Named for AnyName {
        fn named(name: String) -> Result<Self, String> {
            Ok(Self(name))
        }
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Member {
        count: Option<u8>,
    }

    async fn ask(method: Method, uri: &str, content_type: Option<&str>, body: &str) -> Response {
        let router = Router::new()
            .route("/one/{name}/end", get(async |Name(AnyName(name)): Name<AnyName>| name))
            .route(
                "/two/{a}/{b}",
                get(async |Names(a, b): Names<AnyName, AnyName>| format!("{}|{}", a.0, b.0)),
            )
            .route("/json", post(async |Json(member): Json<Member>| format!("{:?}", member.count)))
            .route(
                "/query",
                get(async |Query(member): Query<Member>| format!("{:?}", member.count)),
            );
        let mut request = Request::builder().method(method).uri(uri);
        if let Some(content_type) = content_type {
            request = request.header(CONTENT_TYPE, content_type);
        }
        router.oneshot(request.body(Body::from(body.to_owned())).unwrap()).await.unwrap()
    }

    async fn text(response: Response) -> String {
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec())
            .unwrap()
    }

    #[tokio::test]
    async fn names_are_percent_decoded_and_may_contain_slashes() {
        let response = ask(Method::GET, "/one/orders%2F42/end", None, "").await;
        assert_eq!(text(response).await, "orders/42");
        let response = ask(Method::GET, "/two/%C3%A4%20b/c+d%25", None, "").await;
        assert_eq!(text(response).await, "ä b|c+d%");
    }

    #[tokio::test]
    async fn bad_names_are_invalid_requests() {
        let long = format!("/one/{}/end", "a".repeat(513));
        for uri in [
            "/one/%00/end",
            "/one/a%0Ab/end",
            "/one/%7F/end",
            "/one/%C2%85/end",
            "/one/%FF/end",
            "/one/%/end",
            "/one/a%zz/end",
            "/one/%4/end",
            &long,
        ] {
            let response = ask(Method::GET, uri, None, "").await;
            assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{uri}");
        }
        let longest = format!("/one/{}/end", "a".repeat(512));
        assert_eq!(ask(Method::GET, &longest, None, "").await.status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn json_is_taken_with_its_content_type_or_none() {
        let accepted = [
            None,
            Some("application/json"),
            Some("Application/JSON; charset=utf-8"),
            Some("application/merge-patch+json"),
        ];
        for content_type in accepted {
            let response = ask(Method::POST, "/json", content_type, r#"{"count":3}"#).await;
            assert_eq!(text(response).await, "Some(3)", "{content_type:?}");
        }
        for content_type in
            ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""]
        {
            let response = ask(Method::POST, "/json", Some(content_type), r#"{"count":3}"#).await;
            assert_eq!(response.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE, "{content_type}");
        }
    }

    #[tokio::test]
    async fn an_empty_body_counts_as_an_empty_object() {
        assert_eq!(text(ask(Method::POST, "/json", None, "").await).await, "None");
    }

    #[tokio::test]
    async fn what_is_not_the_expected_json_is_an_invalid_request() {
        let deep = "[".repeat(100_000);
        let bodies = [
            "{",
            "null",
            "[]",
            "[3]",
            " [3]",
            r#"{"count":256}"#,
            r#"{"cuont":1}"#,
            r#"{"count":1,"count":2}"#,
            r#"{"count":1}{"#,
            &deep,
        ];
        for body in bodies {
            let response = ask(Method::POST, "/json", None, body).await;
            assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{body:.40}");
        }
    }

    #[tokio::test]
    async fn unknown_parameters_are_invalid_requests() {
        assert_eq!(text(ask(Method::GET, "/query?count=7", None, "").await).await, "Some(7)");
        for query in ["count=x", "cuont=7", "count=1&count=2"] {
            let response = ask(Method::GET, &format!("/query?{query}"), None, "").await;
            assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{query}");
        }
    }
}
