//! How a write looks in Redis.

use bytes::Bytes;
use dss_mesi::{Epoch, Stored, Version};

/// The length of a version: three big-endian numbers, so that bytes compare as versions do.
const VERSION: usize = 24;
const VALUE: u8 = b'v';
const TOMBSTONE: u8 = b't';

/// The bytes that stand for a write.
pub(super) fn encode(version: Version, value: Option<&[u8]>) -> Vec<u8> {
    let mut record = Vec::with_capacity(VERSION + 1 + value.map_or(0, <[u8]>::len));
    for number in [version.epoch.get(), version.grant, version.write] {
        record.extend_from_slice(&number.to_be_bytes());
    }
    match value {
        Some(value) => {
            record.push(VALUE);
            record.extend_from_slice(value);
        }
        None => record.push(TOMBSTONE),
    }
    record
}

/// The write that these bytes stand for, if any.
pub(super) fn decode(record: Vec<u8>) -> Option<Stored> {
    let version = decode_version(record.get(..VERSION)?)?;
    let value = match record.get(VERSION..)? {
        [VALUE, ..] => Some(Bytes::from(record).slice(VERSION + 1..)),
        [TOMBSTONE] => None,
        _ => return None,
    };
    Some(Stored { version, value })
}

/// The version that these bytes stand for, if any.
pub(super) fn decode_version(bytes: &[u8]) -> Option<Version> {
    let (numbers, []) = bytes.as_chunks::<8>() else { return None };
    let &[epoch, grant, write] = numbers else { return None };
    let [epoch, grant, write] = [epoch, grant, write].map(u64::from_be_bytes);
    Some(Version { epoch: Epoch::new(epoch), grant, write })
}

/// An epoch as text that compares as epochs do.
pub(super) fn encode_epoch(epoch: Epoch) -> String {
    format!("{:020}", epoch.get())
}

/// The epoch that this text stands for, if any.
pub(super) fn decode_epoch(text: &[u8]) -> Option<Epoch> {
    std::str::from_utf8(text).ok()?.parse().ok().map(Epoch::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_and_its_bytes_are_ordered_as_versions() {
        let mut former: Option<Vec<u8>> = None;
        for (epoch, grant, write) in
            [(0, 0, 1), (0, 255, 1), (0, 256, 0), (1, 0, 0), (1, 0, u64::MAX), (u64::MAX, 1, 1)]
        {
            let version = Version { epoch: Epoch::new(epoch), grant, write };
            for value in [None, Some(&b""[..]), Some(b"\0\xffv")] {
                let record = encode(version, value);
                let stored = Stored { version, value: value.map(Bytes::copy_from_slice) };
                assert_eq!(decode(record.clone()), Some(stored));
                assert_eq!(decode_version(&record[..VERSION]), Some(version));
                assert!(
                    former.as_ref().is_none_or(|former| former[..VERSION] <= record[..VERSION])
                );
                former = Some(record);
            }
            assert_eq!(decode_epoch(encode_epoch(version.epoch).as_bytes()), Some(version.epoch));
        }
    }

    #[test]
    fn other_bytes_are_no_record() {
        let version = Version { epoch: Epoch::new(1), grant: 2, write: 3 };
        let record = encode(version, None);
        for bytes in [&b""[..], b"x", &record[..VERSION], &[&record[..], b"x"].concat()] {
            assert_eq!(decode(bytes.to_vec()), None);
        }
        assert_eq!(decode_version(&record), None);
        assert_eq!(decode_epoch(b"x"), None);
    }
}
