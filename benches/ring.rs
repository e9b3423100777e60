//! Benchmarks of dss-ring.
#![allow(missing_docs, reason = "criterion's macros define undocumented items")]

use criterion::{Criterion, criterion_group, criterion_main};

fn placeholder(_criterion: &mut Criterion) {}

criterion_group!(benches, placeholder);
criterion_main!(benches);
