//! What a record of the log says is decoded or refused, and what is decoded is encoded as it was.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| dss_raft::fuzzing::record(input));
