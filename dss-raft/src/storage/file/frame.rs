//! How a segment is laid out.
//!
//! ```text
//! segment = header, batch*, zeros up to the capacity
//! header  = magic 8 | format 4 | 0 4 | number 8 | capacity 8 | ordinal 8 | chain 4 | 0 16
//!           | checksum 4
//! batch   = record frame*, trailer frame
//! frame   = length 4 | kind 1 | 0 3 | group 4 | chain 4 | ordinal 8 | payload checksum 4
//!           | checksum 4 | payload of `length` bytes | zeros up to a multiple of 32
//! ```
//!
//! Numbers are little-endian. `checksum` is the CRC-32C of the bytes before it, begun with the
//! chain at the segment's start: it vouches for one frame header alone, so that frames are found
//! again behind damage, and nobody who only writes commands can forge one. `chain` is the CRC-32C
//! of frame and payload, begun with the chain of the frame before: a frame is valid only behind the
//! very frames that it was written behind. `ordinal` counts the node's batches. The header of a
//! segment carries ordinal and chain of the last batch of the segment before, so a batch that
//! vanished from the end of that is noticed.
//!
//! # A torn batch and a damaged one
//!
//! A disk writes whole sectors, in any order. What a crash leaves of the batch that was being
//! written is therefore some sectors as they were written and zeros in place of the others; a
//! damaged batch has a sector that is neither. To tell the two apart even in the very last batch,
//! frame headers never cross the border of a sector (headers and frames are aligned to 32 bytes), and the trailer's
//! payload, with a checksum of its own, lists the sectors that hold nothing but zeros as written:
//! as runs, first sector 4 | sectors 4.

use std::ops::Range;

use bytes::Bytes;

use crate::codec::Record;
use crate::types::GroupId;

const MAGIC: [u8; 8] = *b"dss-raft";
const FORMAT: u32 = 1;
pub(super) const HEADER_BYTES: usize = 64;
pub(super) const FRAME_BYTES: usize = 32;
/// A frame header fits in it, and it divides a sector.
pub(super) const ALIGNMENT: usize = 32;
/// The smallest sector of any disk: larger ones are made of it.
pub(super) const SECTOR: usize = 512;

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
        let checksum = crc32c::crc32c(&bytes[..60]);
        bytes[60..64].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    pub(super) fn decode(segment: &[u8]) -> Result<Self, &'static str> {
        let bytes = segment.get(..HEADER_BYTES).ok_or("the segment has no header")?;
        if bytes[0..8] != MAGIC {
            return Err("not a segment of a log");
        }
        if u32_at(bytes, 60) != crc32c::crc32c(&bytes[..60]) {
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

    /// What the checksums of the segment's frames are begun with.
    pub(super) fn seed(&self) -> u32 {
        self.start().chain
    }
}

/// Builds one batch.
pub(super) struct BatchWriter<'a> {
    buffer: &'a mut Vec<u8>,
    /// Where in the segment the buffer's first byte goes.
    offset: usize,
    /// Where in the buffer the batch begins.
    begin: usize,
    seed: u32,
    ordinal: u64,
    chain: u32,
}

impl<'a> BatchWriter<'a> {
    /// The batch after `position`, appended to `buffer`, which goes to `offset` of the segment
    /// whose frames are seeded with `seed`.
    pub(super) fn new(
        buffer: &'a mut Vec<u8>,
        offset: usize,
        seed: u32,
        position: Position,
    ) -> Self {
        let begin = buffer.len();
        Self { buffer, offset, begin, seed, ordinal: position.ordinal + 1, chain: position.chain }
    }

    pub(super) fn record(&mut self, group: GroupId, record: &Record) {
        let start = self.open_frame();
        record.encode(self.buffer);
        self.close_frame(start, KIND_RECORD, group, 0);
    }

    /// Ends the batch: where the next one follows.
    pub(super) fn finish(mut self) -> Position {
        let zeros = self.zero_runs();
        let start = self.open_frame();
        for (first, sectors) in zeros {
            self.buffer.extend_from_slice(&first.to_le_bytes());
            self.buffer.extend_from_slice(&sectors.to_le_bytes());
        }
        let checksum = crc32c::crc32c(&self.buffer[start + FRAME_BYTES..]);
        self.close_frame(start, KIND_TRAILER, GroupId::new(0), checksum);
        Position { ordinal: self.ordinal, chain: self.chain }
    }

    /// The sectors that hold nothing but zeros, as runs. Those at both ends hold a frame header.
    fn zero_runs(&self) -> Vec<(u32, u32)> {
        let (begin, end) = (self.offset + self.begin, self.offset + self.buffer.len());
        let mut runs: Vec<(u32, u32)> = Vec::new();
        for sector in begin.div_ceil(SECTOR)..end / SECTOR {
            let start = sector * SECTOR - self.offset;
            if is_zero(&self.buffer[start..start + SECTOR]) {
                let sector = u32::try_from(sector).expect("a segment is smaller than 4 GiB");
                match runs.last_mut() {
                    Some((first, sectors)) if *first + *sectors == sector => *sectors += 1,
                    _ => runs.push((sector, 1)),
                }
            }
        }
        runs
    }

    fn open_frame(&mut self) -> usize {
        let start = self.buffer.len();
        debug_assert!((self.offset + start).is_multiple_of(ALIGNMENT), "frames are aligned");
        self.buffer.resize(start + FRAME_BYTES, 0);
        start
    }

    fn close_frame(&mut self, start: usize, kind: u8, group: GroupId, payload_checksum: u32) {
        let length = self.buffer.len() - start - FRAME_BYTES;
        let length = u32::try_from(length).expect("persist refuses records of 4 GiB");
        self.buffer.resize(self.buffer.len().next_multiple_of(ALIGNMENT), 0);
        let (header, payload) = self.buffer[start..].split_at_mut(FRAME_BYTES);
        header[0..4].copy_from_slice(&length.to_le_bytes());
        header[4] = kind;
        header[8..12].copy_from_slice(&group.get().to_le_bytes());
        header[16..24].copy_from_slice(&self.ordinal.to_le_bytes());
        header[24..28].copy_from_slice(&payload_checksum.to_le_bytes());
        self.chain = chain(self.chain, header, payload);
        header[12..16].copy_from_slice(&self.chain.to_le_bytes());
        let checksum = crc32c::crc32c_append(self.seed, &header[..28]);
        header[28..32].copy_from_slice(&checksum.to_le_bytes());
    }
}

/// What the trailer takes at most, behind records of this many bytes: every other sector may be a
/// run of zeros.
pub(super) fn trailer_bytes_max(records: usize) -> usize {
    FRAME_BYTES + (records / (2 * SECTOR) + 1) * 8 + ALIGNMENT
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

/// What lies behind the last complete batch of a segment.
pub(super) enum Tail {
    /// Nothing.
    Clean,
    /// The part of a batch that a crash left of it.
    Torn(Range<usize>),
    /// What no crash leaves.
    Damaged(&'static str),
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
        Self { segment, seed: header.seed(), offset: HEADER_BYTES, position, chain }
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
        let frame = self.frame_at(self.offset)?;
        if frame.ordinal != self.position.ordinal + 1 {
            return None;
        }
        let (header, payload) = self.segment[self.offset..frame.end].split_at(FRAME_BYTES);
        let chain = chain(self.chain, header, payload);
        if chain != u32_at(header, 12) {
            return None;
        }
        self.chain = chain;
        self.offset = frame.end;
        if frame.kind == KIND_TRAILER {
            self.position = Position { ordinal: frame.ordinal, chain };
            return Some(Frame::Trailer);
        }
        let group = GroupId::new(u32_at(header, 8));
        Some(Frame::Record(group, Bytes::copy_from_slice(&payload[..frame.length])))
    }

    /// What is there where no valid frame follows, and the last complete batch ends at `batch`.
    pub(super) fn tail(&self, batch: usize) -> Tail {
        let Some(last) = self.segment[batch..].iter().rposition(|byte| *byte != 0) else {
            return Tail::Clean;
        };
        let torn = Tail::Torn(batch..batch + last + 1);
        let next = self.position.ordinal + 1;
        // Every batch is durable before the next one is written.
        let mut trailer = None;
        for at in (self.offset..self.segment.len()).step_by(ALIGNMENT) {
            match self.frame_at(at) {
                Some(frame) if frame.ordinal > next => {
                    return Tail::Damaged("a frame is damaged, and valid ones follow");
                }
                Some(frame) if frame.ordinal == next && frame.kind == KIND_TRAILER => {
                    trailer = Some((at, frame));
                }
                _ => {}
            }
        }
        let (unwritten, problem) = match trailer {
            Some((at, frame)) => (
                self.lacks_a_sector_before(batch, at, &frame),
                "a batch is damaged that was written to its end",
            ),
            None => (self.lacks_a_sector_of_next(batch), "a frame is damaged"),
        };
        if unwritten { torn } else { Tail::Damaged(problem) }
    }

    /// Whether a sector of the batch was not written, whose trailer is at `at`.
    fn lacks_a_sector_before(&self, batch: usize, at: usize, trailer: &FrameHeader) -> bool {
        let list = &self.segment[at + FRAME_BYTES..at + FRAME_BYTES + trailer.length];
        if crc32c::crc32c(list) != u32_at(&self.segment[at..], 24) {
            return self.lacks_any(batch, at / SECTOR + 1..trailer.end.div_ceil(SECTOR));
        }
        let was_zero = |sector: usize| {
            list.chunks_exact(8).any(|run| {
                let (first, sectors) = (u64::from(u32_at(run, 0)), u64::from(u32_at(run, 4)));
                (first..first + sectors).contains(&(sector as u64))
            })
        };
        (batch / SECTOR..at / SECTOR)
            .any(|sector| self.is_unwritten(batch, sector) && !was_zero(sector))
    }

    /// Whether a sector was not written of a batch that has no trailer: whoever goes from header to
    /// header then comes to one.
    fn lacks_a_sector_of_next(&self, batch: usize) -> bool {
        let mut at = self.offset;
        while !self.is_unwritten(batch, at / SECTOR) {
            match self.frame_at(at) {
                Some(frame) if frame.ordinal == self.position.ordinal + 1 => at = frame.end,
                // A sector holds what was written or zeros, and this one does neither.
                _ => return false,
            }
        }
        true
    }

    fn lacks_any(&self, batch: usize, mut sectors: Range<usize>) -> bool {
        sectors.any(|sector| self.is_unwritten(batch, sector))
    }

    /// Whether the part of the sector that belongs to the batch, or follows it, is as it was
    /// before the batch was written.
    fn is_unwritten(&self, batch: usize, sector: usize) -> bool {
        let end = ((sector + 1) * SECTOR).min(self.segment.len());
        self.segment.get(batch.max(sector * SECTOR)..end).is_some_and(is_zero)
    }

    /// The frame whose header stands at this place and is what was written.
    fn frame_at(&self, at: usize) -> Option<FrameHeader> {
        let header = self.segment.get(at..at + FRAME_BYTES)?;
        let kind = header[4];
        // The kind first: most of what is looked at is not written yet.
        if !matches!(kind, KIND_RECORD | KIND_TRAILER)
            || u32_at(header, 28) != crc32c::crc32c_append(self.seed, &header[..28])
        {
            return None;
        }
        let length = usize::try_from(u32_at(header, 0)).ok()?;
        let end = (at + FRAME_BYTES).checked_add(length)?.checked_next_multiple_of(ALIGNMENT)?;
        let fits = end <= self.segment.len();
        fits.then(|| FrameHeader { kind, length, end, ordinal: u64_at(header, 16) })
    }
}

struct FrameHeader {
    kind: u8,
    length: usize,
    /// Where the frame ends.
    end: usize,
    ordinal: u64,
}

/// The chain over a frame: of its header, all but the two checksums of headers.
fn chain(before: u32, header: &[u8], payload: &[u8]) -> u32 {
    let chain = crc32c::crc32c_append(before, &header[0..12]);
    let chain = crc32c::crc32c_append(chain, &header[16..28]);
    crc32c::crc32c_append(chain, payload)
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    let bytes = bytes[offset..offset + 4].try_into().expect("four bytes were cut out");
    u32::from_le_bytes(bytes)
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    let bytes = bytes[offset..offset + 8].try_into().expect("eight bytes were cut out");
    u64::from_le_bytes(bytes)
}
