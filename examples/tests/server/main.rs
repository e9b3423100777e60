//! The server as its users meet it: real processes, real sockets, real signals.

mod cache_histories;
mod client;
mod failover;
mod process;
mod requests;
mod signals;
mod startup;
mod strangers;
