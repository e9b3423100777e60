//! How a segment is laid out.
//!
//! ```text
//! segment = header, batch*, zeros up to the capacity
//! header  = magic 8 | format 4 | 0 4 | number 8 | capacity 8 | ordinal 8 | chain 4 | checksum 4
//! batch   = record frame*, trailer frame
//! frame   = length 4 | kind 1 | 0 3 | group 4 | chain 4 | ordinal 8 | 0 4 | checksum 4
//!           | payload of `length` bytes | zeros up to a multiple of 8
//! ```
//!
//! Numbers are little-endian. `checksum` is the CRC-32C of the bytes before it, begun with that of
//! the segment's number: it vouches for one header alone, so that frames are found again behind
//! damage. `chain` is the CRC-32C of frame and payload, begun with the chain of the frame before:
//! a frame is valid only behind the very frames that it was written behind. `ordinal` counts the
//! node's batches. The header of a segment carries ordinal and chain of the last batch of the
//! segment before, so a batch that vanished from the end of that is noticed.

use bytes::Bytes;

use crate::codec::Record;
use crate::types::GroupId;

const MAGIC: [u8; 8] = *b"dss-raft";
const FORMAT: u32 = 1;
pub(super) const HEADER_BYTES: usize = 48;
pub(super) const FRAME_BYTES: usize = 32;
const ALIGNMENT: usize = 8;

const KIND_RECORD: u8 = 1;
const KIND_TRAILER: u8 = 2;

/// Where a sequence of batches stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Position {
    /// The last complete batch; 0 before the first.
    pub(super) ordinal: u64,
    /// The chain behind it.
    pub(super) chain: u32,
}

/// The head of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) number: u64,
    pub(super) capacity: u64,
    /// The end of the segment before.
    pub(super) previous: Position,
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.number.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.capacity.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.previous.ordinal.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.previous.chain.to_le_bytes());
        let checksum = crc32c::crc32c(&bytes[..44]);
        bytes[44..48].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    pub(super) fn decode(segment: &[u8]) -> Result<Self, &'static str> {
        let bytes = segment.get(..HEADER_BYTES).ok_or("the segment has no header")?;
        if bytes[0..8] != MAGIC {
            return Err("not a segment of a log");
        }
        if u32_at(bytes, 44) != crc32c::crc32c(&bytes[..44]) {
            return Err("the checksum of the segment's header is wrong");
        }
        if u32_at(bytes, 8) != FORMAT {
            return Err("the segment is of another version of the format");
        }
        Ok(Self {
            number: u64_at(bytes, 16),
            capacity: u64_at(bytes, 24),
            previous: Position { ordinal: u64_at(bytes, 32), chain: u32_at(bytes, 40) },
        })
    }

    /// Where the segment's first batch begins.
    pub(super) fn start(&self) -> Position {
        let chain = crc32c::crc32c_append(self.previous.chain, &self.encode());
        Position { ordinal: self.previous.ordinal, chain }
    }
}

/// Builds one batch.
pub(super) struct BatchWriter<'a> {
    buffer: &'a mut Vec<u8>,
    seed: u32,
    ordinal: u64,
    chain: u32,
}

impl<'a> BatchWriter<'a> {
    /// The batch after `position` in segment `number`, appended to `buffer`.
    pub(super) fn new(buffer: &'a mut Vec<u8>, number: u64, position: Position) -> Self {
        let ordinal = position.ordinal + 1;
        Self { buffer, seed: seed(number), ordinal, chain: position.chain }
    }

    pub(super) fn record(&mut self, group: GroupId, record: &Record) {
        self.frame(KIND_RECORD, group, |buffer| record.encode(buffer));
    }

    /// Ends the batch: where the next one follows.
    pub(super) fn finish(mut self) -> Position {
        self.frame(KIND_TRAILER, GroupId::new(0), |_| {});
        Position { ordinal: self.ordinal, chain: self.chain }
    }

    fn frame(&mut self, kind: u8, group: GroupId, payload: impl FnOnce(&mut Vec<u8>)) {
        let start = self.buffer.len();
        self.buffer.resize(start + FRAME_BYTES, 0);
        payload(self.buffer);
        let length = self.buffer.len() - start - FRAME_BYTES;
        let length = u32::try_from(length).expect("persist refuses records of 4 GiB");
        self.buffer.resize(self.buffer.len().next_multiple_of(ALIGNMENT), 0);
        let (header, payload) = self.buffer[start..].split_at_mut(FRAME_BYTES);
        header[0..4].copy_from_slice(&length.to_le_bytes());
        header[4] = kind;
        header[8..12].copy_from_slice(&group.get().to_le_bytes());
        header[16..24].copy_from_slice(&self.ordinal.to_le_bytes());
        self.chain = chain(self.chain, header, payload);
        header[12..16].copy_from_slice(&self.chain.to_le_bytes());
        let checksum = crc32c::crc32c_append(self.seed, &header[..28]);
        header[28..32].copy_from_slice(&checksum.to_le_bytes());
    }
}

/// What a record takes in a batch at most.
pub(super) fn record_bytes_max(record: &Record) -> usize {
    FRAME_BYTES + record.bytes_max() + ALIGNMENT
}

/// What a frame holds.
pub(super) enum Frame {
    Record(GroupId, Bytes),
    Trailer,
}

/// Reads the frames of one segment, one behind the other.
pub(super) struct FrameReader<'a> {
    segment: &'a [u8],
    seed: u32,
    offset: usize,
    position: Position,
    chain: u32,
}

impl<'a> FrameReader<'a> {
    pub(super) fn new(segment: &'a [u8], header: &Header) -> Self {
        let position = header.start();
        let chain = position.chain;
        Self { segment, seed: seed(header.number), offset: HEADER_BYTES, position, chain }
    }

    /// Where the next frame begins.
    pub(super) fn offset(&self) -> usize {
        self.offset
    }

    /// The last batch whose trailer was read.
    pub(super) fn position(&self) -> Position {
        self.position
    }

    /// The next frame; `None` where what is there is no valid next frame.
    pub(super) fn next(&mut self) -> Option<Frame> {
        let header = self.segment.get(self.offset..self.offset + FRAME_BYTES)?;
        let (ordinal, kind) = self_valid(header, self.seed)?;
        if ordinal != self.position.ordinal + 1 {
            return None;
        }
        let length = usize::try_from(u32_at(header, 0)).ok()?;
        let start = self.offset + FRAME_BYTES;
        let end = start.checked_add(length)?.checked_next_multiple_of(ALIGNMENT)?;
        let payload = self.segment.get(start..end)?;
        let chain = chain(self.chain, header, payload);
        if chain != u32_at(header, 12) {
            return None;
        }
        let group = GroupId::new(u32_at(header, 8));
        let frame = match kind {
            KIND_RECORD => Frame::Record(group, Bytes::copy_from_slice(&payload[..length])),
            KIND_TRAILER => Frame::Trailer,
            _ => return None,
        };
        self.chain = chain;
        self.offset = end;
        if kind == KIND_TRAILER {
            self.position = Position { ordinal, chain };
        }
        Some(frame)
    }

    /// Whether a frame of a later batch than `ordinal` begins anywhere from `offset` on. Every
    /// batch is durable before the next one is written, so whatever is not valid before such a
    /// frame was damaged later, not torn by a crash.
    pub(super) fn later_batch_follows(&self, offset: usize, ordinal: u64) -> bool {
        (offset..self.segment.len().saturating_sub(FRAME_BYTES - 1)).step_by(ALIGNMENT).any(|at| {
            self_valid(&self.segment[at..at + FRAME_BYTES], self.seed)
                .is_some_and(|(found, _)| found > ordinal)
        })
    }
}

/// Ordinal and kind of a frame whose header is what was written.
fn self_valid(header: &[u8], seed: u32) -> Option<(u64, u8)> {
    let kind = header[4];
    // Zeros first: most of what is looked at is not written yet.
    let known = matches!(kind, KIND_RECORD | KIND_TRAILER);
    (known && u32_at(header, 28) == crc32c::crc32c_append(seed, &header[..28]))
        .then(|| (u64_at(header, 16), kind))
}

fn seed(number: u64) -> u32 {
    crc32c::crc32c(&number.to_le_bytes())
}

/// The chain over a frame: of its header, all but the two checksums.
fn chain(before: u32, header: &[u8], payload: &[u8]) -> u32 {
    let chain = crc32c::crc32c_append(before, &header[0..12]);
    let chain = crc32c::crc32c_append(chain, &header[16..28]);
    crc32c::crc32c_append(chain, payload)
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    let bytes = bytes[offset..offset + 4].try_into().expect("four bytes were cut out");
    u32::from_le_bytes(bytes)
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    let bytes = bytes[offset..offset + 8].try_into().expect("eight bytes were cut out");
    u64::from_le_bytes(bytes)
}
