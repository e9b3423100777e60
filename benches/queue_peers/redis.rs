//! Redis Streams, one node, by pipelines.

use std::io;

use super::Client;
use super::wire::{Wire, unexpected};

pub(crate) struct Redis {
    wire: Wire,
}

/// An answer, as far as it matters here.
enum Value {
    Text(String),
    List(Vec<Value>),
    Nothing,
}

impl Redis {
    pub(crate) fn connect(address: &str) -> io::Result<Self> {
        Ok(Self { wire: Wire::connect(address)? })
    }

    fn answer(&mut self) -> io::Result<Value> {
        let line = self.wire.line()?;
        let (kind, rest) = line.split_at(1);
        let number = || rest.parse::<i64>().map_err(io::Error::other);
        match kind {
            "+" | ":" => Ok(Value::Text(rest.to_owned())),
            "-" => Err(unexpected(rest)),
            "$" => match usize::try_from(number()?) {
                Ok(length) => {
                    let mut bytes = self.wire.bytes(length + 2)?;
                    bytes.truncate(length);
                    Ok(Value::Text(String::from_utf8_lossy(&bytes).into_owned()))
                }
                Err(_) => Ok(Value::Nothing),
            },
            "*" => match usize::try_from(number()?) {
                Ok(length) => {
                    (0..length).map(|_| self.answer()).collect::<io::Result<_>>().map(Value::List)
                }
                Err(_) => Ok(Value::Nothing),
            },
            _ => Err(unexpected(line)),
        }
    }

    fn ask(&mut self, arguments: &[&str]) -> io::Result<Value> {
        self.wire.send(&command(arguments))?;
        self.answer()
    }
}

fn command(arguments: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", arguments.len());
    for argument in arguments {
        bytes.push_str(&format!("${}\r\n{argument}\r\n", argument.len()));
    }
    bytes.into_bytes()
}

/// The ids of the messages in what XREADGROUP answers for one stream.
fn ids(value: Value) -> Vec<String> {
    let Value::List(mut streams) = value else { return Vec::new() };
    let Some(Value::List(mut stream)) = streams.pop() else { return Vec::new() };
    let Some(Value::List(messages)) = stream.pop() else { return Vec::new() };
    let id = |message| match message {
        Value::List(mut parts) => match parts.swap_remove(0) {
            Value::Text(id) => Some(id),
            _ => None,
        },
        _ => None,
    };
    messages.into_iter().filter_map(id).collect()
}

impl Client for Redis {
    fn prepare(&mut self) -> io::Result<()> {
        // It may be there.
        let _ = self.ask(&["XGROUP", "CREATE", "bench", "g", "0", "MKSTREAM"]);
        Ok(())
    }

    fn publish(&mut self, payload: &[u8], count: usize) -> io::Result<()> {
        let payload = String::from_utf8_lossy(payload);
        self.wire.send(&command(&["XADD", "bench", "*", "p", &payload]).repeat(count))?;
        (0..count).try_for_each(|_| self.answer().map(drop))
    }

    fn consume(&mut self, max: usize) -> io::Result<usize> {
        let max = max.to_string();
        let read = [
            "XREADGROUP",
            "GROUP",
            "g",
            "c",
            "COUNT",
            &max,
            "BLOCK",
            "200",
            "STREAMS",
            "bench",
            ">",
        ];
        let ids = ids(self.ask(&read)?);
        if ids.is_empty() {
            return Ok(0);
        }
        let ids: Vec<_> = ids.iter().map(String::as_str).collect();
        let ack = command(&[&["XACK", "bench", "g"], &ids[..]].concat());
        let delete = command(&[&["XDEL", "bench"], &ids[..]].concat());
        self.wire.send(&[ack, delete].concat())?;
        self.answer()?;
        self.answer()?;
        Ok(ids.len())
    }
}
