//! What a peer sends is decoded or refused, and what is decoded is encoded as it was.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Ok(envelope) = dss_raft::Envelope::decode(Bytes::copy_from_slice(input)) {
        assert_eq!(&envelope.encode()[..], input);
    }
});
