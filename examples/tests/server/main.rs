//! The server as its users meet it: real processes, real sockets, real signals.

mod client;
mod failover;
mod locking;
mod messages;
mod process;
mod requests;
mod signals;
mod startup;
mod strangers;
