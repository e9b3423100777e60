//! As little of HTTP/1.1 as it takes to ask servers that behave, the same for all of them.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// One connection, kept open, with one request at a time.
pub(crate) struct Connection {
    stream: TcpStream,
    to: SocketAddr,
    sent: String,
    /// What has come and belongs to no answer that was given out.
    received: Vec<u8>,
}

#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    /// JSON.
    pub(crate) body: String,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Connection {
    pub(crate) async fn open(to: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, to, sent: String::new(), received: Vec::new() })
    }

    pub(crate) async fn ask(&mut self, request: &Request) -> io::Result<Answer> {
        use std::fmt::Write as _;
        let Request { method, path, body } = request;
        self.sent.clear();
        write!(
            self.sent,
            "{method} {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            self.to,
            body.len()
        )
        .map_err(io::Error::other)?;
        self.stream.write_all(self.sent.as_bytes()).await?;
        let head_end = self.read_until(|received| find(received, b"\r\n\r\n", 0)).await? + 4;
        let head = String::from_utf8_lossy(&self.received[..head_end]).to_ascii_lowercase();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| io::Error::other("an answer without a status"))?;
        let field = |name: &str| {
            let mut lines = head.lines().filter_map(|line| line.split_once(':'));
            lines.find(|(field, _)| *field == name).map(|(_, value)| value.trim().to_owned())
        };
        let end = if field("transfer-encoding").as_deref() == Some("chunked") {
            // The last chunk is empty. What is between the others is left in: it is never looked at.
            self.read_until(|received| find(received, b"\r\n0\r\n\r\n", head_end - 2)).await? + 7
        } else {
            let length: usize =
                field("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
            let end = head_end + length;
            self.read_until(|received| (received.len() >= end).then_some(end)).await?
        };
        let body = String::from_utf8_lossy(&self.received[head_end..end]).into_owned();
        self.received.drain(..end);
        Ok(Answer { status, body })
    }

    async fn read_until(&mut self, end: impl Fn(&[u8]) -> Option<usize>) -> io::Result<usize> {
        loop {
            if let Some(end) = end(&self.received) {
                return Ok(end);
            }
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

fn find(received: &[u8], wanted: &[u8], from: usize) -> Option<usize> {
    let rest = received.get(from..)?;
    rest.windows(wanted.len()).position(|window| window == wanted).map(|place| from + place)
}
