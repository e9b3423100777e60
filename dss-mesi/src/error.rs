//! Why an operation fails.

use crate::version::Version;

/// Why a read, write or removal failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// The condition does not hold; nothing was written.
    #[error("the condition does not hold")]
    VersionMismatch {
        /// The version that is there; `None` where there is no value.
        current: Option<Version>,
    },
    /// This node's lease is over: it may have been removed without knowing. Nothing was done.
    #[error("the lease of this node is over")]
    LeaseExpired,
    /// This node is in no view. Nothing was done.
    #[error("this node is not a member of the view")]
    NoView,
    /// A write may or may not have been done, or may still be done.
    #[error("whether the write was done is unknown")]
    Indeterminate,
    /// The home of the line or main memory did not answer in time. Nothing was done.
    #[error("the home of the line or main memory does not answer")]
    Unavailable,
    /// The value is longer than a cache takes.
    #[error("a value of {bytes} bytes, where {limit} are allowed")]
    TooLarge {
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        limit: usize,
    },
    /// The cache is shut down. Nothing was done.
    #[error("the cache is shut down")]
    ShutDown,
}
