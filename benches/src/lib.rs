//! The benchmarks of dss live beside this file, one per crate.
