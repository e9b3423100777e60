//! The driver end to end: whole nodes in one process, on virtual time where nothing is slow.

#![expect(clippy::disallowed_methods, reason = "a slow state machine really sleeps")]

mod cluster;
mod durable;
mod failover;
mod groups;
mod machine_faults;
mod membership;
mod metrics;
mod recovery;
mod replication;
mod shutdown;
mod snapshots;
mod storage_faults;
mod streams;
