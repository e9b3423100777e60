//! The cache of the node's current life.

use std::sync::{PoisonError, RwLock};

use dss_mesi::CacheNode;

/// Holds the cache that serves now. A node that lost its place in the view comes back with a new
/// life and an empty cache: whoever uses one takes it from here, for one operation.
pub(crate) struct CurrentCache(RwLock<CacheNode>);

impl CurrentCache {
    /// A place for caches, with the first one in it.
    pub(crate) fn new(cache: CacheNode) -> Self {
        Self(RwLock::new(cache))
    }

    /// The cache that serves now.
    pub(crate) fn get(&self) -> CacheNode {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From here on this one serves.
    pub(crate) fn replace(&self, cache: CacheNode) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = cache;
    }
}
