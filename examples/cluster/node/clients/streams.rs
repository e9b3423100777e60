//! A connection of HTTP/2, on which several requests are under way at a time.
//!
//! It has the limits of other connections, but for heads: they come in whole, since the first byte
//! that is not part of one is what counts, and none for too long ends the connection.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{Request, Response, StatusCode};
use axum::response::IntoResponse as _;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http2;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::Server;
use super::paced::{self, Paced, UnderWay};
use crate::http::{self, Problem};
use crate::origin::Origin;

/// How long a client may take to leave once it is asked to.
const LEAVE_MAX: Duration = Duration::from_millis(500);
/// How much of an answer is put together before the client has room for it.
const SEND_BYTES_MAX: usize = 64 << 10;
/// How much of an answer is handed on at a time: what fits into one frame.
const PIECE_BYTES: usize = 16 << 10;

impl Server {
    /// Answers requests until the client goes, asks for nothing for too long, or the node stops.
    pub(super) async fn converse_in_streams(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        from: Origin,
    ) {
        let limits = self.limits;
        let (under_way, stalled) = (UnderWay::default(), CancellationToken::new());
        // No byte of the connection is the beginning of a head in itself.
        let whole = UnderWay::default();
        let _whole = whole.begin();
        let stream = Paced::new(stream, whole, &limits);
        let bytes_max = u32::try_from(limits.head_bytes_max).unwrap_or(u32::MAX);
        let streams_max = u32::try_from(limits.streams_max).unwrap_or(u32::MAX);
        let service = {
            let (server, under_way, stalled) = (self.clone(), under_way.clone(), stalled.clone());
            service_fn(move |mut request: Request<Incoming>| {
                request.extensions_mut().insert(from);
                let request_under_way = under_way.begin();
                server.clone().answer(request, request_under_way, stalled.clone())
            })
        };
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(streams_max)
            .max_header_list_size(bytes_max)
            .max_pending_accept_reset_streams(limits.resets_max)
            .max_local_error_reset_streams(limits.resets_max)
            .max_send_buf_size(SEND_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = stalled.cancelled() => return,
            () = under_way.none_for(limits.idle) => {
                connection.as_mut().graceful_shutdown();
                let Ok(ended) = timeout(LEAVE_MAX, connection).await else { return };
                ended
            }
            () = self.stopping.cancelled() => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = connection => ended,
                    () = stalled.cancelled() => return,
                    // All that it began is answered: it need not say that it has heard.
                    () = under_way.none_for(LEAVE_MAX) => return,
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!("a client's connection ended: {error}");
        }
    }

    async fn answer(
        self,
        request: Request<Incoming>,
        under_way: paced::Request,
        stalled: CancellationToken,
    ) -> Result<Response<Taken>, Infallible> {
        let answer = if request.headers().len() > self.limits.headers_max {
            let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
            let problem = Problem::unreadable(status, "the request has too many headers");
            (status, [(http::NODE, self.node)], problem).into_response()
        } else {
            TowerToHyperService::new(self.router).call(request).await?
        };
        let limit = self.limits.answer;
        Ok(answer.map(|body| Taken {
            body,
            rest: Bytes::new(),
            limit,
            stalled,
            waits: None,
            _under_way: under_way,
        }))
    }
}

/// An answer that has to be taken: after each piece of it, the client must make room for the next
/// within the limit. Otherwise it could leave as many answers in memory as it has streams.
struct Taken {
    body: Body,
    /// What was taken out of the body, and not yet handed on.
    rest: Bytes,
    limit: Duration,
    /// Ends the connection.
    stalled: CancellationToken,
    /// From a piece until the next is asked for.
    waits: Option<AbortOnDropHandle<()>>,
    _under_way: paced::Request,
}

impl Taken {
    fn next_piece(&mut self) -> Frame<Bytes> {
        let piece = self.rest.split_to(self.rest.len().min(PIECE_BYTES));
        let (limit, stalled) = (self.limit, self.stalled.clone());
        let waits = async move {
            sleep(limit).await;
            stalled.cancel();
        };
        self.waits = Some(AbortOnDropHandle::new(tokio::spawn(waits)));
        Frame::data(piece)
    }
}

impl hyper::body::Body for Taken {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.waits = None;
        if self.rest.is_empty() {
            let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
            match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => self.rest = data,
                Some(Ok(Err(other))) => return Poll::Ready(Some(Ok(other))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
        Poll::Ready(Some(Ok(self.next_piece())))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, mut hint) = (self.rest.len() as u64, self.body.size_hint());
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(hint.lower() + rest);
        hint
    }
}
