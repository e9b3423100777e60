//! Short names of states.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use crate::placement::mix;

/// A hash of 64 bits: with ten million states, two of them share one in one of 400,000 runs.
pub(super) fn fingerprint(what: &impl Hash) -> u64 {
    let mut hasher = Fingerprint(0);
    what.hash(&mut hasher);
    hasher.finish()
}

struct Fingerprint(u64);

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

/// Values by number, each once: what their hash leaves out does not tell them apart.
#[derive(Debug)]
pub(super) struct Interned<T> {
    values: Vec<T>,
    numbers: BTreeMap<u64, u32>,
}

impl<T: Hash> Interned<T> {
    pub(super) const fn new() -> Self {
        Self { values: Vec::new(), numbers: BTreeMap::new() }
    }

    pub(super) fn number(&mut self, value: T) -> u32 {
        let next = u32::try_from(self.values.len()).unwrap();
        let number = *self.numbers.entry(fingerprint(&value)).or_insert(next);
        if number == next {
            self.values.push(value);
        }
        number
    }

    pub(super) fn get(&self, number: u32) -> &T {
        &self.values[number as usize]
    }
}
