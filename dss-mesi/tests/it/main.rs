//! Nodes of a cache in one process, over a network in memory; and cores, message by message.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod cluster;
mod directory;
mod faults;
mod messages;
mod node;
mod operations;
mod races;
mod rig;
mod sharing;
mod strays;
mod tables;
