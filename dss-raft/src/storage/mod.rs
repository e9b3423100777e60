//! The storages that come with the crate.

#[cfg(feature = "tokio")]
mod file;
mod memory;
mod stored;

#[cfg(feature = "tokio")]
pub use file::{FileStorage, Identity};
pub use memory::MemoryStorage;
