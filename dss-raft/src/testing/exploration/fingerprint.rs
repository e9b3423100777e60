//! Short names of states.

use std::hash::{Hash, Hasher};

use crate::core::Random;

/// A hash of 64 bits: with thirty million states, two of them share one in one of 40,000 runs.
pub(super) fn fingerprint(what: &impl Hash) -> u64 {
    let mut hasher = Fingerprint::default();
    what.hash(&mut hasher);
    hasher.finish()
}

/// SplitMix64's finaliser, which is its first number, over one word after the other.
#[derive(Debug, Default)]
pub(super) struct Fingerprint(u64);

fn mix(word: u64) -> u64 {
    Random::new(word).next()
}

impl Hasher for Fingerprint {
    fn finish(&self) -> u64 {
        mix(self.0)
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, word: u8) {
        self.write_u64(u64::from(word));
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = mix(self.0.rotate_left(23) ^ word);
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }
}
