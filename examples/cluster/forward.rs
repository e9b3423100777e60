//! Clients' HTTP requests, carried to the node that can answer them.

use std::sync::Arc;

use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::{Method, Request, Response, StatusCode, Uri};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use dss_raft::NodeId;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::peer::{CallError, Malformed, Peers, RequestKind};

/// How forwarding a request fails; see [`CallError`] for what each promises.
pub(crate) type ForwardError = CallError;

/// Headers that belong to one connection (RFC 9110, section 7.6.1), or that whoever writes the
/// message anew sets itself.
const NOT_FORWARDED: [HeaderName; 9] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::EXPECT,
    header::HOST,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Answers requests that another node forwarded.
pub(crate) trait Forwarded: Send + Sync + 'static {
    /// Answers `request` here, or says where it belongs; never forwards it on.
    fn answer(&self, request: Request<Bytes>) -> BoxFuture<'static, Response<Bytes>>;
}

impl Peers {
    /// Has `to` answer `request`, however long it takes: a lock may be waited for. Dropping the
    /// future, be it at a deadline of the caller's, cancels the request there.
    pub(crate) async fn forward(
        &self,
        to: NodeId,
        request: Request<Bytes>,
    ) -> Result<Response<Bytes>, ForwardError> {
        let answer = self.call(to, RequestKind::Http, encode_request(&request)).await?;
        decode_response(answer).map_err(|Malformed(problem)| {
            tracing::error!(node = %to, problem, "a forwarded request got an unreadable answer");
            ForwardError::Lost
        })
    }
}

/// Answers the `payload` of a request that another node forwarded.
pub(crate) fn answer(
    handler: &Arc<dyn Forwarded>,
    payload: Bytes,
) -> Result<BoxFuture<'static, Bytes>, Malformed> {
    let answered = handler.answer(decode_request(payload)?);
    Ok(Box::pin(async move { encode_response(&answered.await) }))
}

#[derive(Serialize, Deserialize)]
struct RequestHead {
    method: String,
    uri: String,
    headers: Vec<(String, Vec<u8>)>,
}

#[derive(Serialize, Deserialize)]
struct ResponseHead {
    status: u16,
    headers: Vec<(String, Vec<u8>)>,
}

fn encode_request(request: &Request<Bytes>) -> Bytes {
    let head = RequestHead {
        method: request.method().as_str().to_owned(),
        uri: request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned(),
        headers: encode_headers(request.headers()),
    };
    join(&head, request.body())
}

fn decode_request(payload: Bytes) -> Result<Request<Bytes>, Malformed> {
    let (head, body): (RequestHead, Bytes) = split(payload)?;
    let mut request = Request::new(body);
    *request.method_mut() =
        Method::from_bytes(head.method.as_bytes()).map_err(|_| Malformed("an HTTP method"))?;
    *request.uri_mut() = Uri::try_from(head.uri).map_err(|_| Malformed("a path"))?;
    *request.headers_mut() = decode_headers(head.headers)?;
    Ok(request)
}

fn encode_response(response: &Response<Bytes>) -> Bytes {
    let head = ResponseHead {
        status: response.status().as_u16(),
        headers: encode_headers(response.headers()),
    };
    join(&head, response.body())
}

fn decode_response(payload: Bytes) -> Result<Response<Bytes>, Malformed> {
    let (head, body): (ResponseHead, Bytes) = split(payload)?;
    let mut response = Response::new(body);
    *response.status_mut() =
        StatusCode::from_u16(head.status).map_err(|_| Malformed("an HTTP status"))?;
    *response.headers_mut() = decode_headers(head.headers)?;
    Ok(response)
}

fn encode_headers(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    headers
        .iter()
        .filter(|(name, _)| !NOT_FORWARDED.contains(name))
        .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
        .collect()
}

fn decode_headers(encoded: Vec<(String, Vec<u8>)>) -> Result<HeaderMap, Malformed> {
    let mut headers = HeaderMap::new();
    for (name, value) in encoded {
        let name = HeaderName::try_from(name).map_err(|_| Malformed("a header's name"))?;
        let value = HeaderValue::try_from(value).map_err(|_| Malformed("a header's value"))?;
        headers.append(name, value);
    }
    Ok(headers)
}

/// The length of the head, the head, the body: the body is a slice of what arrives.
fn join(head: &impl Serialize, body: &Bytes) -> Bytes {
    let head = postcard::to_allocvec(head).expect("a struct of text, bytes and numbers");
    let mut bytes = BytesMut::with_capacity(4 + head.len() + body.len());
    bytes.put_u32_le(u32::try_from(head.len()).expect("HTTP heads are limited to kilobytes"));
    bytes.put_slice(&head);
    bytes.put_slice(body);
    bytes.freeze()
}

fn split<H: for<'a> Deserialize<'a>>(mut payload: Bytes) -> Result<(H, Bytes), Malformed> {
    let length = payload.try_get_u32_le().map_err(|_| Malformed("the length of a head"))? as usize;
    if length > payload.len() {
        return Err(Malformed("the length of a head"));
    }
    let body = payload.split_off(length);
    let head = postcard::from_bytes(&payload).map_err(|_| Malformed("a head"))?;
    Ok((head, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request<Bytes> {
        Request::builder()
            .method("PUT")
            .uri("http://127.0.0.1:8001/v1/cache/a%2Fb?x=1&y=%20")
            .header("content-type", "text/plain")
            .header("x-many", "1")
            .header("x-many", "2")
            .header("x-bytes", HeaderValue::from_bytes(b"\xc3\xa4").unwrap())
            .header("host", "127.0.0.1:8001")
            .header("content-length", "5")
            .body(Bytes::from_static(b"hello"))
            .unwrap()
    }

    #[test]
    fn a_request_arrives_with_its_path_its_headers_and_its_body() {
        let arrived = decode_request(encode_request(&request())).unwrap();
        assert_eq!(arrived.method(), Method::PUT);
        assert_eq!(arrived.uri(), "/v1/cache/a%2Fb?x=1&y=%20");
        assert_eq!(arrived.body(), "hello".as_bytes());
        let many: Vec<_> = arrived.headers().get_all("x-many").iter().collect();
        assert_eq!(many, ["1", "2"]);
        assert_eq!(arrived.headers()["x-bytes"].as_bytes(), b"\xc3\xa4");
        assert!(!arrived.headers().contains_key("host"));
        assert!(!arrived.headers().contains_key("content-length"));
    }

    #[test]
    fn a_response_arrives_with_its_status_its_headers_and_its_body() {
        let response = Response::builder()
            .status(409)
            .header("etag", "\"7\"")
            .body(Bytes::from_static(b"{}"))
            .unwrap();
        let arrived = decode_response(encode_response(&response)).unwrap();
        assert_eq!(arrived.status(), StatusCode::CONFLICT);
        assert_eq!(arrived.headers()["etag"], "\"7\"");
        assert_eq!(arrived.body(), "{}".as_bytes());
    }

    #[test]
    fn no_cut_or_changed_payload_panics() {
        let whole = encode_request(&request());
        for end in 0..whole.len() {
            let _ = decode_request(whole.slice(..end));
        }
        for position in 0..whole.len() {
            for bit in 0..8 {
                let mut changed = whole.to_vec();
                changed[position] ^= 1 << bit;
                let _ = decode_request(changed.clone().into());
                let _ = decode_response(changed.into());
            }
        }
        assert!(decode_request(Bytes::from_static(b"\xff\xff\xff\xff")).is_err());
    }

    /// Answers with the request's own path and body, or never.
    struct Mirror;

    impl Forwarded for Mirror {
        fn answer(&self, request: Request<Bytes>) -> BoxFuture<'static, Response<Bytes>> {
            Box::pin(async move {
                if request.uri() == "/never" {
                    std::future::pending::<()>().await;
                }
                let path = HeaderValue::from_str(request.uri().path()).unwrap();
                let mut response = Response::new(request.into_body());
                response.headers_mut().insert("x-path", path);
                response
            })
        }
    }

    impl crate::peer::Inbox for Mirror {
        fn raft(&self, _: NodeId, _: Bytes) -> Result<(), Malformed> {
            Ok(())
        }

        fn cache(&self, _: NodeId, _: Bytes) -> Result<(), Malformed> {
            Ok(())
        }

        fn request(
            &self,
            _: NodeId,
            _: RequestKind,
            payload: Bytes,
        ) -> Result<BoxFuture<'static, Bytes>, Malformed> {
            let handler: Arc<dyn Forwarded> = Arc::new(Self);
            answer(&handler, payload)
        }
    }

    #[tokio::test]
    async fn a_request_is_answered_by_the_node_that_it_is_forwarded_to() {
        use std::time::Duration;

        use crate::peer::tests::{cluster, eventually};

        let (config, listeners) = cluster(2).await;
        let nodes: Vec<Peers> =
            config.nodes().iter().map(|node| Peers::new(&config, node.id, None)).collect();
        for (peers, listener) in nodes.iter().zip(listeners) {
            peers.start(listener, Arc::new(Mirror));
        }
        let other = config.nodes()[1].id;
        eventually("they are connected", || nodes[0].is_up(other)).await;

        let response = nodes[0].forward(other, request()).await.unwrap();
        assert_eq!(response.headers()["x-path"], "/v1/cache/a%2Fb");
        assert_eq!(response.body(), "hello".as_bytes());

        let mut never = Request::new(Bytes::new());
        *never.uri_mut() = Uri::from_static("/never");
        let limit = Duration::from_millis(50);
        let late = tokio::time::timeout(limit, nodes[0].forward(other, never)).await;
        assert!(late.is_err(), "answered");
    }
}
