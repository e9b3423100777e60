//! NATS JetStream: a stream in a file, a durable pull consumer, acks that are themselves confirmed.

use std::io;

use super::Client;
use super::wire::{Wire, unexpected};

const STREAM: &str = r#"{"name":"bench","subjects":["bench"],"storage":"file","retention":"workqueue","num_replicas":1}"#;
const CONSUMER: &str = r#"{"stream_name":"bench","config":{"durable_name":"g","ack_policy":"explicit","max_ack_pending":100000}}"#;

pub(crate) struct Nats {
    wire: Wire,
    inbox: String,
}

struct Message {
    reply: String,
    headers: String,
    payload: Vec<u8>,
}

impl Nats {
    pub(crate) fn connect(address: &str) -> io::Result<Self> {
        let mut wire = Wire::connect(address)?;
        let information = wire.line()?;
        // Each connection's number is another one.
        let id = information.split("\"client_id\":").nth(1).unwrap_or_default();
        let id: String = id.chars().take_while(char::is_ascii_digit).collect();
        let inbox = format!("_INBOX.{id}");
        wire.send(b"CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true}\r\n")?;
        wire.send(format!("SUB {inbox} 1\r\n").as_bytes())?;
        Ok(Self { wire, inbox })
    }

    fn request(&self, subject: &str, payload: &[u8]) -> Vec<u8> {
        let mut bytes = format!("PUB {subject} {} {}\r\n", self.inbox, payload.len()).into_bytes();
        bytes.extend_from_slice(payload);
        bytes.extend_from_slice(b"\r\n");
        bytes
    }

    fn message(&mut self) -> io::Result<Message> {
        loop {
            let line = self.wire.line()?;
            let words: Vec<&str> = line.split_whitespace().collect();
            let length = |word: &str| word.parse::<usize>().map_err(io::Error::other);
            let (reply, head, total) = match words[..] {
                ["PING"] => {
                    self.wire.send(b"PONG\r\n")?;
                    continue;
                }
                ["INFO", ..] | ["PONG"] | ["+OK"] => continue,
                ["MSG", _, _, total] => ("", 0, length(total)?),
                ["MSG", _, _, reply, total] => (reply, 0, length(total)?),
                ["HMSG", _, _, head, total] => ("", length(head)?, length(total)?),
                ["HMSG", _, _, reply, head, total] => (reply, length(head)?, length(total)?),
                _ => return Err(unexpected(line)),
            };
            let mut bytes = self.wire.bytes(total + 2)?;
            bytes.truncate(total);
            let payload = bytes.split_off(head);
            let headers = String::from_utf8_lossy(&bytes).into_owned();
            return Ok(Message { reply: reply.to_owned(), headers, payload });
        }
    }
}

impl Client for Nats {
    fn prepare(&mut self) -> io::Result<()> {
        let create = [
            ("$JS.API.STREAM.CREATE.bench", STREAM),
            ("$JS.API.CONSUMER.DURABLE.CREATE.bench.g", CONSUMER),
        ];
        for (subject, body) in create {
            let request = self.request(subject, body.as_bytes());
            self.wire.send(&request)?;
            let answer = self.message()?;
            let answer = String::from_utf8_lossy(&answer.payload).into_owned();
            if answer.contains("\"error\"") && !answer.contains("already in use") {
                return Err(unexpected(answer));
            }
        }
        Ok(())
    }

    fn publish(&mut self, payload: &[u8], count: usize) -> io::Result<()> {
        let request = self.request("bench", payload).repeat(count);
        self.wire.send(&request)?;
        for _ in 0..count {
            let answer = self.message()?;
            if !answer.payload.starts_with(b"{\"stream\"") {
                return Err(unexpected(String::from_utf8_lossy(&answer.payload)));
            }
        }
        Ok(())
    }

    fn consume(&mut self, max: usize) -> io::Result<usize> {
        // 200 ms, in nanoseconds; a message with headers and no reply is the end of the request.
        let body = format!("{{\"batch\":{max},\"expires\":200000000}}");
        let request = self.request("$JS.API.CONSUMER.MSG.NEXT.bench.g", body.as_bytes());
        self.wire.send(&request)?;
        let mut acks = Vec::new();
        let mut count = 0;
        while count < max {
            let message = self.message()?;
            if message.reply.is_empty() || message.headers.starts_with("NATS/1.0 4") {
                break;
            }
            acks.extend(self.request(&message.reply, b"+ACK"));
            count += 1;
        }
        if count > 0 {
            self.wire.send(&acks)?;
            for _ in 0..count {
                self.message()?;
            }
        }
        Ok(count)
    }
}
