//! The tests of dss-ring through its public interface.

mod balance;
mod golden;
mod limits;
mod properties;
#[cfg(feature = "serde")]
mod serialize;
