//! A segment of the log with any bytes changed gives back what was written in front of them, or less.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| dss_raft::fuzzing::segment(input));
