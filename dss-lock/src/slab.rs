//! Entries that are named by small numbers, and lists that run through them.
//!
//! What the table knows is full of references both ways: a lock to its holders, an owner to what
//! it holds, a waiter to those before and behind it. As numbers of slots these cost four bytes
//! and no search. Which slot an entry has is nobody's business: it differs between replicas, so
//! nothing that is seen or stored may depend on it.

use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroU32;
use std::ops;

/// The slot of an entry of type `T`.
pub(crate) struct Id<T> {
    /// The first slot of a slab is never used, so that `Option<Id>` is four bytes too.
    slot: NonZeroU32,
    of: PhantomData<fn() -> T>,
}

impl<T> Id<T> {
    fn at(place: usize) -> Self {
        let slot = u32::try_from(place).ok().and_then(NonZeroU32::new);
        let slot = slot.expect("the limits keep every slab far below 2^32 entries");
        Self { slot, of: PhantomData }
    }

    fn place(self) -> usize {
        self.slot.get() as usize
    }

    /// The bare number, to hash.
    pub(crate) fn number(self) -> u32 {
        self.slot.get()
    }
}

impl<T> Clone for Id<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Id<T> {}

impl<T> PartialEq for Id<T> {
    fn eq(&self, other: &Self) -> bool {
        self.slot == other.slot
    }
}

impl<T> Eq for Id<T> {}

impl<T> PartialOrd for Id<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Id<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.slot.cmp(&other.slot)
    }
}

impl<T> fmt::Debug for Id<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "#{}", self.slot)
    }
}

/// Entries in slots, which are used again.
#[derive(Debug, Clone)]
pub(crate) struct Slab<T> {
    slots: Vec<Slot<T>>,
    free: Option<Id<T>>,
    len: usize,
}

#[derive(Debug, Clone)]
enum Slot<T> {
    Used(T),
    Free { next: Option<Id<T>> },
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { slots: vec![Slot::Free { next: None }], free: None, len: 0 }
    }
}

impl<T> Slab<T> {
    /// Adds an entry, which is made where it will be: most are too large to be moved for nothing.
    #[inline]
    pub(crate) fn insert_with(&mut self, entry: impl FnOnce() -> T) -> Id<T> {
        self.len += 1;
        let Some(id) = self.free else {
            self.slots.push(Slot::Used(entry()));
            return Id::at(self.slots.len() - 1);
        };
        let slot = &mut self.slots[id.place()];
        let Slot::Free { next } = *slot else { leads_nowhere(id) };
        self.free = next;
        *slot = Slot::Used(entry());
        id
    }

    /// Drops an entry where it is: most are too large to be handed out for nothing.
    pub(crate) fn remove(&mut self, id: Id<T>) {
        let slot = &mut self.slots[id.place()];
        assert!(matches!(slot, Slot::Used(_)), "only what is in a slab is removed");
        *slot = Slot::Free { next: self.free };
        self.free = Some(id);
        self.len -= 1;
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Every entry, in an order that means nothing.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Id<T>, &T)> {
        self.slots.iter().enumerate().filter_map(|(place, slot)| match slot {
            Slot::Used(entry) => Some((Id::at(place), entry)),
            Slot::Free { .. } => None,
        })
    }
}

impl<T> ops::Index<Id<T>> for Slab<T> {
    type Output = T;

    fn index(&self, id: Id<T>) -> &T {
        match self.slots.get(id.place()) {
            Some(Slot::Used(entry)) => entry,
            _ => leads_nowhere(id),
        }
    }
}

impl<T> ops::IndexMut<Id<T>> for Slab<T> {
    fn index_mut(&mut self, id: Id<T>) -> &mut T {
        match self.slots.get_mut(id.place()) {
            Some(Slot::Used(entry)) => entry,
            _ => leads_nowhere(id),
        }
    }
}

/// What belongs to each entry of a slab, and is looked at apart from it, by many at once: close
/// together, it is mostly at hand.
#[derive(Debug, Clone)]
pub(crate) struct Beside<T, V> {
    values: Vec<V>,
    of: PhantomData<fn() -> T>,
}

impl<T, V> Default for Beside<T, V> {
    fn default() -> Self {
        Self { values: Vec::new(), of: PhantomData }
    }
}

impl<T, V: Default> Beside<T, V> {
    /// Makes room for what belongs to a new entry. Where there was an entry in its slot before, it
    /// finds what that one has left behind.
    #[inline]
    pub(crate) fn make_room(&mut self, id: Id<T>) {
        if id.place() >= self.values.len() {
            self.values.resize_with(id.place() + 1, V::default);
        }
    }
}

impl<T, V> ops::Index<Id<T>> for Beside<T, V> {
    type Output = V;

    fn index(&self, id: Id<T>) -> &V {
        &self.values[id.place()]
    }
}

impl<T, V> ops::IndexMut<Id<T>> for Beside<T, V> {
    fn index_mut(&mut self, id: Id<T>) -> &mut V {
        &mut self.values[id.place()]
    }
}

/// Apart, since each use of an entry would otherwise keep its number at hand to be printed.
#[cold]
#[inline(never)]
fn leads_nowhere<T>(id: Id<T>) -> ! {
    unreachable!("{id:?} leads nowhere")
}

/// A doubly linked list through the entries of a slab; an entry has a [`Links`] for each list that
/// it can be in, which the operations are told.
pub(crate) struct List<T> {
    pub(crate) first: Option<Id<T>>,
    pub(crate) last: Option<Id<T>>,
    pub(crate) len: u32,
}

/// The neighbours of an entry in one list.
pub(crate) struct Links<T> {
    pub(crate) before: Option<Id<T>>,
    pub(crate) behind: Option<Id<T>>,
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self { first: None, last: None, len: 0 }
    }
}

impl<T> Clone for List<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for List<T> {}

impl<T> fmt::Debug for List<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}..{:?} ({})", self.first, self.last, self.len)
    }
}

impl<T> Default for Links<T> {
    fn default() -> Self {
        Self { before: None, behind: None }
    }
}

impl<T> Clone for Links<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Links<T> {}

impl<T> fmt::Debug for Links<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}<>{:?}", self.before, self.behind)
    }
}

impl<T> List<T> {
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub(crate) fn push_back(
        &mut self,
        slab: &mut Slab<T>,
        id: Id<T>,
        links: impl Fn(&mut T) -> &mut Links<T>,
    ) {
        self.insert_behind(slab, self.last, id, links);
    }

    /// Puts `id` right behind `before`, or first of all.
    pub(crate) fn insert_behind(
        &mut self,
        slab: &mut Slab<T>,
        before: Option<Id<T>>,
        id: Id<T>,
        links: impl Fn(&mut T) -> &mut Links<T>,
    ) {
        let behind = match before {
            Some(before) => links(&mut slab[before]).behind.replace(id),
            None => self.first.replace(id),
        };
        match behind {
            Some(behind) => links(&mut slab[behind]).before = Some(id),
            None => self.last = Some(id),
        }
        *links(&mut slab[id]) = Links { before, behind };
        self.len += 1;
    }

    pub(crate) fn remove(
        &mut self,
        slab: &mut Slab<T>,
        id: Id<T>,
        links: impl Fn(&mut T) -> &mut Links<T>,
    ) {
        let Links { before, behind } = std::mem::take(links(&mut slab[id]));
        match before {
            Some(before) => links(&mut slab[before]).behind = behind,
            None => self.first = behind,
        }
        match behind {
            Some(behind) => links(&mut slab[behind]).before = before,
            None => self.last = before,
        }
        self.len -= 1;
    }

    /// The entries from the first to the last.
    pub(crate) fn iter<'a>(
        &self,
        slab: &'a Slab<T>,
        links: impl Fn(&T) -> &Links<T> + 'a,
    ) -> impl Iterator<Item = (Id<T>, &'a T)> {
        std::iter::successors(self.first, move |id| links(&slab[*id]).behind)
            .map(|id| (id, &slab[id]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Numbered(u32, Links<Numbered>);

    fn numbers(list: &List<Numbered>, slab: &Slab<Numbered>) -> Vec<u32> {
        list.iter(slab, |entry| &entry.1).map(|(_, entry)| entry.0).collect()
    }

    #[test]
    fn a_slot_is_used_again() {
        let mut slab = Slab::default();
        let (a, b) = (slab.insert_with(|| 'a'), slab.insert_with(|| 'b'));
        slab.remove(a);
        assert_eq!(slab.len(), 1);
        assert_eq!(slab.insert_with(|| 'c'), a);
        assert_eq!((slab[a], slab[b], slab.len()), ('c', 'b', 2));
        assert_eq!(slab.iter().map(|(_, entry)| *entry).collect::<String>(), "cb");
    }

    #[test]
    fn a_list_keeps_its_order() {
        let mut slab = Slab::default();
        let mut list = List::default();
        let ids: Vec<_> =
            (0..4).map(|number| slab.insert_with(|| Numbered(number, Links::default()))).collect();
        for id in &ids[..3] {
            list.push_back(&mut slab, *id, |entry| &mut entry.1);
        }
        list.insert_behind(&mut slab, Some(ids[0]), ids[3], |entry| &mut entry.1);
        assert_eq!(numbers(&list, &slab), [0, 3, 1, 2]);
        list.remove(&mut slab, ids[0], |entry| &mut entry.1);
        list.remove(&mut slab, ids[2], |entry| &mut entry.1);
        assert_eq!((numbers(&list, &slab), list.len), (vec![3, 1], 2));
        list.insert_behind(&mut slab, None, ids[2], |entry| &mut entry.1);
        assert_eq!(numbers(&list, &slab), [2, 3, 1]);
        for id in [3, 1, 2] {
            list.remove(&mut slab, ids[id], |entry| &mut entry.1);
        }
        assert!(list.is_empty() && list.last.is_none());
    }
}
