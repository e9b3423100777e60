//! RabbitMQ by AMQP 0-9-1: a quorum queue, publisher confirms, pushed deliveries with a prefetch.

use std::collections::BTreeSet;
use std::io;

use super::Client;
use super::wire::{Wire, unexpected};

const FRAME_METHOD: u8 = 1;
const FRAME_HEADER: u8 = 2;
const FRAME_BODY: u8 = 3;
const FRAME_END: u8 = 0xCE;
/// How many deliveries may be unacknowledged.
const PREFETCH: u16 = 256;

pub(crate) struct Amqp {
    wire: Wire,
    consumes: bool,
    is_consuming: bool,
    /// The tag of the newest publish, and those without a confirm, which come in any order.
    published: u64,
    unconfirmed: BTreeSet<u64>,
}

/// The arguments of a method, as they are written.
#[derive(Default)]
struct Arguments(Vec<u8>);

impl Arguments {
    fn of(class: u16, method: u16) -> Self {
        Self([class.to_be_bytes(), method.to_be_bytes()].concat())
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn short_text(self, text: &str) -> Self {
        let length = u8::try_from(text.len()).expect("our own names are short");
        self.bytes(&[length]).bytes(text.as_bytes())
    }

    fn long_text(self, text: &[u8]) -> Self {
        let length = u32::try_from(text.len()).expect("our own texts are short");
        self.bytes(&length.to_be_bytes()).bytes(text)
    }
}

fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("frames are small");
    [&[kind][..], &channel.to_be_bytes(), &length.to_be_bytes(), payload, &[FRAME_END]].concat()
}

impl Amqp {
    pub(crate) fn connect(address: &str, consumes: bool) -> io::Result<Self> {
        let wire = Wire::connect(address)?;
        let mut amqp = Self {
            wire,
            consumes,
            is_consuming: false,
            published: 0,
            unconfirmed: BTreeSet::new(),
        };
        amqp.wire.send(b"AMQP\0\0\x09\x01")?;
        amqp.expect(10, 10)?;
        let start_ok = Arguments::of(10, 11).long_text(b"").short_text("PLAIN");
        amqp.method(0, &start_ok.long_text(b"\0guest\0guest").short_text("en_US"))?;
        let tune = amqp.expect(10, 30)?;
        // What the server proposes, without heartbeats.
        amqp.method(0, &Arguments::of(10, 31).bytes(&tune[..6]).bytes(&[0, 0]))?;
        amqp.method(0, &Arguments::of(10, 40).short_text("/").short_text("").bytes(&[0]))?;
        amqp.expect(10, 41)?;
        amqp.method(1, &Arguments::of(20, 10).short_text(""))?;
        amqp.expect(20, 11)?;
        // confirm.select
        amqp.method(1, &Arguments::of(85, 10).bytes(&[0]))?;
        amqp.expect(85, 11)?;
        Ok(amqp)
    }

    fn method(&mut self, channel: u16, arguments: &Arguments) -> io::Result<()> {
        self.wire.send(&frame(FRAME_METHOD, channel, &arguments.0))
    }

    fn frame(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let head = self.wire.bytes(7)?;
        let length = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
        let mut payload = self.wire.bytes(length + 1)?;
        payload.truncate(length);
        Ok((head[0], payload))
    }

    /// The next method: its class, its number, its arguments.
    fn next_method(&mut self) -> io::Result<(u16, u16, Vec<u8>)> {
        loop {
            let (kind, mut payload) = self.frame()?;
            if kind == FRAME_METHOD && payload.len() >= 4 {
                let arguments = payload.split_off(4);
                let class = u16::from_be_bytes([payload[0], payload[1]]);
                return Ok((class, u16::from_be_bytes([payload[2], payload[3]]), arguments));
            }
        }
    }

    fn expect(&mut self, class: u16, method: u16) -> io::Result<Vec<u8>> {
        match self.next_method()? {
            (c, m, arguments) if (c, m) == (class, method) => Ok(arguments),
            (c, m, arguments) => {
                let said = String::from_utf8_lossy(&arguments).into_owned();
                Err(unexpected(format!("method {c}.{m} {said}")))
            }
        }
    }

    fn start_consuming(&mut self) -> io::Result<()> {
        let qos = Arguments::of(60, 10).bytes(&[0; 4]);
        self.method(1, &qos.bytes(&PREFETCH.to_be_bytes()).bytes(&[0]))?;
        self.expect(60, 11)?;
        let consume = Arguments::of(60, 20).bytes(&[0; 2]).short_text("bench").short_text("");
        self.method(1, &consume.bytes(&[0]).long_text(b""))?;
        self.expect(60, 21)?;
        self.is_consuming = true;
        Ok(())
    }
}

impl Client for Amqp {
    fn prepare(&mut self) -> io::Result<()> {
        let mut kind = Arguments::default().short_text("x-queue-type").bytes(b"S").0;
        kind = Arguments(kind).long_text(b"quorum").0;
        // Durable.
        let declare = Arguments::of(50, 10).bytes(&[0; 2]).short_text("bench").bytes(&[0b10]);
        self.method(1, &declare.long_text(&kind))?;
        self.expect(50, 11).map(drop)
    }

    fn publish(&mut self, payload: &[u8], count: usize) -> io::Result<()> {
        let publish = Arguments::of(60, 40).bytes(&[0; 2]).short_text("").short_text("bench");
        let method = frame(FRAME_METHOD, 1, &publish.bytes(&[0]).0);
        // One property: delivery mode 2, persistent.
        let header = Arguments::of(60, 0).bytes(&(payload.len() as u64).to_be_bytes());
        let header = frame(FRAME_HEADER, 1, &header.bytes(&[0x10, 0x00, 2]).0);
        let body = frame(FRAME_BODY, 1, payload);
        self.wire.send(&[method, header, body].concat().repeat(count))?;
        let newest = self.published + count as u64;
        self.unconfirmed.extend(self.published + 1..=newest);
        self.published = newest;
        while !self.unconfirmed.is_empty() {
            let arguments = self.expect(60, 80)?;
            let tag = arguments[..8].try_into().map_err(io::Error::other)?;
            let tag = u64::from_be_bytes(tag);
            if arguments[8] & 1 == 1 {
                self.unconfirmed = self.unconfirmed.split_off(&(tag + 1));
            } else {
                self.unconfirmed.remove(&tag);
            }
        }
        Ok(())
    }

    fn consume(&mut self, max: usize) -> io::Result<usize> {
        if self.consumes && !self.is_consuming {
            self.start_consuming()?;
        }
        // A batch is acknowledged with one ack, as clients of RabbitMQ do.
        let mut newest = [0; 8];
        for _ in 0..max {
            let arguments = self.expect(60, 60)?;
            let tag_at = 1 + usize::from(arguments[0]);
            newest.copy_from_slice(&arguments[tag_at..tag_at + 8]);
        }
        let ack = Arguments::of(60, 80).bytes(&newest).bytes(&[u8::from(max > 1)]);
        self.method(1, &ack)?;
        Ok(max)
    }
}
