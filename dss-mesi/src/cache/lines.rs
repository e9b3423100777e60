//! The lines that a cache holds, in the order of their last use.

use std::fmt;
use std::hash::{Hash, Hasher};

use bytes::Bytes;
use lru::LruCache;

use super::operation::{Answer, Operation, OperationId};
use crate::line::LineState;
use crate::message::Dirty;
use crate::timer::Retry;
use crate::version::{Seq, Version};

/// One line; a line that is not held does not exist.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Line {
    /// Never [`LineState::Invalid`].
    pub(super) state: LineState,
    /// The grant by which it is held, or the recall that downgraded it.
    pub(super) seq: Seq,
    /// `None` where the key was never written.
    pub(super) version: Option<Version>,
    /// `None` where there is no value: never written, or removed.
    pub(super) value: Option<Bytes>,
    /// What is being written through, if anything is. Only while the line is owned.
    pub(super) through: Option<Box<Through>>,
}

/// A value on its way to main memory while the line stays.
///
/// Of a line that is E it is a client's write that nobody has been answered and nobody may read
/// yet; of a line that is M it is a flush of what can be read already.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Through {
    pub(super) version: Version,
    pub(super) value: Option<Bytes>,
    /// Who is answered what once it is stored.
    pub(super) answers: Vec<(OperationId, Answer)>,
    /// Writes that came meanwhile.
    pub(super) waiting: Vec<Operation>,
    pub(super) retry: Retry,
}

impl Line {
    /// What must not be dropped with the line.
    pub(super) fn dirty(&self) -> Option<Dirty> {
        if let (LineState::Modified, Some(version)) = (self.state, self.version) {
            return Some(Dirty { grant: self.seq, version, value: self.value.clone() });
        }
        let through = self.through.as_ref()?;
        let (version, value) = (through.version, through.value.clone());
        Some(Dirty { grant: self.seq, version, value })
    }

    /// Whether a client's write is on its way to main memory.
    pub(super) fn is_being_written(&self) -> bool {
        self.through.is_some() && self.state != LineState::Modified
    }

    fn bytes(&self) -> usize {
        self.value.as_ref().map_or(0, Bytes::len)
    }
}

/// The lines, least recently used last, and sums over them.
#[derive(Clone)]
pub(super) struct Lines {
    lru: LruCache<Bytes, Line>,
    bytes: usize,
    modified: usize,
    exclusive: usize,
    written: usize,
}

impl Lines {
    pub(super) fn new() -> Self {
        Self { lru: LruCache::unbounded(), bytes: 0, modified: 0, exclusive: 0, written: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.lru.len()
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) const fn modified(&self) -> usize {
        self.modified
    }

    pub(super) const fn exclusive(&self) -> usize {
        self.exclusive
    }

    /// How many lines have something on its way to main memory.
    pub(super) const fn written(&self) -> usize {
        self.written
    }

    /// The line, which counts as used.
    pub(super) fn touch(&mut self, key: &Bytes) -> Option<&Line> {
        self.lru.get(key)
    }

    /// The line, without using it.
    pub(super) fn peek(&self, key: &Bytes) -> Option<&Line> {
        self.lru.peek(key)
    }

    /// Changes the line, without using it.
    pub(super) fn modify<R>(
        &mut self,
        key: &Bytes,
        change: impl FnOnce(&mut Line) -> R,
    ) -> Option<R> {
        let line = self.lru.peek_mut(key)?;
        let (bytes, state, written) = (line.bytes(), line.state, line.through.is_some());
        let result = change(line);
        let (bytes_after, state_after) = (line.bytes(), line.state);
        let written_after = line.through.is_some();
        self.bytes = self.bytes - bytes + bytes_after;
        self.written = self.written - usize::from(written) + usize::from(written_after);
        self.uncount(state);
        self.count(state_after);
        Some(result)
    }

    /// Puts the line in front, in place of what was held of the key.
    pub(super) fn insert(&mut self, key: Bytes, line: Line) {
        self.remove(&key);
        self.bytes += key.len() + line.bytes();
        self.written += usize::from(line.through.is_some());
        self.count(line.state);
        self.lru.put(key, line);
    }

    pub(super) fn remove(&mut self, key: &Bytes) -> Option<Line> {
        let line = self.lru.pop(key)?;
        self.bytes -= key.len() + line.bytes();
        self.written -= usize::from(line.through.is_some());
        self.uncount(line.state);
        Some(line)
    }

    /// The line that was not used for longest and is not pinned. Pinned ones on the way there
    /// count as used: something is under way with them.
    pub(super) fn least_used(&mut self, pinned: impl Fn(&Bytes, &Line) -> bool) -> Option<Bytes> {
        for _ in 0..self.lru.len() {
            let (key, line) = self.lru.peek_lru()?;
            let key = key.clone();
            if !pinned(&key, line) {
                return Some(key);
            }
            self.lru.promote(&key);
        }
        None
    }

    /// All keys, in the order of their use.
    pub(super) fn keys(&self) -> Vec<Bytes> {
        self.lru.iter().map(|(key, _)| key.clone()).collect()
    }

    fn count(&mut self, state: LineState) {
        match state {
            LineState::Modified => self.modified += 1,
            LineState::Exclusive => self.exclusive += 1,
            LineState::Shared | LineState::Invalid => {}
        }
    }

    fn uncount(&mut self, state: LineState) {
        match state {
            LineState::Modified => self.modified -= 1,
            LineState::Exclusive => self.exclusive -= 1,
            LineState::Shared | LineState::Invalid => {}
        }
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_map().entries(self.lru.iter()).finish()
    }
}

impl PartialEq for Lines {
    fn eq(&self, other: &Self) -> bool {
        self.lru.len() == other.lru.len() && self.lru.iter().eq(other.lru.iter())
    }
}

impl Eq for Lines {}

impl Hash for Lines {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.lru.len().hash(state);
        self.lru.iter().for_each(|entry| entry.hash(state));
    }
}
