//! What travels on a connection between nodes: frames, each a length and a kind before its payload.
//!
//! ```text
//! length: u32, little endian   of what follows
//! kind:   u8
//! number: u64, little endian   of requests and what refers to one
//! payload
//! ```

use std::io;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The largest frame that is sent or accepted, by its length field. A Raft snapshot travels in
/// one frame and is the largest thing there is.
pub(super) const FRAME_BYTES_MAX: usize = 256 << 20;
/// The largest frame before the other side has said who it is.
pub(super) const HANDSHAKE_BYTES_MAX: usize = 1 << 10;
/// Payloads from here on are written and read without copying them.
const LARGE: usize = 16 << 10;
/// How much is asked of the socket at a time: memory follows what arrives, not what a length
/// field promises.
const READ_BYTES: usize = 64 << 10;
const LENGTH_BYTES: usize = 4;

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame {
    /// The first frame of whoever connected: who it is.
    Hello(Bytes),
    /// The answer to a [`Frame::Hello`] that is accepted.
    Welcome,
    /// The answer to one that is not, with the reason as text; the connection ends.
    Refused(Bytes),
    /// Sent when there is nothing else to send, so that silence means that nobody is there.
    Ping,
    /// A Raft envelope.
    Raft(Bytes),
    /// A message of the cache protocol.
    Cache(Bytes),
    /// Something that wants an answer.
    Request { number: u64, kind: RequestKind, payload: Bytes },
    /// The answer.
    Answer { number: u64, payload: Bytes },
    /// The request was not begun and will not be.
    Declined { number: u64 },
    /// The request was begun, and there will be no answer.
    Failed { number: u64 },
    /// Nobody waits for the answer any more.
    Cancel { number: u64 },
}

/// What a request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestKind {
    /// A client's HTTP request, forwarded.
    Http,
    /// One of the cache group's own.
    Internal,
    /// An acquire that is taken back.
    Withdrawal,
    /// A command of the control group.
    Control,
}

/// Why a connection cannot be read on.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    #[error("reading failed: {0}")]
    Io(#[from] io::Error),
    #[error("a frame of {0} bytes is longer than allowed")]
    TooLong(usize),
    #[error("malformed: {0}")]
    Malformed(&'static str),
    #[error("the connection ended within a frame")]
    Truncated,
    #[error("nothing was heard for too long")]
    Silent,
}

impl Frame {
    fn kind(&self) -> u8 {
        match self {
            Self::Hello(_) => 1,
            Self::Welcome => 2,
            Self::Refused(_) => 3,
            Self::Ping => 4,
            Self::Raft(_) => 5,
            Self::Cache(_) => 6,
            Self::Request { kind: RequestKind::Http, .. } => 7,
            Self::Request { kind: RequestKind::Internal, .. } => 8,
            Self::Answer { .. } => 9,
            Self::Declined { .. } => 10,
            Self::Failed { .. } => 11,
            Self::Cancel { .. } => 12,
            Self::Request { kind: RequestKind::Withdrawal, .. } => 13,
            Self::Request { kind: RequestKind::Control, .. } => 14,
        }
    }

    fn number(&self) -> Option<u64> {
        match self {
            Self::Request { number, .. }
            | Self::Answer { number, .. }
            | Self::Declined { number }
            | Self::Failed { number }
            | Self::Cancel { number } => Some(*number),
            _ => None,
        }
    }

    fn payload(&self) -> &[u8] {
        match self {
            Self::Hello(payload)
            | Self::Refused(payload)
            | Self::Raft(payload)
            | Self::Cache(payload)
            | Self::Request { payload, .. }
            | Self::Answer { payload, .. } => payload,
            _ => &[],
        }
    }

    /// What the frame takes on the wire, its length field left out.
    pub(super) fn len(&self) -> usize {
        1 + self.number().map_or(0, |_| 8) + self.payload().len()
    }

    fn decode(mut bytes: Bytes) -> Result<Self, FrameError> {
        let kind = bytes.try_get_u8().map_err(|_| FrameError::Malformed("an empty frame"))?;
        let number = match kind {
            7..=14 => bytes.try_get_u64_le().map_err(|_| FrameError::Malformed("no number"))?,
            _ => 0,
        };
        if matches!(kind, 2 | 4 | 10..=12) && !bytes.is_empty() {
            return Err(FrameError::Malformed("a payload where there is none"));
        }
        Ok(match kind {
            1 => Self::Hello(bytes),
            2 => Self::Welcome,
            3 => Self::Refused(bytes),
            4 => Self::Ping,
            5 => Self::Raft(bytes),
            6 => Self::Cache(bytes),
            7 => Self::Request { number, kind: RequestKind::Http, payload: bytes },
            8 => Self::Request { number, kind: RequestKind::Internal, payload: bytes },
            9 => Self::Answer { number, payload: bytes },
            10 => Self::Declined { number },
            11 => Self::Failed { number },
            12 => Self::Cancel { number },
            13 => Self::Request { number, kind: RequestKind::Withdrawal, payload: bytes },
            14 => Self::Request { number, kind: RequestKind::Control, payload: bytes },
            _ => return Err(FrameError::Malformed("an unknown kind of frame")),
        })
    }
}

/// Cuts a stream of bytes into frames.
pub(super) struct FrameReader<R> {
    reader: R,
    buffer: BytesMut,
    length_max: usize,
    silence_max: Duration,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Reads frames of at most `length_max` bytes, and gives up where not a byte comes for
    /// `silence_max`.
    pub(super) fn new(reader: R, length_max: usize, silence_max: Duration) -> Self {
        Self { reader, buffer: BytesMut::new(), length_max, silence_max }
    }

    /// From the next frame on, allow this length.
    pub(super) fn allow(&mut self, length_max: usize) {
        self.length_max = length_max;
    }

    /// The next frame; `None` where the stream has ended between two. Cancelling it loses nothing.
    pub(super) async fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        loop {
            if let Some(frame) = self.take()? {
                return Ok(Some(frame));
            }
            self.buffer.reserve(READ_BYTES);
            let read = self.reader.read_buf(&mut self.buffer);
            let read = tokio::time::timeout(self.silence_max, read).await;
            match read.map_err(|_| FrameError::Silent)?? {
                0 if self.buffer.is_empty() => return Ok(None),
                0 => return Err(FrameError::Truncated),
                _ => {}
            }
        }
    }

    fn take(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some(prefix) = self.buffer.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = u32::from_le_bytes(*prefix) as usize;
        if length > self.length_max {
            return Err(FrameError::TooLong(length));
        }
        if self.buffer.len() - LENGTH_BYTES < length {
            return Ok(None);
        }
        self.buffer.advance(LENGTH_BYTES);
        let frame = self.buffer.split_to(length);
        // A small frame is copied: as a slice it would keep the whole read buffer alive for as
        // long as an entry of it stays in a log.
        let bytes = if length < LARGE { Bytes::copy_from_slice(&frame) } else { frame.freeze() };
        Frame::decode(bytes).map(Some)
    }
}

/// Writes frames, many of them at once.
pub(super) struct FrameWriter<W> {
    writer: W,
    buffer: BytesMut,
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    pub(super) fn new(writer: W) -> Self {
        Self { writer, buffer: BytesMut::new() }
    }

    /// Takes a frame along; it is on its way after the next [`flush`](Self::flush).
    pub(super) async fn push(&mut self, frame: &Frame) -> io::Result<()> {
        assert!(frame.len() <= FRAME_BYTES_MAX, "longer frames are refused before they are queued");
        let length = u32::try_from(frame.len()).expect("the limit of a frame fits");
        self.buffer.put_u32_le(length);
        self.buffer.put_u8(frame.kind());
        if let Some(number) = frame.number() {
            self.buffer.put_u64_le(number);
        }
        let payload = frame.payload();
        if payload.len() < LARGE {
            self.buffer.put_slice(payload);
        } else {
            self.write_buffer().await?;
            self.writer.write_all(payload).await?;
        }
        if self.buffer.len() >= READ_BYTES {
            self.write_buffer().await?;
        }
        Ok(())
    }

    /// Sends what was pushed.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        self.write_buffer().await?;
        self.writer.flush().await
    }

    async fn write_buffer(&mut self) -> io::Result<()> {
        self.writer.write_all(&self.buffer).await?;
        self.buffer.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    fn every_kind() -> Vec<Frame> {
        let payload = Bytes::from_static(b"payload");
        let large = Bytes::from(vec![7; 3 * LARGE]);
        vec![
            Frame::Hello(payload.clone()),
            Frame::Welcome,
            Frame::Refused(payload.clone()),
            Frame::Ping,
            Frame::Raft(large.clone()),
            Frame::Raft(Bytes::new()),
            Frame::Cache(payload.clone()),
            Frame::Request { number: 1, kind: RequestKind::Http, payload: large },
            Frame::Request { number: u64::MAX, kind: RequestKind::Internal, payload: Bytes::new() },
            Frame::Request { number: 6, kind: RequestKind::Withdrawal, payload: payload.clone() },
            Frame::Request { number: 7, kind: RequestKind::Control, payload: payload.clone() },
            Frame::Answer { number: 2, payload },
            Frame::Declined { number: 3 },
            Frame::Failed { number: 4 },
            Frame::Cancel { number: 5 },
        ]
    }

    async fn encoded(frames: &[Frame]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = FrameWriter::new(&mut bytes);
        for frame in frames {
            writer.push(frame).await.unwrap();
        }
        writer.flush().await.unwrap();
        bytes
    }

    #[tokio::test]
    async fn every_kind_arrives_as_it_was_sent_however_the_bytes_are_cut() {
        let bytes = encoded(&every_kind()).await;
        for capacity in [1, 7, 4096, 1 << 20] {
            let (mut near, far) = tokio::io::duplex(capacity);
            let bytes = bytes.clone();
            let sender = tokio::spawn(async move { near.write_all(&bytes).await });
            let mut reader = FrameReader::new(far, FRAME_BYTES_MAX, PATIENCE);
            for expected in every_kind() {
                assert_eq!(reader.next().await.unwrap(), Some(expected));
            }
            sender.await.unwrap().unwrap();
            assert_eq!(reader.next().await.unwrap(), None);
        }
    }

    #[tokio::test]
    async fn a_stream_cut_anywhere_within_a_frame_is_noticed() {
        let frame = Frame::Answer { number: 2, payload: Bytes::from_static(b"payload") };
        let bytes = encoded(&[frame]).await;
        for end in 1..bytes.len() {
            let mut reader = FrameReader::new(&bytes[..end], FRAME_BYTES_MAX, PATIENCE);
            assert!(matches!(reader.next().await, Err(FrameError::Truncated)), "{end}");
        }
    }

    #[tokio::test]
    async fn garbage_is_refused_by_what_is_wrong_with_it() {
        for (bytes, kind) in [
            (&b"\x00\x00\x00\x00"[..], "an empty frame"),
            (b"\x01\x00\x00\x00\x00", "an unknown kind of frame"),
            (b"\x01\x00\x00\x00\xff", "an unknown kind of frame"),
            (b"\x02\x00\x00\x00\x07\x07", "no number"),
            (b"\x02\x00\x00\x00\x04\x04", "a payload where there is none"),
        ] {
            let mut reader = FrameReader::new(bytes, FRAME_BYTES_MAX, PATIENCE);
            match reader.next().await {
                Err(FrameError::Malformed(problem)) => assert_eq!(problem, kind),
                other => panic!("{bytes:?}: {other:?}"),
            }
        }
        let mut reader = FrameReader::new(&b"GET / HTTP/1.1\r\n"[..], FRAME_BYTES_MAX, PATIENCE);
        assert!(matches!(reader.next().await, Err(FrameError::TooLong(_))));
    }

    #[tokio::test]
    async fn silence_ends_the_reading() {
        let (_near, far) = tokio::io::duplex(64);
        let mut reader = FrameReader::new(far, FRAME_BYTES_MAX, Duration::from_millis(20));
        assert!(matches!(reader.next().await, Err(FrameError::Silent)));
    }
}
