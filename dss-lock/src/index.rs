//! Where the entry of a name is: a hash table from names to slots.
//!
//! Its order shows nowhere, so it need not be the same on all replicas, and each may hash with a
//! seed of its own: names are chosen by clients, who could otherwise choose such as collide.

use crate::slab::Id;

/// Finds entries of a slab by the hash of what names them.
///
/// Open addressing with linear probing; what is removed closes the gap, so that a table that
/// shrinks is as good as new.
#[derive(Debug, Clone)]
pub(crate) struct HashIndex<T> {
    /// As many as a power of two, or none.
    cells: Vec<Cell<T>>,
    len: usize,
}

#[derive(Debug)]
struct Cell<T> {
    hash: u32,
    id: Option<Id<T>>,
}

impl<T> Clone for Cell<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Cell<T> {}

impl<T> Default for HashIndex<T> {
    fn default() -> Self {
        Self { cells: Vec::new(), len: 0 }
    }
}

/// The half of the hash that is kept.
fn kept(hash: u64) -> u32 {
    (hash >> 32) as u32
}

impl<T> HashIndex<T> {
    fn mask(&self) -> usize {
        self.cells.len().wrapping_sub(1)
    }

    /// The entry with this hash of which `is` says that it is the one.
    pub(crate) fn find(&self, hash: u64, mut is: impl FnMut(Id<T>) -> bool) -> Option<Id<T>> {
        if self.cells.is_empty() {
            return None;
        }
        let hash = kept(hash);
        let mut place = hash as usize & self.mask();
        loop {
            let cell = self.cells[place];
            let id = cell.id?;
            if cell.hash == hash && is(id) {
                return Some(id);
            }
            place = (place + 1) & self.mask();
        }
    }

    /// Adds an entry that is not in it.
    pub(crate) fn insert(&mut self, hash: u64, id: Id<T>) {
        // At most half full: an empty cell ends every search, and soon.
        if (self.len + 1) * 2 > self.cells.len() {
            self.grow();
        }
        self.len += 1;
        self.place(Cell { hash: kept(hash), id: Some(id) });
    }

    fn place(&mut self, cell: Cell<T>) {
        let mut place = cell.hash as usize & self.mask();
        while self.cells[place].id.is_some() {
            place = (place + 1) & self.mask();
        }
        self.cells[place] = cell;
    }

    fn grow(&mut self) {
        let cells = vec![Cell { hash: 0, id: None }; (self.cells.len() * 2).max(16)];
        for cell in std::mem::replace(&mut self.cells, cells) {
            if cell.id.is_some() {
                self.place(cell);
            }
        }
    }

    /// Removes an entry that is in it.
    pub(crate) fn remove(&mut self, hash: u64, id: Id<T>) {
        let mask = self.mask();
        let mut gap = kept(hash) as usize & mask;
        while self.cells[gap].id != Some(id) {
            assert!(self.cells[gap].id.is_some(), "only what is in the index is removed");
            gap = (gap + 1) & mask;
        }
        // Whatever was pushed past the gap by what stood there moves up.
        let mut next = (gap + 1) & mask;
        while self.cells[next].id.is_some() {
            let home = self.cells[next].hash as usize & mask;
            let from_home = next.wrapping_sub(home) & mask;
            let from_gap = next.wrapping_sub(gap) & mask;
            if from_home >= from_gap {
                self.cells[gap] = self.cells[next];
                gap = next;
            }
            next = (next + 1) & mask;
        }
        self.cells[gap].id = None;
        self.len -= 1;
    }

    /// How many entries are in it.
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::slab::Slab;

    /// Few distinct hashes, so that runs of collisions form, wrap around and close again.
    #[test]
    fn what_is_in_it_is_found_and_nothing_else() {
        let mut slab = Slab::default();
        let mut index = HashIndex::default();
        let mut model = BTreeMap::new();
        let mut random = 7_u64;
        for _ in 0..20_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let key = (random >> 40) % 60;
            let hash = (key % 11).wrapping_mul(0x7fff_ffff) << 32;
            let found = index.find(hash, |id| slab[id] == key);
            assert_eq!(found, model.get(&key).copied());
            if let Some(id) = found {
                index.remove(hash, id);
                slab.remove(id);
                model.remove(&key);
            } else {
                let id = slab.insert_with(|| key);
                index.insert(hash, id);
                model.insert(key, id);
            }
            assert_eq!(index.len(), model.len());
        }
    }
}
