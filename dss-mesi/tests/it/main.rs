//! Nodes of a cache in one process, over a network in memory.

mod cluster;
mod node;
