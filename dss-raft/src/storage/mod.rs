//! The storages that come with the crate.

#[cfg(feature = "tokio")]
mod file;
mod memory;
mod stored;

#[cfg(all(feature = "tokio", fuzzing))]
pub(crate) use file::fuzz_segment;
#[cfg(feature = "tokio")]
pub use file::{FileStorage, Identity};
pub use memory::MemoryStorage;
