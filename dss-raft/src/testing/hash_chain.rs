//! A state machine that remembers everything in eight bytes.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::workload::{Broken, Workload};
use crate::ports::{RestoreError, StateMachine};
use crate::types::LogIndex;

/// A chain of hashes over every command and its index: two machines are equal if and only if they
/// have applied the same commands at the same places.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HashChain {
    length: u64,
    hash: u64,
}

impl HashChain {
    /// How many commands were applied.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }
}

impl StateMachine for HashChain {
    type Reply = u64;

    fn apply(&mut self, index: LogIndex, command: &Bytes) -> u64 {
        /// The multiplier of FNV-1a, which this is.
        const PRIME: u64 = 0x0000_0100_0000_01b3;
        for byte in index.get().to_le_bytes().iter().chain(command) {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(PRIME);
        }
        self.length += 1;
        self.length
    }

    fn snapshot(&self) -> Bytes {
        [self.length.to_le_bytes(), self.hash.to_le_bytes()].concat().into()
    }

    fn restore(&mut self, snapshot: &Bytes) -> Result<(), RestoreError> {
        let number = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes);
        let halves = snapshot.split_at_checked(8).map(|(one, two)| (number(one), number(two)));
        let Some((Ok(length), Ok(hash))) = halves else {
            return Err(RestoreError { problem: "it must have 16 bytes" });
        };
        *self = Self { length, hash };
        Ok(())
    }
}

/// Random commands for a [`HashChain`].
#[derive(Debug, Clone, Default)]
pub struct HashChainWorkload {
    replies: BTreeSet<u64>,
}

impl Workload for HashChainWorkload {
    type Machine = HashChain;

    fn machine(&mut self) -> HashChain {
        HashChain::default()
    }

    fn command(&mut self, random: u64) -> Bytes {
        let bytes = random.to_le_bytes();
        // From 0 to 64 bytes, so that limits by weight are met at different counts.
        bytes.repeat(usize::from(bytes[0] % 9)).into()
    }

    fn acknowledged(&mut self, _: &Bytes, length: u64) -> Result<(), Broken> {
        if self.replies.insert(length) {
            return Ok(());
        }
        Err(Broken("two acknowledged commands have the same place"))
    }
}
