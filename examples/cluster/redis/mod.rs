//! The Redis servers that keep queues and the cache's main memory, where those are not embedded.
//!
//! The servers know nothing of one another: each is a Redis of its own, neither a replica of
//! another nor a part of a Redis Cluster. What is kept where is a function of its name, by the same
//! consistent hashing as everywhere. Redis 7.0 is the oldest that is supported. Keys begin with
//! [`key_prefix`], so that several clusters can share a server.

mod address;
mod failure;
mod memory;
mod node;
mod queue;
mod servers;
#[cfg(test)]
pub(crate) mod test_server;

pub(crate) use self::address::RedisAddress;
pub(crate) use self::failure::RedisFailure;
pub(crate) use self::memory::{RedisMemory, Registry};
pub(crate) use self::node::RedisNode;
pub(crate) use self::queue::{Copies, RedisBroker};
pub(crate) use self::servers::{RedisNodes, key_prefix};
