//! Writes under a lock: done only while a fencing token is the newest.

use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, Response, StatusCode};
use bytes::Bytes;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::extract::check_name;
use super::problem::Problem;
use super::routing::{Call, Conduct, Routing};

/// The name of the lock, as UTF-8.
const LOCK: &str = "x-dss-lock";
/// The token, as a decimal number.
const TOKEN: &str = "x-dss-fencing-token";

/// What a request's fencing headers ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fence {
    lock: String,
    token: u64,
}

impl Fence {
    /// The fence that these headers ask for, if they do.
    ///
    /// # Errors
    ///
    /// `invalid_request` where one is there without the other, twice, or makes no sense.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        let (lock, token) = match (only(headers, LOCK)?, only(headers, TOKEN)?) {
            (None, None) => return Ok(None),
            (Some(lock), Some(token)) => (lock, token),
            (Some(_), None) => {
                return Err(Problem::invalid_field(TOKEN, "missing beside the lock"));
            }
            (None, Some(_)) => {
                return Err(Problem::invalid_field(LOCK, "missing beside the token"));
            }
        };
        check_name(lock).map_err(|problem| Problem::invalid_field(LOCK, problem))?;
        let token = token.parse().map_err(|problem| Problem::invalid_field(TOKEN, problem))?;
        Ok(Some(Self { lock: lock.to_owned(), token }))
    }

    /// Asks the lock's leader whether the token is the newest; anything but yes is the answer to
    /// the request that came with it.
    pub(crate) async fn check(&self, routing: &Routing) -> Result<(), Response<Body>> {
        let response = routing.answer(&self.question()).await;
        if response.status() == StatusCode::OK { Ok(()) } else { Err(response) }
    }

    fn question(&self) -> Call {
        let name = utf8_percent_encode(&self.lock, NON_ALPHANUMERIC);
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = format!("/v1/locks/{name}/validate")
            .try_into()
            .expect("a name that is percent-encoded and bounded makes a path");
        let (head, ()) = request.into_parts();
        let body = format!(r#"{{"fencing_token":{}}}"#, self.token);
        Call::new(Conduct::Reads, &head, Bytes::from(body))
    }
}

fn only<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Problem::invalid_field(name, "given twice"));
    }
    std::str::from_utf8(value.as_bytes())
        .map(Some)
        .map_err(|_| Problem::invalid_field(name, "not UTF-8"))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn fence(headers: &[(&'static str, &str)]) -> Result<Option<Fence>, Problem> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        Fence::of(&map)
    }

    #[test]
    fn both_headers_make_a_fence_and_none_makes_none() {
        assert_eq!(fence(&[]), Ok(None));
        let expected = Fence { lock: "orders/ä 42".to_owned(), token: u64::MAX };
        let given = [(LOCK, "orders/ä 42"), (TOKEN, "18446744073709551615")];
        assert_eq!(fence(&given), Ok(Some(expected)));
    }

    #[test]
    fn anything_else_is_an_invalid_request() {
        let long = "a".repeat(513);
        for headers in [
            &[(LOCK, "a")][..],
            &[(TOKEN, "1")],
            &[(LOCK, ""), (TOKEN, "1")],
            &[(LOCK, &long), (TOKEN, "1")],
            &[(LOCK, "a"), (TOKEN, "")],
            &[(LOCK, "a"), (TOKEN, "-1")],
            &[(LOCK, "a"), (TOKEN, "1.0")],
            &[(LOCK, "a"), (TOKEN, "18446744073709551616")],
            &[(LOCK, "a"), (LOCK, "b"), (TOKEN, "1")],
        ] {
            assert!(fence(headers).is_err(), "{headers:?}");
        }
    }

    #[test]
    fn the_lock_is_one_segment_of_the_question() {
        let fence = Fence { lock: "a/b?c%#ä".to_owned(), token: 7 };
        let request = fence.question().request();
        assert_eq!(request.uri(), "/v1/locks/a%2Fb%3Fc%25%23%C3%A4/validate");
        assert_eq!(request.body(), r#"{"fencing_token":7}"#);
    }
}
