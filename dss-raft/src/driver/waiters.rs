//! Who waits for what, in the order of what is waited for.

use std::collections::VecDeque;

/// A map whose keys come in rising order and nearly always leave from the front: then both take a
/// step, whatever the size. A key that leaves from the middle is searched for.
pub(super) struct Waiters<K, W> {
    queue: VecDeque<(K, W)>,
}

impl<K, W> Default for Waiters<K, W> {
    fn default() -> Self {
        Self { queue: VecDeque::new() }
    }
}

impl<K: Ord + Copy, W> Waiters<K, W> {
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// `key` is greater than every key before.
    pub(super) fn push(&mut self, key: K, waiter: W) {
        debug_assert!(self.queue.back().is_none_or(|(last, _)| *last < key), "keys rise");
        self.queue.push_back((key, waiter));
    }

    pub(super) fn take(&mut self, key: K) -> Option<W> {
        let at = match self.queue.front()?.0.cmp(&key) {
            std::cmp::Ordering::Equal => 0,
            std::cmp::Ordering::Greater => return None,
            std::cmp::Ordering::Less => {
                self.queue.binary_search_by_key(&key, |(key, _)| *key).ok()?
            }
        };
        self.queue.remove(at).map(|(_, waiter)| waiter)
    }

    /// Takes those up to `last`.
    pub(super) fn split_to(&mut self, last: K) -> Self {
        let later = self.queue.split_off(self.queue.partition_point(|(key, _)| *key <= last));
        Self { queue: std::mem::replace(&mut self.queue, later) }
    }

    pub(super) fn into_values(self) -> impl Iterator<Item = W> {
        self.queue.into_iter().map(|(_, waiter)| waiter)
    }
}

#[cfg(test)]
mod tests {
    use super::Waiters;

    #[test]
    fn keys_leave_in_any_order_and_once() {
        let mut waiters = Waiters::default();
        for key in [2, 3, 5, 8, 9] {
            waiters.push(key, key * 10);
        }
        assert_eq!([1, 4, 10].map(|key| waiters.take(key)), [None; 3]);
        assert_eq!([2, 5, 5, 2].map(|key| waiters.take(key)), [Some(20), Some(50), None, None]);
        assert!(waiters.split_to(1).is_empty());
        assert!(waiters.split_to(8).into_values().eq([30, 80]));
        assert!(waiters.into_values().eq([90]));
    }

    #[test]
    fn nobody_is_found_where_nobody_waits() {
        let mut waiters = Waiters::<u8, ()>::default();
        assert!(waiters.is_empty());
        assert_eq!(waiters.take(1), None);
        assert!(waiters.split_to(9).is_empty());
    }
}
