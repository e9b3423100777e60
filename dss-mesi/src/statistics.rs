//! What has happened in a cache and its home.

/// Counts since the node started, and what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub struct Statistics {
    /// Reads that found the line here.
    pub hits: u64,
    /// Reads that did not.
    pub misses: u64,
    /// Writes and removals that changed a value.
    pub writes: u64,
    /// Lines dropped to make room.
    pub evictions: u64,
    /// Lines dropped because they were held for as long as lines may be.
    pub expirations: u64,
    /// Written lines that had to be given up and stored: by eviction, recall or a view change.
    pub write_backs: u64,
    /// Lines given up or downgraded because the home asked.
    pub recalls: u64,
    /// Grants refused because a newer recall had been answered.
    pub grants_refused: u64,
    /// Messages repeated for want of an answer, by cache and home.
    pub repeats: u64,
    /// Written lines that were lost: this node was removed from the view before they were stored.
    pub lost: u64,
    /// Lines granted by this node's home.
    pub grants: u64,
    /// Calls of main memory that failed or whose outcome is unknown.
    pub memory_failures: u64,
    /// Lines held, modified.
    pub modified: usize,
    /// Lines held, exclusive.
    pub exclusive: usize,
    /// Lines held, shared.
    pub shared: usize,
    /// Bytes of the keys and values of lines held.
    pub bytes: usize,
    /// Lines that wait to be stored.
    pub writing_back: usize,
    /// Lines that this node's home keeps track of.
    pub directory: usize,
}

#[cfg(feature = "tokio")]
impl Statistics {
    /// The sum of both.
    #[must_use]
    pub(crate) const fn plus(self, other: Self) -> Self {
        Self {
            hits: self.hits + other.hits,
            misses: self.misses + other.misses,
            writes: self.writes + other.writes,
            evictions: self.evictions + other.evictions,
            expirations: self.expirations + other.expirations,
            write_backs: self.write_backs + other.write_backs,
            recalls: self.recalls + other.recalls,
            grants_refused: self.grants_refused + other.grants_refused,
            repeats: self.repeats + other.repeats,
            lost: self.lost + other.lost,
            grants: self.grants + other.grants,
            memory_failures: self.memory_failures + other.memory_failures,
            modified: self.modified + other.modified,
            exclusive: self.exclusive + other.exclusive,
            shared: self.shared + other.shared,
            bytes: self.bytes + other.bytes,
            writing_back: self.writing_back + other.writing_back,
            directory: self.directory + other.directory,
        }
    }
}
