//! The dss cluster server.

mod cli;
mod config;
mod forward;
mod peer;

fn main() {}
