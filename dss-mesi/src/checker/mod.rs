//! Every order of events of small clusters, breadth first: the real cores, and for contrast the
//! broadcast protocol that such caches commonly use.
//!
//! The tests look at a bounded number of states; `DSS_CHECK=full` looks at all of them, or
//! twenty million, and `DSS_CHECK=n` at `n` of each configuration.

mod broadcast;
mod cores;
mod fingerprint;
mod monitor;
mod node;
mod plan;
mod search;
mod world;

mod tests;
