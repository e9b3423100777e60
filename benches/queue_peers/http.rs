//! Our own server.

use std::fmt::Write as _;
use std::io;

use super::Client;
use super::wire::{Wire, unexpected};

pub(crate) struct Http {
    wire: Wire,
    address: String,
}

impl Http {
    pub(crate) fn connect(address: &str) -> io::Result<Self> {
        Ok(Self { wire: Wire::connect(address)?, address: address.to_owned() })
    }

    fn ask(&mut self, method: &str, path: &str, body: &str) -> io::Result<String> {
        let (host, length) = (&self.address, body.len());
        let request = format!(
            "{method} /v1/queues/bench{path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: \
             application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        self.wire.send(request.as_bytes())?;
        let status = self.wire.line()?;
        let mut length = 0;
        loop {
            let header = self.wire.line()?.to_ascii_lowercase();
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().map_err(io::Error::other)?;
            } else if header.is_empty() {
                break;
            }
        }
        let body = String::from_utf8_lossy(&self.wire.bytes(length)?).into_owned();
        if status.starts_with("HTTP/1.1 20") { Ok(body) } else { Err(unexpected(body)) }
    }
}

impl Client for Http {
    fn prepare(&mut self) -> io::Result<()> {
        self.ask("PUT", "", "{}").map(drop)
    }

    fn publish(&mut self, payload: &[u8], count: usize) -> io::Result<()> {
        let message = format!("{{\"payload\":\"{}\"}}", String::from_utf8_lossy(payload));
        let messages = vec![message; count].join(",");
        self.ask("POST", "/messages", &format!("{{\"messages\":[{messages}]}}")).map(drop)
    }

    fn consume(&mut self, max: usize) -> io::Result<usize> {
        let body = format!("{{\"consumer\":\"c\",\"max\":{max},\"wait_ms\":200}}");
        let answer = self.ask("POST", "/groups/g/receive", &body)?;
        let mut receipts = String::new();
        let mut count = 0;
        for part in answer.split("\"receipt\":\"").skip(1) {
            let comma = if count == 0 { "" } else { "," };
            let receipt = part.split('"').next().unwrap_or_default();
            write!(receipts, "{comma}\"{receipt}\"").map_err(io::Error::other)?;
            count += 1;
        }
        if count > 0 {
            let body = format!("{{\"receipts\":[{receipts}]}}");
            let answer = self.ask("POST", "/groups/g/ack", &body)?;
            if !answer.contains(&format!("\"acked\":{count}")) {
                return Err(unexpected(answer));
            }
        }
        Ok(count)
    }
}
