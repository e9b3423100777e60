//! What a cache or a home sends is decoded or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Ok(message) = dss_mesi::Message::decode(input) {
        assert_eq!(dss_mesi::Message::decode(&message.encode()).as_ref(), Ok(&message));
    }
});
