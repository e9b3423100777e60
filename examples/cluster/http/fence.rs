//! Writes under a lock: done only while a fencing token is the newest.
//!
//! The lock's leader is asked for that, and the write is made after its answer. Between the two a
//! node may be paused for as long as it takes somebody else to get the lock, and to write. A write
//! that names no version is therefore made only on the value that was there *before* the question:
//! where another one is there by then, the question is asked again, and its answer is no. What
//! whoever has the lock has written is so never overwritten by whoever had it before. Messages are
//! published under the token: a topic remembers the newest one, and refuses older ones by itself.

use std::time::Duration;

use axum::body::Body;
use axum::http::header::ETAG;
use axum::http::{HeaderMap, Method, Request, Response, StatusCode};
use axum::response::IntoResponse as _;
use bytes::Bytes;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::time::Instant;

use super::extract::check_name;
use super::problem::{Code, Problem};
use super::routing::{Call, Conduct, Routing};

/// The name of the lock, as UTF-8.
pub(super) const LOCK: &str = "x-dss-lock";
/// The token, as a decimal number.
pub(super) const TOKEN: &str = "x-dss-fencing-token";

/// For how long a write is tried again while others write the same value.
const GUARD_MAX: Duration = Duration::from_secs(5);

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

    /// Does what `call` asks for while the token is the newest; else the answer says that it is
    /// not, or why that could not be found out.
    pub(crate) async fn guard(&self, routing: &Routing, call: &Call) -> Response<Body> {
        if call.writes_any_version() {
            return self.write(routing, call).await.unwrap_or_else(|refusal| refusal);
        }
        // The topic looks at the token as well; and where the client has named the version that it saw,
        // that is the one that has to be there.
        match self.check(routing).await {
            Ok(()) => routing.answer(call).await,
            Err(refusal) => refusal,
        }
    }

    async fn write(
        &self,
        routing: &Routing,
        call: &Call,
    ) -> Result<Response<Body>, Response<Body>> {
        let until = Instant::now() + GUARD_MAX;
        while Instant::now() < until {
            let there = routing.answer(&call.reading()).await;
            let version = match there.status() {
                StatusCode::OK => there.headers().get(ETAG).cloned(),
                StatusCode::NOT_FOUND => None,
                _ => return Err(there),
            };
            self.check(routing).await?;
            if version.is_none() && call.removes() {
                return Ok(there);
            }
            let written = routing.answer(&call.only_on(version)).await;
            if written.status() != StatusCode::PRECONDITION_FAILED {
                return Ok(written);
            }
        }
        let problem = Problem::new(Code::Unavailable, "others write this value all the time");
        Err(problem.into_response())
    }

    /// Asks the lock's leader whether the token is the newest; anything but yes is the answer to
    /// the request that came with it.
    async fn check(&self, routing: &Routing) -> Result<(), Response<Body>> {
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

impl From<Fence> for dss_queue::Fence {
    fn from(Fence { lock, token }: Fence) -> Self {
        Self { lock, token }
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
    use std::sync::{Arc, Mutex};

    use async_trait::async_trait;
    use axum::Router;
    use axum::http::header::{IF_MATCH, IF_NONE_MATCH};
    use axum::http::{HeaderName, HeaderValue};
    use axum::routing::any;
    use dss_raft::NodeId;

    use super::*;
    use crate::forward::ForwardError;
    use crate::http::routing::Forward;

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

    /// A lock and a value, and what happens to them between the question and the write.
    #[derive(Default)]
    struct World {
        newest: u64,
        /// The version and who wrote it; the first version is 1.
        value: Option<(u64, &'static str)>,
        versions: u64,
        meanwhile: Vec<fn(&mut World)>,
    }

    impl World {
        fn write(&mut self, value: Option<&'static str>) {
            self.versions += 1;
            self.value = value.map(|value| (self.versions, value));
        }

        fn answer(&mut self, method: &Method, headers: &HeaderMap, body: &str) -> Response<Body> {
            let there = self.value.map(|(version, _)| format!("\"{version}\""));
            match *method {
                Method::POST => {
                    let valid = body == format!(r#"{{"fencing_token":{}}}"#, self.newest);
                    if let Some(meanwhile) = self.meanwhile.pop() {
                        meanwhile(self);
                    }
                    if valid { StatusCode::OK } else { StatusCode::CONFLICT }.into_response()
                }
                Method::GET => match there {
                    Some(version) => ([(ETAG, version)], "value").into_response(),
                    None => StatusCode::NOT_FOUND.into_response(),
                },
                _ => {
                    let named = |name: HeaderName| {
                        headers.get(name).map(|value| value.to_str().unwrap().to_owned())
                    };
                    let expected = named(IF_MATCH).or(named(IF_NONE_MATCH)).unwrap();
                    if expected != there.unwrap_or("*".to_owned()) {
                        return StatusCode::PRECONDITION_FAILED.into_response();
                    }
                    self.write((*method == Method::PUT).then_some("mine"));
                    StatusCode::NO_CONTENT.into_response()
                }
            }
        }
    }

    struct Nobody;

    #[async_trait]
    impl Forward for Nobody {
        fn knows(&self, _: NodeId) -> bool {
            false
        }

        async fn forward(
            &self,
            _: NodeId,
            _: Request<Bytes>,
        ) -> Result<Response<Bytes>, ForwardError> {
            Err(ForwardError::Unreachable)
        }
    }

    /// The status of a fenced write under token 7, and the value after it.
    async fn write(method: Method, world: World) -> (u16, Option<&'static str>) {
        let world = Arc::new(Mutex::new(world));
        let shared = Arc::clone(&world);
        let answer = async move |method: Method, headers: HeaderMap, body: String| {
            shared.lock().unwrap().answer(&method, &headers, &body)
        };
        let routing =
            Routing::new(NodeId::new(1), Router::new().fallback(any(answer)), Arc::new(Nobody));
        let request = Request::builder().method(method).uri("/v1/cache/k").body(()).unwrap();
        let call = Call::new(Conduct::Writes, &request.into_parts().0, Bytes::new());
        let fence = Fence { lock: "a".to_owned(), token: 7 };
        let status = fence.guard(&routing, &call).await.status().as_u16();
        let value = world.lock().unwrap().value.map(|(_, value)| value);
        (status, value)
    }

    fn somebody_else(world: &mut World) {
        world.newest = 8;
        world.write(Some("theirs"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_written_between_the_question_and_the_write_is_not_overwritten() {
        let world = |value: Option<&'static str>, meanwhile: &[fn(&mut World)]| {
            let mut world = World { newest: 7, meanwhile: meanwhile.to_vec(), ..World::default() };
            if value.is_some() {
                world.write(value);
            }
            world
        };
        for before in [None, Some("old")] {
            assert_eq!(write(Method::PUT, world(before, &[])).await, (204, Some("mine")));
            for method in [Method::PUT, Method::DELETE] {
                let overtaken = write(method.clone(), world(before, &[somebody_else])).await;
                if before.is_none() && method == Method::DELETE {
                    // There was nothing to remove while the token was the newest.
                    assert_eq!(overtaken, (404, Some("theirs")));
                } else {
                    assert_eq!(overtaken, (409, Some("theirs")), "{method} {before:?}");
                }
            }
        }
        assert_eq!(write(Method::DELETE, world(Some("old"), &[])).await, (204, None));
        // Who writes without a token is no reason to give up.
        let unfenced: fn(&mut World) = |world| world.write(Some("theirs"));
        let twice = world(Some("old"), &[unfenced, unfenced]);
        assert_eq!(write(Method::PUT, twice).await, (204, Some("mine")));
        let stale = World { newest: 8, ..world(Some("old"), &[]) };
        assert_eq!(write(Method::PUT, stale).await, (409, Some("old")));
    }
}
