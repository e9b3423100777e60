//! The service on three nodes in one process, on virtual time.

mod acquiring;
mod cluster;
mod failover;
mod sessions;
mod withdrawing;
