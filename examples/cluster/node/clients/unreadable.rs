//! What a client is told whose request cannot even be read as HTTP.
//!
//! Such a request reaches no handler: the HTTP implementation answers it with a bare status line
//! and closes the connection, and lets nobody have a say in it. Every other answer passes the
//! router and says which node it is from; so one that does not is recognised as it is written, and
//! a problem document with the same status is written in its place.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::http::{HeaderValue, StatusCode};
use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::http::{self, Code, PROBLEM_JSON, Problem};

/// How every answer begins.
const VERSION: &[u8] = b"HTTP/1.1 ";
/// How a head ends.
const END: &[u8] = b"\r\n\r\n";

/// A connection on which bare refusals are explained.
pub(super) struct Explained<S> {
    stream: S,
    node: HeaderValue,
    /// What is still to be written in place of a bare refusal.
    pending: Bytes,
}

impl<S> Explained<S> {
    /// A connection of `node`.
    pub(super) fn new(stream: S, node: HeaderValue) -> Self {
        Self { stream, node, pending: Bytes::new() }
    }
}

impl<S: AsyncWrite + Unpin> Explained<S> {
    fn poll_pending(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.pending.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, &self.pending))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.pending.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

/// The status of a bare refusal, where `written` is one and nothing else.
fn bare_refusal(written: &[u8]) -> Option<StatusCode> {
    let rest = written.strip_prefix(VERSION)?;
    let status = StatusCode::from_bytes(rest.get(..3)?).ok()?;
    let head = written.strip_suffix(END)?;
    let names_node = head
        .windows(http::NODE.as_str().len())
        .any(|window| window.eq_ignore_ascii_case(http::NODE.as_str().as_bytes()));
    (status.is_client_error() && !names_node).then_some(status)
}

/// The answer that stands for a bare refusal. The connection is closed after it.
fn explanation(status: StatusCode, node: &HeaderValue) -> Bytes {
    let detail = match status {
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => "the request has too many or large headers",
        StatusCode::URI_TOO_LONG => "the path is too long",
        _ => "the request is not HTTP/1.1 as it is written",
    };
    last_answer(status, Problem::unreadable(status, detail), "", node)
}

/// The answer on a connection that is one too many.
pub(super) fn turned_away(node: &HeaderValue) -> Bytes {
    let problem = Problem::new(Code::Unavailable, "the node has as many connections as it may");
    last_answer(Code::Unavailable.status(), problem, "retry-after: 1\r\n", node)
}

/// The answer to a client that speaks HTTP where HTTPS is spoken.
pub(super) fn not_encrypted(node: &HeaderValue) -> Bytes {
    let detail = "this port speaks HTTPS only";
    let problem = Problem::unreadable(StatusCode::BAD_REQUEST, detail);
    last_answer(StatusCode::BAD_REQUEST, problem, "", node)
}

/// A whole answer after which the connection is closed.
fn last_answer(status: StatusCode, problem: Problem, more: &str, node: &HeaderValue) -> Bytes {
    let body = problem.into_document();
    let mut answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {PROBLEM_JSON}\r\ncontent-length: {}\r\n\
         connection: close\r\n{more}{}: ",
        body.len(),
        http::NODE,
    )
    .into_bytes();
    answer.extend_from_slice(node.as_bytes());
    answer.extend_from_slice(END);
    answer.extend_from_slice(&body);
    answer.into()
}

impl<S: AsyncRead + Unpin> AsyncRead for Explained<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Explained<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_pending(context))?;
        let Some(status) = bare_refusal(bytes) else {
            return Pin::new(&mut self.stream).poll_write(context, bytes);
        };
        self.pending = explanation(status, &self.node);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // A bare refusal has no body, and so comes as one slice.
        if let [only] = slices {
            return self.poll_write(context, only);
        }
        ready!(self.poll_pending(context))?;
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_pending(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_pending(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_head_that_names_no_node_is_a_bare_refusal() {
        let refusal = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(bare_refusal(refusal), Some(StatusCode::BAD_REQUEST));
        for other in [
            &b"HTTP/1.1 400 Bad Request\r\nx-dss-node: n1\r\ncontent-length: 0\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\n",
            b"HTTP/1.1 400 Bad Request\r\ncontent-length: 1\r\n\r\nx",
            b"HTTP/1.1 400",
            b"",
        ] {
            assert_eq!(bare_refusal(other), None, "{}", String::from_utf8_lossy(other));
        }
    }
}
