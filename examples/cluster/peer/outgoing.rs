//! One connection that this node opened: what waits to be sent on it, and who waits for answers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};

use super::frame::{FRAME_BYTES_MAX, Frame, FrameError, FrameReader, FrameWriter, RequestKind};

/// How many frames wait for the socket at most. Raft and the cache repeat what is lost.
const QUEUE_FRAMES_MAX: usize = 16 << 10;
/// How many bytes wait for it at most; one frame always may.
const QUEUE_BYTES_MAX: usize = 64 << 20;
/// How many frames are put together before they are flushed.
const BATCH_FRAMES: usize = 256;

/// How often a side that has nothing to say says so.
pub(super) const PING_INTERVAL: Duration = Duration::from_millis(500);

/// How a request to another node fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallError {
    /// It surely was not begun: there was no connection, no room, or a refusal.
    #[error("the node cannot be reached")]
    Unreachable,
    /// It was sent, and then the connection or the other side's handler was lost: it may or may
    /// not have been done.
    #[error("the connection to the node was lost before it answered")]
    Lost,
}

/// A connection's sending side, shared by everybody who sends.
pub(super) struct Outgoing {
    queue: mpsc::Sender<Frame>,
    queued_bytes: AtomicUsize,
    calls: Mutex<Calls>,
}

/// Who waits for an answer.
///
/// Invariant: once `closed`, `waiting` is empty and stays so: nobody waits for a connection that
/// has ended.
#[derive(Default)]
struct Calls {
    closed: bool,
    next_number: u64,
    waiting: BTreeMap<u64, Call>,
}

struct Call {
    answer: oneshot::Sender<Result<Bytes, CallError>>,
    /// Whether the request may have reached the socket.
    sent: bool,
}

impl Outgoing {
    /// A connection with nothing to send yet, and what its [`run`] takes frames from.
    pub(super) fn new() -> (Self, mpsc::Receiver<Frame>) {
        let (queue, frames) = mpsc::channel(QUEUE_FRAMES_MAX);
        (Self { queue, queued_bytes: AtomicUsize::new(0), calls: Mutex::default() }, frames)
    }

    /// Queues a frame, or says that there is no room for it.
    pub(super) fn try_send(&self, frame: Frame) -> bool {
        let length = frame.len();
        let before = self.queued_bytes.fetch_add(length, Ordering::Relaxed);
        let fits = length <= FRAME_BYTES_MAX && (before == 0 || before + length <= QUEUE_BYTES_MAX);
        if fits && self.queue.try_send(frame).is_ok() {
            return true;
        }
        self.queued_bytes.fetch_sub(length, Ordering::Relaxed);
        false
    }

    /// Sends a request and waits for its answer. Dropping the future cancels it.
    pub(super) async fn call(&self, kind: RequestKind, payload: Bytes) -> Result<Bytes, CallError> {
        let (answer, answered) = oneshot::channel();
        let number = {
            let mut calls = self.calls();
            if calls.closed {
                return Err(CallError::Unreachable);
            }
            calls.next_number += 1;
            let number = calls.next_number;
            calls.waiting.insert(number, Call { answer, sent: false });
            number
        };
        let _waiting = Waiting { outgoing: self, number };
        if !self.try_send(Frame::Request { number, kind, payload }) {
            return Err(CallError::Unreachable);
        }
        // Whoever takes the call out of the table answers it; were it dropped unanswered, the
        // request may have been sent.
        answered.await.unwrap_or(Err(CallError::Lost))
    }

    /// Whether the request still has a waiter; if so it counts as sent from here on.
    fn mark_sent(&self, number: u64) -> bool {
        self.calls().waiting.get_mut(&number).is_some_and(|call| {
            call.sent = true;
            true
        })
    }

    fn finish(&self, number: u64, result: Result<Bytes, CallError>) {
        // No call: the answer has crossed its cancellation.
        if let Some(call) = self.calls().waiting.remove(&number) {
            let _ = call.answer.send(result);
        }
    }

    /// The connection is over: whoever waits is told, and nobody begins to.
    fn close(&self) {
        let waiting = {
            let mut calls = self.calls();
            calls.closed = true;
            std::mem::take(&mut calls.waiting)
        };
        for call in waiting.into_values() {
            let error = if call.sent { CallError::Lost } else { CallError::Unreachable };
            let _ = call.answer.send(Err(error));
        }
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A caller who waits; dropped before the answer, it takes the request back.
struct Waiting<'a> {
    outgoing: &'a Outgoing,
    number: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let call = self.outgoing.calls().waiting.remove(&self.number);
        if call.is_some_and(|call| call.sent) {
            self.outgoing.try_send(Frame::Cancel { number: self.number });
        }
    }
}

/// Closes the connection's calls however [`run`] ends, cancelled included.
struct CloseOnDrop<'a>(&'a Outgoing);

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Sends what is queued and hands out the answers until the connection ends.
pub(super) async fn run<R, W>(
    outgoing: &Outgoing,
    mut frames: mpsc::Receiver<Frame>,
    mut reader: FrameReader<R>,
    mut writer: FrameWriter<W>,
) -> Result<(), FrameError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let _closed = CloseOnDrop(outgoing);
    let wanted = |frame: &Frame| {
        outgoing.queued_bytes.fetch_sub(frame.len(), Ordering::Relaxed);
        match frame {
            Frame::Request { number, .. } => outgoing.mark_sent(*number),
            _ => true,
        }
    };
    tokio::select! {
        ended = write_frames(&mut frames, &mut writer, wanted) => ended.map_err(FrameError::Io),
        ended = read_answers(outgoing, &mut reader) => ended,
    }
}

async fn read_answers<R: AsyncRead + Unpin>(
    outgoing: &Outgoing,
    reader: &mut FrameReader<R>,
) -> Result<(), FrameError> {
    while let Some(frame) = reader.next().await? {
        match frame {
            Frame::Ping => {}
            Frame::Answer { number, payload } => outgoing.finish(number, Ok(payload)),
            Frame::Declined { number } => outgoing.finish(number, Err(CallError::Unreachable)),
            Frame::Failed { number } => outgoing.finish(number, Err(CallError::Lost)),
            _ => return Err(FrameError::Malformed("a frame that only a dialer sends")),
        }
    }
    Ok(())
}

/// Writes the frames that are still `wanted` when their turn comes, in batches, and a ping where
/// there are none.
pub(super) async fn write_frames<W: AsyncWrite + Unpin>(
    frames: &mut mpsc::Receiver<Frame>,
    writer: &mut FrameWriter<W>,
    wanted: impl Fn(&Frame) -> bool,
) -> std::io::Result<()> {
    let mut batch = Vec::with_capacity(BATCH_FRAMES);
    loop {
        let received = frames.recv_many(&mut batch, BATCH_FRAMES);
        match tokio::time::timeout(PING_INTERVAL, received).await {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(_) => batch.push(Frame::Ping),
        }
        for frame in batch.drain(..) {
            if frame == Frame::Ping || wanted(&frame) {
                writer.push(&frame).await?;
            }
        }
        writer.flush().await?;
    }
}
