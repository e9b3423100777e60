//! Writing the primitives of the format.

use bytes::Bytes;

use crate::entry::{Configuration, Entry, Payload};
use crate::types::{LogId, NodeId, Term};

pub(super) const TAG_BLANK: u8 = 0;
pub(super) const TAG_COMMAND: u8 = 1;
pub(super) const TAG_CONFIGURATION: u8 = 2;

/// Appends primitives to a buffer.
#[derive(Debug)]
pub(super) struct Writer {
    buffer: Vec<u8>,
}

impl Writer {
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Self { buffer: Vec::with_capacity(capacity) }
    }

    /// One that goes on where `buffer` ends.
    pub(super) fn appending(buffer: Vec<u8>) -> Self {
        Self { buffer }
    }

    pub(super) fn finish(self) -> Bytes {
        self.buffer.into()
    }

    pub(super) fn into_vec(self) -> Vec<u8> {
        self.buffer
    }

    pub(super) fn byte(&mut self, byte: u8) {
        self.buffer.push(byte);
    }

    pub(super) fn flag(&mut self, flag: bool) {
        self.byte(u8::from(flag));
    }

    pub(super) fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.buffer.push(number.to_le_bytes()[0] | 0x80);
            number >>= 7;
        }
        self.buffer.push(number.to_le_bytes()[0]);
    }

    pub(super) fn length(&mut self, length: usize) {
        self.number(u64::try_from(length).expect("a usize has at most 64 bits"));
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.length(bytes.len());
        self.buffer.extend_from_slice(bytes);
    }

    pub(super) fn log_id(&mut self, id: LogId) {
        self.number(id.term.get());
        self.number(id.index.get());
    }

    pub(super) fn configuration(&mut self, configuration: &Configuration) {
        for set in [&configuration.voters, &configuration.outgoing, &configuration.learners] {
            self.length(set.len());
            for node in set {
                self.number(node.get());
            }
        }
        self.length(configuration.logs.len());
        for (node, log) in &configuration.logs {
            self.number(node.get());
            self.number(log.get());
        }
    }

    pub(super) fn optional_node(&mut self, node: Option<NodeId>) {
        self.flag(node.is_some());
        if let Some(node) = node {
            self.number(node.get());
        }
    }

    /// Entries that follow each other, the first of them after an entry of `term`.
    pub(super) fn entries(&mut self, mut term: Term, entries: &[Entry]) {
        self.length(entries.len());
        for entry in entries {
            debug_assert!(entry.id.term >= term, "terms never fall along a log");
            self.number(entry.id.term.get() - term.get());
            term = entry.id.term;
            match &entry.payload {
                Payload::Blank => self.byte(TAG_BLANK),
                Payload::Command(command) => {
                    self.byte(TAG_COMMAND);
                    self.bytes(command);
                }
                Payload::Configuration(configuration) => {
                    self.byte(TAG_CONFIGURATION);
                    self.configuration(configuration);
                }
            }
        }
    }
}
