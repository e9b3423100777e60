//! A connection on which a client may not dawdle.
//!
//! The HTTP implementation ends a connection on which no whole head comes for as long as one may
//! rest. That the first must begin sooner, that a head which has begun must come sooner, byte by
//! byte or not, and that an answer must be taken, is seen to here.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::time::{Sleep, sleep, timeout};

use crate::config::Limits;

/// How many requests of a connection are under way: while there are any, what comes is not the
/// beginning of a head.
#[derive(Debug, Clone, Default)]
pub(super) struct UnderWay(watch::Sender<usize>);

/// One of them.
pub(super) struct Request(UnderWay);

impl UnderWay {
    /// One more, until it is dropped.
    pub(super) fn begin(&self) -> Request {
        self.0.send_modify(|count| *count += 1);
        Request(self.clone())
    }

    fn is_none(&self) -> bool {
        *self.0.borrow() == 0
    }

    /// Waits until there were none for as long.
    pub(super) async fn none_for(&self, span: Duration) {
        let mut count = self.0.subscribe();
        loop {
            // The sender is in self: this fails never.
            let _ = count.wait_for(|count| *count == 0).await;
            if timeout(span, count.changed()).await.is_err() {
                return;
            }
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| *count -= 1);
    }
}

/// A connection whose heads and answers have limits in time.
pub(super) struct Paced<S> {
    stream: S,
    under_way: UnderWay,
    /// Runs until there is a first byte.
    first: Limit,
    head: Limit,
    answer: Limit,
}

/// A span of time that runs or does not.
struct Limit {
    span: Duration,
    running: Option<Pin<Box<Sleep>>>,
}

impl Limit {
    fn new(span: Duration) -> Self {
        Self { span, running: None }
    }

    fn start(&mut self) {
        let span = self.span;
        self.running.get_or_insert_with(|| Box::pin(sleep(span)));
    }

    fn stop(&mut self) {
        self.running = None;
    }

    /// Whether the time is over; wakes when it will be.
    fn is_over(&mut self, context: &mut Context<'_>) -> bool {
        self.running.as_mut().is_some_and(|running| running.as_mut().poll(context).is_ready())
    }
}

impl<S> Paced<S> {
    pub(super) fn new(stream: S, under_way: UnderWay, limits: &Limits) -> Self {
        let mut first = Limit::new(limits.first_byte);
        first.start();
        let (head, answer) = (Limit::new(limits.headers), Limit::new(limits.answer));
        Self { stream, under_way, first, head, answer }
    }

    /// What came of an attempt to write, unless the client has taken nothing for too long.
    fn written<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.answer.stop();
            return written;
        }
        self.answer.start();
        if self.answer.is_over(context) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(context, buffer);
        if !this.under_way.is_none() {
            this.head.stop();
            return read;
        }
        if buffer.filled().len() > before {
            this.first.stop();
            this.head.start();
        }
        if this.first.is_over(context) || this.head.is_over(context) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        // What is answered had a whole head.
        self.head.stop();
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.head.stop();
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.written(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.written(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(context);
        self.written(context, shut)
    }
}
