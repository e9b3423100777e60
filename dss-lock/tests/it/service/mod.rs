//! The service on three nodes in one process, on virtual time.

mod acquiring;
mod client;
mod cluster;
mod deferral;
mod failover;
mod fencing;
mod sessions;
mod several;
mod withdrawing;
mod witness;
