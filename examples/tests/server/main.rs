//! The server as its users meet it: real processes, real sockets, real signals.

mod auth;
mod backup;
mod cache_histories;
mod client;
mod dashboard;
mod failover;
mod histories;
mod load;
mod locking;
mod members;
mod messages;
mod process;
mod requests;
mod retrying;
mod rolling;
mod signals;
mod slow;
mod startup;
mod strangers;
mod waits;
