//! The storages that come with the crate.

mod memory;
mod stored;

pub use memory::MemoryStorage;
