//! Whatever a peer says, in whatever order: a node obeys, answers or ignores it, and never panics.
#![no_main]

use std::time::Duration;

use bytes::Bytes;
use dss_raft::{
    Config, Configuration, Envelope, LogIndex, NodeId, Output, PersistSeq, Raft, Restored,
    Timestamp,
};
use libfuzzer_sys::fuzz_target;

// The input is a sequence of steps: a kind, a length, and as many bytes.
fuzz_target!(|input: &[u8]| {
    let members = Configuration::of_voters([1, 2, 3].map(NodeId::new));
    let config = Config::new(NodeId::new(1), 1).compaction(3, 1 << 20);
    let mut raft = Raft::new(config, members, Restored::default(), Timestamp::ZERO)
        .expect("nothing is consistent");
    let mut now = Timestamp::ZERO;
    let mut written = PersistSeq::ZERO;
    let mut rest = input;
    while let [kind, length, tail @ ..] = rest {
        let (step, later) = tail.split_at(usize::from(*length).min(tail.len()));
        rest = later;
        match kind % 8 {
            0..=2 => {
                if let Ok(Envelope::Message { message, .. }) =
                    Envelope::decode(Bytes::copy_from_slice(step))
                {
                    raft.handle_message(now, NodeId::new(u64::from(kind / 8 % 5)), message);
                }
            }
            3 => {
                now = now + Duration::from_millis(u64::from(*length) * 20);
                raft.handle_timeout(now);
            }
            4 => {
                // Being refused is fine.
                let _ = raft.propose(now, Bytes::copy_from_slice(step));
            }
            5 => raft.handle_persisted(now, written),
            6 => {
                let _ = raft.read(now);
            }
            _ => {
                let expected = raft.status().configuration;
                let target = Configuration::of_voters(step.iter().map(|b| NodeId::new((*b).into())));
                let _ = raft.change(now, &expected, target);
            }
        }
        while let Some(output) = raft.poll_output() {
            match output {
                Output::Persist(persist) => written = persist.seq,
                Output::Apply(entries) => {
                    raft.handle_applied(now, entries.last_index().unwrap_or(LogIndex::ZERO));
                }
                Output::TakeSnapshot { index } => {
                    raft.handle_snapshot_taken(now, index, Bytes::new());
                }
                _ => {}
            }
        }
    }
});
