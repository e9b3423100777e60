//! The dss cluster server.

fn main() {}
