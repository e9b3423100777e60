//! The driver: a cache and a home behind one lock, timers, and calls of main memory.

mod network;
mod node;
mod reply;

pub use network::InMemoryNetwork;
pub use node::CacheNode;
