//! The first frames of a connection: both sides make sure that they mean each other.

use bytes::{BufMut, Bytes, BytesMut};
use dss_raft::NodeId;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};

use super::frame::{Frame, FrameError, FrameReader, FrameWriter};

/// What every connection begins with, so that a stray client is recognised at once.
const MAGIC: &[u8; 8] = b"dss-peer";
/// The version of the frames and of everything in them. Nodes of different versions do not talk.
const VERSION: u16 = 1;

/// Why a node is refused that the configuration does not name.
pub(super) const NOT_A_MEMBER: &str = "from a node that is not in the configuration";

/// Who connects, and to whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    /// The cluster that both belong to.
    pub(super) cluster: String,
    /// Who connects.
    pub(super) from: u64,
    /// Whom it wants to reach: two nodes with swapped addresses would otherwise talk for years.
    pub(super) to: u64,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("writing failed: {0}")]
    Io(#[from] std::io::Error),
    #[error("no encrypted connection: {0}")]
    Tls(#[source] std::io::Error),
    #[error("the other side refused: {0}")]
    Refused(String),
    #[error("not a node of dss")]
    NotANode,
    #[error("refused: {0}")]
    Wrong(&'static str),
}

impl HandshakeError {
    /// Whether one side does not want the other, which trying again soon does not change.
    pub(super) fn is_refusal(&self) -> bool {
        match self {
            Self::Refused(_) | Self::NotANode | Self::Wrong(_) => true,
            // A node that does not believe a certificate says so only after the handshake.
            Self::Tls(error) | Self::Io(error) | Self::Frame(FrameError::Io(error)) => {
                error.get_ref().is_some_and(|error| error.is::<rustls::Error>())
            }
            Self::Frame(_) => false,
        }
    }
}

impl Hello {
    fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::new();
        bytes.put_slice(MAGIC);
        bytes.put_u16_le(VERSION);
        bytes.put_slice(&postcard::to_allocvec(self).expect("a struct of text and numbers"));
        bytes.freeze()
    }

    fn decode(bytes: &[u8]) -> Result<Self, HandshakeError> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(HandshakeError::NotANode)?;
        let (version, rest) = rest.split_first_chunk().ok_or(HandshakeError::NotANode)?;
        if u16::from_le_bytes(*version) != VERSION {
            return Err(HandshakeError::Wrong("another version of the protocol"));
        }
        postcard::from_bytes(rest).map_err(|_| HandshakeError::NotANode)
    }
}

/// Says `hello` and waits to be welcomed.
pub(super) async fn greet<R, W>(
    reader: &mut FrameReader<R>,
    writer: &mut FrameWriter<W>,
    hello: &Hello,
) -> Result<(), HandshakeError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    writer.push(&Frame::Hello(hello.encode())).await?;
    writer.flush().await?;
    match reader.next().await? {
        Some(Frame::Welcome) => Ok(()),
        Some(Frame::Refused(reason)) => {
            let reason = String::from_utf8_lossy(&reason);
            Err(HandshakeError::Refused(reason.chars().filter(|c| !c.is_control()).collect()))
        }
        _ => Err(HandshakeError::NotANode),
    }
}

/// Waits for a hello and welcomes whoever belongs here.
pub(super) async fn receive<R, W>(
    reader: &mut FrameReader<R>,
    writer: &mut FrameWriter<W>,
    cluster: &str,
    me: NodeId,
    may_connect: impl Fn(NodeId) -> Result<(), &'static str>,
) -> Result<NodeId, HandshakeError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let Some(Frame::Hello(payload)) = reader.next().await? else {
        return Err(HandshakeError::NotANode);
    };
    let checked = Hello::decode(&payload).and_then(|hello| {
        let from = NodeId::new(hello.from);
        if hello.cluster != cluster {
            Err(HandshakeError::Wrong("another cluster"))
        } else if hello.to != me.get() {
            Err(HandshakeError::Wrong("meant for another node"))
        } else if from == me {
            Err(HandshakeError::Wrong(NOT_A_MEMBER))
        } else {
            may_connect(from).map(|()| from).map_err(HandshakeError::Wrong)
        }
    });
    let answer = match &checked {
        Ok(_) => Frame::Welcome,
        Err(HandshakeError::Wrong(reason)) => Frame::Refused(Bytes::from_static(reason.as_bytes())),
        // Whoever does not speak the protocol would not understand an answer.
        Err(_) => return checked,
    };
    writer.push(&answer).await?;
    writer.flush().await?;
    checked
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::frame::HANDSHAKE_BYTES_MAX;
    use super::*;

    async fn shake(hello: Hello) -> (Result<(), HandshakeError>, Result<NodeId, HandshakeError>) {
        let ((near_in, near_out), (far_in, far_out)) = {
            let (near, far) = tokio::io::duplex(4096);
            (tokio::io::split(near), tokio::io::split(far))
        };
        let patience = Duration::from_secs(5);
        let dial = async move {
            let mut reader = FrameReader::new(near_in, HANDSHAKE_BYTES_MAX, patience);
            greet(&mut reader, &mut FrameWriter::new(near_out), &hello).await
        };
        let accept = async move {
            let mut reader = FrameReader::new(far_in, HANDSHAKE_BYTES_MAX, patience);
            let mut writer = FrameWriter::new(far_out);
            let may_connect =
                |node: NodeId| if node.get() < 3 { Ok(()) } else { Err(NOT_A_MEMBER) };
            receive(&mut reader, &mut writer, "demo", NodeId::new(2), may_connect).await
        };
        tokio::join!(dial, accept)
    }

    fn hello() -> Hello {
        Hello { cluster: "demo".to_owned(), from: 1, to: 2 }
    }

    #[tokio::test]
    async fn who_belongs_here_is_welcomed() {
        let (dialed, accepted) = shake(hello()).await;
        dialed.unwrap();
        assert_eq!(accepted.unwrap(), NodeId::new(1));
    }

    #[tokio::test]
    async fn who_does_not_is_told_why() {
        for (wrong, reason) in [
            (Hello { cluster: "prod".to_owned(), ..hello() }, "another cluster"),
            (Hello { to: 1, ..hello() }, "meant for another node"),
            (Hello { from: 2, ..hello() }, "not in the configuration"),
            (Hello { from: 9, ..hello() }, "not in the configuration"),
        ] {
            let (dialed, accepted) = shake(wrong).await;
            assert!(matches!(dialed, Err(HandshakeError::Refused(text)) if text.contains(reason)));
            assert!(matches!(accepted, Err(HandshakeError::Wrong(text)) if text.contains(reason)));
        }
    }

    #[test]
    fn another_version_and_no_protocol_at_all_are_told_apart() {
        let mut bytes = hello().encode().to_vec();
        assert_eq!(Hello::decode(&bytes).unwrap(), hello());
        for end in 0..bytes.len() {
            assert!(Hello::decode(&bytes[..end]).is_err(), "{end}");
        }
        bytes[8] = 9;
        assert!(matches!(Hello::decode(&bytes), Err(HandshakeError::Wrong(_))));
        bytes[0] = b'x';
        assert!(matches!(Hello::decode(&bytes), Err(HandshakeError::NotANode)));
    }
}
