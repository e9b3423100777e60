//! How bad a run is.

use std::time::Duration;

use super::PlantedBug;
use crate::core::Random;

/// What happens in a run. Everything else follows from the seed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// What all randomness of the run comes from.
    pub seed: u64,
    /// How many nodes there are.
    pub nodes: usize,
    /// How many of them are voters at first.
    pub voters: usize,
    /// How long a node waits for its leader, at least; heartbeats come ten times as often.
    pub election_timeout: Duration,
    /// How long faults go on, in virtual time.
    pub duration: Duration,
    /// How many commands and reads the clients issue meanwhile.
    pub operations: u64,
    /// How many of a thousand operations are reads.
    pub read_permille: u64,
    /// How many registers clients read and write, of each kind: those that are written by anyone, and
    /// those that are written in sessions. With few, more of what is read is contended.
    pub registers: u64,
    /// How many commands a client proposes at once, at most.
    pub burst_max: u64,
    /// How many of a thousand messages are lost.
    pub loss_permille: u64,
    /// How many of a thousand messages arrive twice.
    pub duplicate_permille: u64,
    /// How long a message takes at most; each one takes a different time, so they overtake.
    pub delay_max: Duration,
    /// How long a sync takes at most.
    pub sync_max: Duration,
    /// How long applying a batch takes at most.
    pub apply_max: Duration,
    /// How long a node may gather inputs before it polls its outputs.
    pub linger_max: Duration,
    /// The mean time between two crashes (of one node or all, or of a disk); zero for none.
    pub crash_every: Duration,
    /// How many of a thousand new leaders crash or fall silent within a few messages' time, with
    /// what they have begun to replicate.
    pub depose_permille: u64,
    /// The mean time between two partitions (of groups, of one node, one way); zero for none.
    pub partition_every: Duration,
    /// The mean time between two spells of a slow disk; zero for none.
    pub slow_disk_every: Duration,
    /// The mean time between two pauses of a node, in which it does nothing while time passes; zero
    /// for none.
    pub pause_every: Duration,
    /// The mean time between two transfers of leadership; zero for none.
    pub transfer_every: Duration,
    /// The mean time between two changes of the members; zero for none.
    pub change_every: Duration,
    /// Whether one node may come back without its storage. At most one does, since a second one
    /// in a group of three is more than a group survives.
    pub wipes: bool,
    /// Whether leaders answer reads by their lease; clocks then differ by no more than it allows.
    pub lease_reads: bool,
    /// Whether nodes differ in priority.
    pub priorities: bool,
    /// How many millionths a node's clock is too fast or slow, at most.
    pub clock_drift_ppm: u64,
    /// After how many applied entries a snapshot is taken.
    pub compact_after_entries: u64,
    /// After how many bytes of applied entries a snapshot is taken.
    pub compact_after_bytes: usize,
    /// In parts of how many bytes a snapshot is fetched.
    pub snapshot_part_bytes: usize,
    /// How much an append holds.
    pub append_bytes_max: usize,
    /// How many appends may be unanswered.
    pub in_flight_messages_max: usize,
    /// How many bytes of appends may be unanswered.
    pub in_flight_bytes_max: usize,
    /// How many bytes of proposals may wait to be committed.
    pub uncommitted_bytes_max: usize,
    /// A bug to be found.
    pub planted_bug: Option<PlantedBug>,
}

impl Options {
    /// A run that is bad in ways that the seed chooses: three or five nodes, and any mixture of
    /// faults, each mild, severe or absent.
    #[must_use]
    pub fn swarm(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x5eed);
        let mut pick = |choices: &[u64]| {
            let position = random.below(choices.len() as u64);
            choices[usize::try_from(position).unwrap_or(0)]
        };
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let millis = Duration::from_millis;
        let nodes = size(pick(&[3, 3, 4, 5]));
        let voters = nodes.min(size(pick(&[3, 3, 5])));
        Self {
            seed,
            nodes,
            voters,
            election_timeout: millis(pick(&[200, 200, 1_000])),
            duration: millis(30_000),
            operations: pick(&[300, 500, 1_000]),
            read_permille: pick(&[100, 300, 500]),
            registers: pick(&[1, 2, 5]),
            burst_max: pick(&[1, 3, 20]),
            loss_permille: pick(&[0, 10, 50, 200]),
            duplicate_permille: pick(&[0, 10, 100]),
            delay_max: millis(pick(&[1, 10, 50, 200])),
            sync_max: Duration::from_micros(pick(&[200, 5_000, 50_000, 200_000])),
            apply_max: millis(pick(&[0, 0, 5, 50])),
            linger_max: millis(pick(&[0, 0, 2])),
            crash_every: millis(pick(&[0, 1_000, 2_000, 5_000])),
            depose_permille: pick(&[0, 500, 900]),
            partition_every: millis(pick(&[0, 2_000, 4_000, 8_000])),
            slow_disk_every: millis(pick(&[0, 0, 5_000])),
            pause_every: millis(pick(&[0, 0, 2_000])),
            transfer_every: millis(pick(&[0, 0, 3_000])),
            change_every: millis(pick(&[0, 1_000, 3_000])),
            wipes: pick(&[0, 0, 1]) == 1,
            lease_reads: pick(&[0, 1]) == 1,
            priorities: pick(&[0, 1]) == 1,
            clock_drift_ppm: pick(&[0, 1_000, 50_000]),
            compact_after_entries: pick(&[5, 20, 100, 10_000]),
            append_bytes_max: size(pick(&[1, 1, 200, 1 << 20])),
            in_flight_messages_max: size(pick(&[1, 2, 16])),
            in_flight_bytes_max: size(pick(&[1, 300, 8 << 20])),
            snapshot_part_bytes: size(pick(&[30, 200, 1 << 20])),
            uncommitted_bytes_max: size(pick(&[500, 64 << 20, 64 << 20])),
            compact_after_bytes: size(pick(&[1_000, 32 << 20, 32 << 20])),
            planted_bug: None,
        }
    }

    /// The same run with a bug switched on.
    #[must_use]
    pub fn with_bug(mut self, bug: PlantedBug) -> Self {
        self.planted_bug = Some(bug);
        self
    }
}
