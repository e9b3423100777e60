//! The tests of dss-ring through its public interface.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod balance;
mod bounded;
mod golden;
mod limits;
mod migration;
mod properties;
mod serialize;
mod zones;
