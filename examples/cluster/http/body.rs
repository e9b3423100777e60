//! Bodies of requests are bounded, in bytes and in the time that they take.

use std::time::Duration;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::EXPECT;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use tokio::time::timeout;

use super::problem::{Code, Problem};

/// How large a body may be: 1 MiB.
pub(crate) const BODY_BYTES_MAX: usize = 1 << 20;

/// How much of a body that is too large is still taken off the wire and dropped after the refusal:
/// a client that is cut off while it sends sees a broken connection in place of the answer.
const DISCARD_BYTES_MAX: usize = 32 << 20;

/// For how long.
const DISCARD_MAX: Duration = Duration::from_secs(5);

/// The whole body of a request with these headers, within this time.
///
/// # Errors
///
/// `payload_too_large` above [`BODY_BYTES_MAX`], as soon as that is known; `invalid_request` where
/// the body breaks off or takes too long.
pub(crate) async fn read(
    headers: &HeaderMap,
    mut body: Body,
    limit: Duration,
) -> Result<Bytes, Problem> {
    if body.size_hint().lower() > BODY_BYTES_MAX as u64 {
        // A client that waits for `100 Continue` has sent nothing, and is not told to.
        if !headers.contains_key(EXPECT) {
            discard(body);
        }
        return Err(too_large());
    }
    match timeout(limit, gather(&mut body)).await {
        Ok(Gathered::Whole(bytes)) => Ok(bytes),
        Ok(Gathered::TooLarge) => {
            discard(body);
            Err(too_large())
        }
        Ok(Gathered::BrokenOff) => Err(Problem::invalid("the body broke off")),
        Err(_) => Err(Problem::invalid("the body took too long to arrive")),
    }
}

enum Gathered {
    Whole(Bytes),
    TooLarge,
    BrokenOff,
}

async fn gather(body: &mut Body) -> Gathered {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Gathered::BrokenOff };
        let Ok(bytes) = frame.into_data() else { continue };
        if whole.len() + bytes.len() > BODY_BYTES_MAX {
            return Gathered::TooLarge;
        }
        if whole.is_empty() && body.is_end_stream() {
            return Gathered::Whole(bytes);
        }
        whole.extend_from_slice(&bytes);
    }
    Gathered::Whole(whole.freeze())
}

fn too_large() -> Problem {
    Problem::new(Code::PayloadTooLarge, format!("a body may have up to {BODY_BYTES_MAX} bytes"))
}

/// Takes what still comes off the wire and drops it, within bounds. Past them the connection is
/// cut: the client had its chance to read the answer.
pub(crate) fn discard(mut body: Body) {
    if body.is_end_stream() {
        return;
    }
    let drained = async move {
        let mut left = DISCARD_BYTES_MAX;
        while let Some(Ok(frame)) = body.frame().await {
            match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    };
    tokio::spawn(timeout(DISCARD_MAX, drained));
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt as _, stream};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn chunked(chunks: usize, bytes: usize) -> Body {
        let chunk = Bytes::from(vec![7; bytes]);
        Body::from_stream(stream::iter(vec![chunk; chunks]).map(Ok::<_, std::io::Error>))
    }

    #[tokio::test]
    async fn a_body_up_to_the_limit_arrives_whole() {
        for body in [Body::from(vec![7; BODY_BYTES_MAX]), chunked(4, BODY_BYTES_MAX / 4)] {
            let bytes = read(&HeaderMap::new(), body, PATIENCE).await.unwrap();
            assert_eq!(bytes.len(), BODY_BYTES_MAX);
        }
        assert_eq!(read(&HeaderMap::new(), Body::empty(), PATIENCE).await, Ok(Bytes::new()));
    }

    #[tokio::test]
    async fn a_larger_one_is_refused_whether_it_says_so_or_not() {
        for body in [Body::from(vec![7; BODY_BYTES_MAX + 1]), chunked(40, BODY_BYTES_MAX / 4)] {
            let refused = read(&HeaderMap::new(), body, PATIENCE).await.unwrap_err();
            assert_eq!(refused.code(), Code::PayloadTooLarge);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_breaks_off_or_never_comes_is_an_invalid_request() {
        let broken = stream::iter([Ok(Bytes::from("{")), Err(std::io::Error::other("reset"))]);
        let never = stream::pending::<Result<Bytes, std::io::Error>>();
        for body in [Body::from_stream(broken), Body::from_stream(never)] {
            let refused = read(&HeaderMap::new(), body, PATIENCE).await.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidRequest);
        }
    }
}
