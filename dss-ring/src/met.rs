//! A set of numbers that is usually tiny.

use alloc::vec;
use alloc::vec::Vec;

/// How many numbers are remembered in place; from the next one on in a bit set on the heap. Sixteen
/// is beyond any number of replicas, and comparing sixteen half-words costs next to nothing.
const IN_PLACE: usize = 16;

/// The nodes, or the zones, met so far.
#[derive(Clone)]
pub(crate) enum Met {
    InPlace { numbers: [u16; IN_PLACE], count: usize },
    Bits { words: Vec<u64>, count: usize },
}

impl Met {
    pub(crate) const fn new() -> Self {
        Self::InPlace { numbers: [0; IN_PLACE], count: 0 }
    }

    pub(crate) fn count(&self) -> usize {
        match self {
            Self::InPlace { count, .. } | Self::Bits { count, .. } => *count,
        }
    }

    pub(crate) fn contains(&self, number: u16) -> bool {
        match self {
            Self::InPlace { numbers, count } => numbers[..*count].contains(&number),
            Self::Bits { words, .. } => words[usize::from(number) / 64] & bit(number) != 0,
        }
    }

    /// Whether this number, which is below `limit`, is met for the first time.
    pub(crate) fn insert(&mut self, number: u16, limit: usize) -> bool {
        if self.contains(number) {
            return false;
        }
        match self {
            Self::InPlace { numbers, count } => {
                if let Some(free) = numbers.get_mut(*count) {
                    *free = number;
                    *count += 1;
                } else {
                    let mut words = vec![0; limit.div_ceil(64)];
                    for met in numbers.iter().chain([&number]) {
                        words[usize::from(*met) / 64] |= bit(*met);
                    }
                    *self = Self::Bits { words, count: *count + 1 };
                }
            }
            Self::Bits { words, count } => {
                words[usize::from(number) / 64] |= bit(number);
                *count += 1;
            }
        }
        true
    }
}

/// The bit of this number in its word.
const fn bit(number: u16) -> u64 {
    1 << (number % 64)
}
