//! The server as its users meet it: real processes, real sockets, real signals.

mod auth;
mod backup;
mod cache_histories;
mod certificates;
mod client;
mod dashboard;
mod encryption;
mod failover;
mod histories;
mod load;
mod locking;
mod members;
mod messages;
mod network;
mod process;
mod requests;
mod retrying;
mod rolling;
mod signals;
mod slow;
mod startup;
mod strangers;
mod waits;
