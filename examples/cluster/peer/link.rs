//! The connection that this node keeps to one other node, made again whenever it is lost.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::frame::{
    FRAME_BYTES_MAX, Frame, FrameReader, FrameWriter, HANDSHAKE_BYTES_MAX, RequestKind,
};
use super::handshake::{self, HandshakeError, Hello};
use super::outgoing::{self, CallError, Outgoing};
use super::stream;
use super::{HANDSHAKE_TIMEOUT, SILENCE_MAX};
use crate::config::NodeConfig;
use crate::tls::Tls;

/// The first pause after a lost connection; it doubles with every attempt that fails.
const BACKOFF_MIN: Duration = Duration::from_millis(25);
/// The longest pause: a node that comes back is found again within it.
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// The way to one other node.
pub(super) struct Link {
    node: NodeConfig,
    hello: Hello,
    tls: Option<Tls>,
    current: RwLock<Option<Arc<Outgoing>>>,
    /// Cancelled when the node is not to be reached any more.
    dropped: CancellationToken,
}

impl Link {
    pub(super) fn new(node: NodeConfig, hello: Hello, tls: Option<Tls>) -> Self {
        let (current, dropped) = (RwLock::new(None), CancellationToken::new());
        Self { node, hello, tls, current, dropped }
    }

    /// What people call the node.
    pub(super) fn name(&self) -> &str {
        &self.node.name
    }

    /// Whether it leads to this node, at this address.
    pub(super) fn is_to(&self, node: &NodeConfig) -> bool {
        self.node.id == node.id && self.node.peer == node.peer
    }

    /// Says that the node is not to be reached any more.
    pub(super) fn drop_it(&self) {
        self.dropped.cancel();
    }

    /// Waits until that was said.
    pub(super) async fn let_go(&self) {
        self.dropped.cancelled().await;
    }

    /// Whether there is a connection, and the other side was heard of within [`SILENCE_MAX`].
    pub(super) fn is_up(&self) -> bool {
        self.current().is_some()
    }

    /// Sends a message that may be lost, and is where there is no connection or no room.
    pub(super) fn send(&self, frame: Frame) {
        let length = frame.len();
        let Some(current) = self.current() else { return };
        if !current.try_send(frame) {
            if length > FRAME_BYTES_MAX {
                tracing::error!(node = %self.node.name, length, "a message is too long to be sent");
            } else {
                tracing::debug!(node = %self.node.name, "no room for a message");
            }
        }
    }

    /// Sends a request and waits for its answer. Dropping the future cancels it.
    pub(super) async fn call(&self, kind: RequestKind, payload: Bytes) -> Result<Bytes, CallError> {
        match self.current() {
            Some(current) => current.call(kind, payload).await,
            None => Err(CallError::Unreachable),
        }
    }

    fn current(&self) -> Option<Arc<Outgoing>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_current(&self, outgoing: Option<Arc<Outgoing>>) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = outgoing;
    }

    /// Keeps the connection up, for ever.
    pub(super) async fn keep(&self) {
        let mut backoff = BACKOFF_MIN;
        loop {
            match self.connect().await {
                Ok(connection) => {
                    tracing::info!(node = %self.node.name, "connected");
                    backoff = BACKOFF_MIN;
                    let ended = connection.await;
                    tracing::info!(node = %self.node.name, reason = ended, "disconnected");
                }
                Err(error) if error.is_refusal() => {
                    tracing::warn!(node = %self.node.name, address = %self.node.peer, "{error}");
                    backoff = BACKOFF_MAX;
                }
                Err(error) => {
                    tracing::debug!(node = %self.node.name, "cannot connect: {error}");
                }
            }
            tokio::time::sleep(with_jitter(backoff)).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    /// Connects; what is returned then serves the connection until it ends, and says why it did.
    async fn connect(&self) -> Result<impl Future<Output = String>, HandshakeError> {
        let trust = self.tls.as_ref().map(Tls::trust);
        let attempt = async {
            let tcp = TcpStream::connect(self.node.peer.as_str()).await?;
            let stream = stream::dial(tcp, self.tls.as_ref(), &self.node.name)
                .await
                .map_err(HandshakeError::Tls)?;
            let (reader, writer) = tokio::io::split(stream);
            let mut reader = FrameReader::new(reader, HANDSHAKE_BYTES_MAX, SILENCE_MAX);
            let mut writer = FrameWriter::new(writer);
            handshake::greet(&mut reader, &mut writer, &self.hello).await?;
            reader.allow(FRAME_BYTES_MAX);
            Ok::<_, HandshakeError>((reader, writer))
        };
        let (reader, writer) = tokio::time::timeout(HANDSHAKE_TIMEOUT, attempt)
            .await
            .map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??;
        let (outgoing, frames) = Outgoing::new();
        let serving = self.serve(Arc::new(outgoing), frames, reader, writer);
        Ok(async {
            tokio::select! {
                ended = serving => ended,
                () = stream::distrusted(trust) => stream::DISTRUSTED.to_owned(),
            }
        })
    }

    async fn serve<R, W>(
        &self,
        outgoing: Arc<Outgoing>,
        frames: mpsc::Receiver<Frame>,
        reader: FrameReader<R>,
        writer: FrameWriter<W>,
    ) -> String
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        self.set_current(Some(outgoing.clone()));
        let _down = DownOnDrop(self);
        match outgoing::run(&outgoing, frames, reader, writer).await {
            Ok(()) => "the other side closed the connection".to_owned(),
            Err(error) => error.to_string(),
        }
    }
}

/// Marks the link as down however its connection ends.
struct DownOnDrop<'a>(&'a Link);

impl Drop for DownOnDrop<'_> {
    fn drop(&mut self) {
        self.0.set_current(None);
    }
}

/// From half of `span` to all of it, so that nodes that lost each other do not all come back at
/// the same instant.
fn with_jitter(span: Duration) -> Duration {
    let random = RandomState::new().hash_one(()) % 1024;
    span / 2 + span / 2 * u32::try_from(random).expect("below 1024") / 1024
}
