//! The core, through its inputs and outputs: the paper's claims one by one, scenarios, and
//! arbitrary input.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

mod arbitrary;
mod check_quorum;
mod cluster;
mod commit_notice;
mod compaction;
mod credibility;
mod disk_stall;
mod elections;
mod failover;
mod fates;
mod leases;
mod limits;
mod membership;
mod paper;
mod pre_vote;
mod priorities;
mod readme;
mod reads;
mod replication;
mod scenarios;
mod snapshots;
mod transcript;
mod transfer;
