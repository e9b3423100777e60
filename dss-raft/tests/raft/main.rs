//! The core, through its inputs and outputs: the paper's claims one by one, scenarios, and
//! arbitrary input.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

mod arbitrary;
mod check_quorum;
mod cluster;
mod credibility;
mod elections;
mod failover;
mod membership;
mod pre_vote;
mod reads;
mod replication;
mod snapshots;
mod transfer;
