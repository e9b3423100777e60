//! The lock table through its commands: scenarios, a naive model beside it, and what it does with
//! bytes that are none of its own.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod aftermath;
mod bytes;
mod holding;
mod model;
mod properties;
mod scenarios;
mod script;
#[cfg(feature = "raft")]
mod service;
mod sessions;
mod withdrawal;
