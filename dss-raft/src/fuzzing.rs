//! What the fuzz targets reach of the inside: only there with `--cfg fuzzing`.

use bytes::Bytes;

/// Decodes a record of the log: an error, or what is encoded as it was.
pub fn record(input: &[u8]) {
    if let Ok(record) = crate::codec::Record::decode(Bytes::copy_from_slice(input)) {
        let mut again = Vec::new();
        record.encode(&mut again);
        assert_eq!(again, input);
        assert!(again.len() <= record.bytes_max());
    }
}

/// Reads a segment that the input describes: records, and bytes of the segment to change. What is
/// read in front of the first change is what was written.
#[cfg(feature = "tokio")]
pub fn segment(input: &[u8]) {
    crate::storage::fuzz_segment(input);
}
