//! As little of HTTP/1.1 as it takes to ask a server that behaves.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// One connection, kept open, with one request at a time.
pub(super) struct Connection {
    stream: TcpStream,
    sent: Vec<u8>,
    received: Vec<u8>,
}

/// What is looked at of an answer.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) is_hit: bool,
    pub(super) length: usize,
}

impl Connection {
    pub(super) async fn open(to: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, sent: Vec::new(), received: Vec::new() })
    }

    pub(super) async fn ask(
        &mut self,
        method: &str,
        path: &str,
        body: &[u8],
    ) -> io::Result<Answer> {
        use std::io::Write as _;
        self.sent.clear();
        let length = body.len();
        write!(
            self.sent,
            "{method} {path} HTTP/1.1\r\nhost: values\r\ncontent-length: {length}\r\n\r\n"
        )?;
        self.sent.extend_from_slice(body);
        self.stream.write_all(&self.sent).await?;
        self.received.clear();
        let head_end = loop {
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(end) = self.received.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
        };
        let head = String::from_utf8_lossy(&self.received[..head_end]).into_owned();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| io::Error::other("an answer without a status"))?;
        let fields = || head.lines().filter_map(|line| line.split_once(": "));
        let field = |name| fields().find(|(field, _)| *field == name).map(|(_, value)| value);
        let length = field("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        while self.received.len() < head_end + length {
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(Answer { status, is_hit: field("x-cache") == Some("hit"), length })
    }
}
