//! The driver: caches and homes behind locks, timers, and calls of main memory.
//!
//! A node is divided into *parts* by the hash of keys. Each has cores of its own, so that what
//! happens to one key waits for another one's only where both are in the same part. The division is
//! nobody else's business: other nodes see one cache and one home. Of what a node says or is told as
//! a whole, a view, a lease, a surrender, each part is told, or has to have said it.

mod clock;
mod drive;
mod fence;
mod load;
mod network;
mod node;
mod part;
mod reply;
mod timers;
mod unison;

pub use load::LoadError;
pub use network::InMemoryNetwork;
pub use node::CacheNode;
