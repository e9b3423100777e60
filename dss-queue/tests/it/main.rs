//! The queue from outside.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

mod bench;
mod cluster;
mod consumer;
mod decode;
mod fencing;
mod limits;
mod local;
mod model;
mod moving;
mod placing;
mod replicated;
mod scenarios;
mod schedules;
mod simulation;
mod tidying;
mod turbulence;
