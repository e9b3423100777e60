//! How one line lies in memory.

use bytes::Bytes;

use super::lines::Line;
use super::numbers::Numbers;
use crate::line::LineState;

/// A line, packed: a cache may hold millions, and a hit reads one line of the processor's cache.
///
/// Key and value lie in one piece of memory of exactly their size, so that a line keeps alive no
/// larger buffer that a client or the network has cut them from.
#[derive(Debug, Clone)]
#[repr(align(64))]
pub(super) struct Slot {
    data: Bytes,
    /// Seq and version; `None` where they are too large for a slot, and kept elsewhere.
    numbers: Option<Numbers>,
    key_length: u32,
    /// The sweep after which it came.
    born: u8,
    state: LineState,
    has_value: bool,
    used: bool,
}

impl Slot {
    pub(super) fn new(key: &[u8], line: &Line, born: u8) -> Self {
        Self {
            data: pack(key, line.value.as_ref()),
            numbers: Numbers::new(line.seq, line.version),
            key_length: u32::try_from(key.len()).expect("a key is shorter than 4 GiB"),
            born,
            state: line.state,
            has_value: line.value.is_some(),
            used: false,
        }
    }

    /// Takes everything over from the line.
    pub(super) fn set(&mut self, key: &[u8], line: &Line) {
        if self.value().as_ref() != line.value.as_ref() {
            self.data = pack(key, line.value.as_ref());
        }
        self.numbers = Numbers::new(line.seq, line.version);
        self.state = line.state;
        self.has_value = line.value.is_some();
    }

    #[inline]
    pub(super) fn is_of(&self, key: &[u8]) -> bool {
        self.key() == key
    }

    pub(super) fn key(&self) -> &[u8] {
        &self.data[..self.key_length as usize]
    }

    /// A copy of the key that does not keep the value alive.
    pub(super) fn key_bytes(&self) -> Bytes {
        Bytes::copy_from_slice(self.key())
    }

    #[inline]
    pub(super) fn value(&self) -> Option<Bytes> {
        self.has_value.then(|| self.data.slice(self.key_length as usize..))
    }

    pub(super) const fn numbers(&self) -> Option<&Numbers> {
        self.numbers.as_ref()
    }

    pub(super) const fn state(&self) -> LineState {
        self.state
    }

    /// How many bytes key and value have.
    pub(super) const fn bytes(&self) -> usize {
        self.data.len()
    }

    pub(super) const fn born(&self) -> u8 {
        self.born
    }

    #[inline]
    pub(super) const fn touch(&mut self) {
        // What is set already is not set again: that would take the line of the processor's cache
        // away from others.
        if !self.used {
            self.used = true;
        }
    }

    /// Whether it was not used since this was asked last.
    pub(super) const fn had_chance(&mut self) -> bool {
        !std::mem::replace(&mut self.used, false)
    }
}

/// Bytes that lie beside the count of their copies, in one allocation.
struct Piece<const LENGTH: usize>([u8; LENGTH]);

impl<const LENGTH: usize> AsRef<[u8]> for Piece<LENGTH> {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

fn piece<const LENGTH: usize>(key: &[u8], value: &[u8]) -> Bytes {
    let mut piece = [0; LENGTH];
    let (to_key, to_value) = piece.split_at_mut(key.len());
    to_key.copy_from_slice(key);
    to_value[..value.len()].copy_from_slice(value);
    let mut data = Bytes::from_owner(Piece(piece));
    data.truncate(key.len() + value.len());
    data
}

/// Key and value in one piece of memory. Of short ones the count of copies is in it, so that a read
/// finds everything in one place: in steps of 16 bytes, as allocators give memory out anyway. Of long
/// ones it is kept apart, in 32 bytes more.
fn pack(key: &[u8], value: Option<&Bytes>) -> Bytes {
    let value = value.map_or(&[][..], |value| &value[..]);
    match (key.len() + value.len()).div_ceil(16) {
        0..=1 => piece::<16>(key, value),
        2 => piece::<32>(key, value),
        3 => piece::<48>(key, value),
        4 => piece::<64>(key, value),
        5 => piece::<80>(key, value),
        6 => piece::<96>(key, value),
        7 => piece::<112>(key, value),
        8 => piece::<128>(key, value),
        9 => piece::<144>(key, value),
        10 => piece::<160>(key, value),
        11 => piece::<176>(key, value),
        12 => piece::<192>(key, value),
        13 => piece::<208>(key, value),
        14 => piece::<224>(key, value),
        15 => piece::<240>(key, value),
        16 => piece::<256>(key, value),
        _ => Bytes::from_owner([key, value].concat().into_boxed_slice()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::Seq;

    #[test]
    fn a_slot_is_small() {
        assert_eq!(size_of::<Option<Slot>>(), 64);
    }

    #[test]
    fn the_empty_value_is_a_value() {
        let line = |value: Option<Bytes>| Line {
            state: LineState::Shared,
            seq: Seq::default(),
            version: None,
            value,
            through: None,
        };
        for value in [None, Some(Bytes::new()), Some("v".into())] {
            let mut slot = Slot::new(b"k", &line(None), 0);
            slot.set(b"k", &line(value.clone()));
            assert_eq!((slot.key(), slot.value()), (&b"k"[..], value));
        }
    }

    #[test]
    fn keys_and_values_of_any_length_are_kept() {
        for (key, value) in (0..40).flat_map(|key| (0..260).map(move |value| (key, value))) {
            let value = Bytes::from(vec![b'v'; value]);
            let data = pack(&vec![b'k'; key], Some(&value));
            assert_eq!((data.len(), &data[key..]), (key + value.len(), &value[..]));
            assert!(data[..key].iter().all(|byte| *byte == b'k'));
        }
    }
}
