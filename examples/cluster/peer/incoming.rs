//! One connection that another node opened: its messages are delivered, its requests answered.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use dss_raft::NodeId;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use super::frame::{FRAME_BYTES_MAX, Frame, FrameError, FrameReader, FrameWriter, RequestKind};
use super::outgoing::write_frames;

/// How many requests of one node are under way here at most; most of them wait for locks.
const REQUESTS_MAX: usize = 16 << 10;
/// How many answers wait for the socket before no further frame is read.
const ANSWERS_MAX: usize = 1 << 10;

/// Who gets what other nodes send.
pub(crate) trait Inbox: Send + Sync + 'static {
    /// A Raft envelope. Must not block.
    fn raft(&self, from: NodeId, payload: Bytes) -> Result<(), Malformed>;

    /// A message of the cache protocol. Must not block.
    fn cache(&self, from: NodeId, payload: Bytes) -> Result<(), Malformed>;

    /// A request; the future is dropped where the caller cancels it or is lost.
    fn request(
        &self,
        from: NodeId,
        kind: RequestKind,
        payload: Bytes,
    ) -> Result<BoxFuture<'static, Bytes>, Malformed>;
}

/// A payload that cannot be decoded: its connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

impl From<Malformed> for FrameError {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed.0)
    }
}

/// Serves a connection of `from` until it ends.
pub(super) async fn serve<R, W>(
    from: NodeId,
    inbox: &Arc<dyn Inbox>,
    mut reader: FrameReader<R>,
    mut writer: FrameWriter<W>,
) -> Result<(), FrameError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let (answers, mut queue) = mpsc::channel(ANSWERS_MAX);
    tokio::select! {
        ended = write_frames(&mut queue, &mut writer, |_| true) => ended.map_err(FrameError::Io),
        ended = read_frames(from, inbox, &mut reader, &answers) => ended,
    }
}

/// The requests under way. Dropping them with the connection ends them.
#[derive(Default)]
struct Requests {
    tasks: JoinSet<(u64, Option<Bytes>)>,
    handles: BTreeMap<u64, AbortHandle>,
}

impl Requests {
    fn start(&mut self, number: u64, request: BoxFuture<'static, Bytes>) {
        let caught = AssertUnwindSafe(request).catch_unwind();
        let handle = self.tasks.spawn(async move { (number, caught.await.ok()) });
        self.handles.insert(number, handle);
    }

    fn cancel(&mut self, number: u64) {
        if let Some(handle) = self.handles.remove(&number) {
            handle.abort();
        }
    }

    /// The next answer. Waits for ever where nothing is under way.
    async fn next_answer(&mut self) -> Frame {
        loop {
            match self.tasks.join_next().await {
                Some(Ok((number, answer))) => {
                    self.handles.remove(&number);
                    return match answer {
                        Some(payload) if payload.len() < FRAME_BYTES_MAX - 16 => {
                            Frame::Answer { number, payload }
                        }
                        _ => Frame::Failed { number },
                    };
                }
                // It was cancelled: nobody waits.
                Some(Err(_)) => {}
                None => std::future::pending().await,
            }
        }
    }
}

async fn read_frames<R: AsyncRead + Unpin>(
    from: NodeId,
    inbox: &Arc<dyn Inbox>,
    reader: &mut FrameReader<R>,
    answers: &mpsc::Sender<Frame>,
) -> Result<(), FrameError> {
    let mut requests = Requests::default();
    loop {
        let frame = tokio::select! {
            frame = reader.next() => frame?,
            answer = requests.next_answer() => {
                // The queue lives as long as the connection's other half, which ends us with it.
                let _ = answers.send(answer).await;
                continue;
            }
        };
        match frame {
            None => return Ok(()),
            Some(Frame::Ping) => {}
            Some(Frame::Raft(payload)) => inbox.raft(from, payload)?,
            Some(Frame::Cache(payload)) => inbox.cache(from, payload)?,
            Some(Frame::Request { number, .. })
                if requests.handles.len() >= REQUESTS_MAX
                    || requests.handles.contains_key(&number) =>
            {
                let _ = answers.send(Frame::Declined { number }).await;
            }
            Some(Frame::Request { number, kind, payload }) => {
                requests.start(number, inbox.request(from, kind, payload)?);
            }
            Some(Frame::Cancel { number }) => requests.cancel(number),
            Some(_) => return Err(FrameError::Malformed("a frame that only an acceptor sends")),
        }
    }
}
