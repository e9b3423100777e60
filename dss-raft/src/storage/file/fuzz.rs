//! A segment as a fuzzer describes it.

use super::frame::{BatchWriter, Frame, FrameReader, Header, Position, Tail};
use crate::codec::Record;
use crate::types::{GroupId, LogIndex};

const CAPACITY: usize = 4096;

/// The input is a list of instructions, each of three bytes: to write a batch of some records, or
/// to change a byte.
pub(crate) fn fuzz_segment(input: &[u8]) {
    let header = Header {
        number: 1,
        capacity: CAPACITY as u64,
        previous: Position { ordinal: 0, chain: 0 },
    };
    let mut segment = header.encode().to_vec();
    let (mut position, mut written, mut changes) = (header.start(), Vec::new(), Vec::new());
    for instruction in input.chunks_exact(3) {
        let place = usize::from(u16::from_le_bytes([instruction[1], instruction[2]]));
        if instruction[0] < 128 && segment.len() < CAPACITY / 2 {
            let seed = header.seed();
            let mut batch = BatchWriter::new(&mut segment, 0, seed, position);
            for record in 0..instruction[0] % 8 {
                let record = Record::Compact(LogIndex::new(u64::from(record) + place as u64));
                batch.record(GroupId::new(instruction[0].into()), &record);
                written.push(record);
            }
            position = batch.finish();
        } else {
            changes.push((place % CAPACITY, instruction[0]));
        }
    }
    let end = segment.len();
    segment.resize(CAPACITY, 0);
    for (place, change) in &changes {
        segment[*place] ^= change;
    }
    let Ok(found) = Header::decode(&segment) else { return };
    assert_eq!(found, header);
    let (mut frames, mut batch) = (FrameReader::new(&segment, &found), 0);
    let mut records = written.iter();
    let mut complete = super::frame::HEADER_BYTES;
    while let Some(frame) = frames.next() {
        match frame {
            Frame::Record(_, payload) => {
                let record = Record::decode(payload).expect("its checksum is right");
                assert_eq!(Some(&record), records.next(), "it was written there");
            }
            Frame::Trailer => {
                batch += 1;
                complete = frames.offset();
            }
        }
    }
    assert_eq!(frames.position().ordinal, batch);
    let tail = frames.tail(complete);
    if changes.is_empty() {
        assert!(complete == end && matches!(tail, Tail::Clean));
    }
    if let Tail::Torn(torn) = tail {
        assert!(torn.start == complete && torn.end <= CAPACITY);
    }
}
