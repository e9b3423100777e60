//! How long the lock table takes, without log and network.
//!
//! - `lock_table_uncontended`: one lock taken and given back, by one of a thousand sessions, with
//!   ten thousand other locks held; two commands.
//! - `lock_table_100k_waiters`: a hundred thousand owners of a thousand sessions come to wait for
//!   one lock; `holding`, each of them holds a lock of its own. The time is that of all of them
//!   together, so per enqueue it is a hundred thousandth.
//! - `lock_table_chain_100k`: a request at the end of a chain of a hundred thousand owners that
//!   wait for one another. `open` comes to wait and is taken back, `closing` is the deadlock.
//! - `lock_deadlock_hot`: a request of a holder of something that is waited for, behind three
//!   thousand writers of one lock, who are waited for themselves. `naive-dfs` is a plain
//!   depth-first search of the wait-for graph (each waiter waits for every holder and for every
//!   conflicting request ahead of it) over the same table.
#![allow(missing_docs, reason = "criterion's macros define undocumented items")]
#![expect(clippy::disallowed_methods, reason = "what is measured is timed apart from what is not")]

mod naive;
mod workload;

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dss_lock::{Command, LockName, Outcome, Owner, OwnerId, Reply, Wait};
use naive::Naive;
use workload::{Bench, acquire, cancel, locks, owners, release};

const WAITERS: usize = 100_000;
const CHAIN: usize = 100_000;
const HOT: usize = 3_000;

fn uncontended(criterion: &mut Criterion) {
    let mut bench = Bench::default();
    let (owners, locks) = (owners(100_000), locks(20_000));
    for (owner, lock) in owners.iter().zip(&locks[..10_000]) {
        bench.take(owner, lock);
    }
    // Every hundredth owner is the first of its session.
    let mut pairs = owners.iter().step_by(100).cycle().zip(locks[10_000..].iter().cycle());
    criterion.bench_function("lock_table_uncontended", |bencher| {
        bencher.iter_custom(|times| {
            let mut elapsed = Duration::ZERO;
            let mut left = times;
            while left > 0 {
                // Commands are made apart, and few at a time, so that they are at hand.
                let portion = left.min(256);
                left -= portion;
                let commands: Vec<_> = (0..portion)
                    .map(|_| {
                        let (owner, lock) = pairs.next().expect("a cycle has no end");
                        (acquire(owner, lock, Wait::Try), release(owner, lock))
                    })
                    .collect();
                let begun = Instant::now();
                for (acquire, release) in commands {
                    black_box(bench.apply(acquire));
                    black_box(bench.apply(release));
                }
                elapsed += begun.elapsed();
            }
            elapsed
        });
    });
}

fn many_waiters(criterion: &mut Criterion) {
    let (owners, locks) = (owners(WAITERS + 1), locks(WAITERS + 1));
    let hot = &locks[WAITERS];
    let mut idle = Bench::default();
    idle.take(&owners[WAITERS], hot);
    for owner in owners.iter().step_by(100) {
        let session = owner.session.clone();
        let ttl = Duration::from_secs(10);
        idle.apply(Command::OpenSession { session, ttl, lock_delay: None });
    }
    let mut holding = idle.clone();
    for (owner, lock) in owners[..WAITERS].iter().zip(&locks) {
        holding.take(owner, lock);
    }
    let mut group = criterion.benchmark_group("lock_table_100k_waiters");
    group.throughput(Throughput::Elements(WAITERS as u64)).sample_size(10);
    for (name, mut bench) in [("enqueue", idle), ("enqueue-holding", holding)] {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|times| {
                let mut elapsed = Duration::ZERO;
                for _ in 0..times {
                    // In a table that has been this full before: what grows it is measured by
                    // the first round, which is for warming up.
                    for portion in owners[..WAITERS].chunks(256) {
                        let commands: Vec<_> = portion
                            .iter()
                            .map(|owner| acquire(owner, hot, Wait::Forever))
                            .collect();
                        let begun = Instant::now();
                        for command in commands {
                            black_box(bench.apply(command));
                        }
                        elapsed += begun.elapsed();
                    }
                    for owner in &owners[..WAITERS] {
                        bench.apply(cancel(owner, hot));
                    }
                }
                elapsed
            });
        });
    }
    group.finish();
}

fn long_chain(criterion: &mut Criterion) {
    let mut bench = Bench::default();
    let (owners, locks) = (owners(CHAIN + 1), locks(CHAIN + 1));
    for (owner, lock) in owners.iter().zip(&locks) {
        bench.take(owner, lock);
    }
    // Each waits for the next, and the last waits for nothing.
    for (owner, lock) in owners.iter().zip(&locks[1..]) {
        bench.wait(owner, lock);
    }
    let mut group = criterion.benchmark_group("lock_table_chain_100k");
    group.sample_size(20);
    let newcomer = Owner { session: owners[0].session.clone(), owner: OwnerId::default() };
    let own = LockName::new("own").expect("a good name");
    bench.take(&newcomer, &own);
    let waits =
        Owner { session: newcomer.session.clone(), owner: OwnerId::new("w").expect("good") };
    bench.wait(&waits, &own);
    group.bench_function("open", |bencher| {
        bencher.iter(|| {
            bench.wait(&newcomer, &locks[0]);
            bench.apply(cancel(&newcomer, &locks[0]))
        });
    });
    group.bench_function("closing", |bencher| {
        bencher.iter(|| {
            let reply = bench.apply(acquire(&owners[CHAIN], &locks[0], Wait::Forever));
            assert!(matches!(reply, Reply::Ended(Outcome::Deadlock { .. })));
        });
    });
    group.finish();
}

fn hot_lock(criterion: &mut Criterion) {
    let mut bench = Bench::default();
    let (owners, locks) = (owners(2 * HOT + 3), locks(HOT + 2));
    let hot = &locks[HOT + 1];
    bench.take(&owners[2 * HOT + 2], hot);
    // Each of those who wait for the hot lock holds one that somebody else waits for.
    for number in 0..=HOT {
        bench.take(&owners[number], &locks[number]);
        bench.wait(&owners[HOT + 1 + number], &locks[number]);
    }
    for owner in &owners[..HOT] {
        bench.wait(owner, hot);
    }
    let requester = &owners[HOT];
    let mut group = criterion.benchmark_group("lock_deadlock_hot");
    group.sample_size(20);
    group.bench_function("dss-lock", |bencher| {
        bencher.iter(|| {
            bench.wait(requester, hot);
            bench.apply(cancel(requester, hot))
        });
    });
    let naive = Naive::of(&bench.table, &owners);
    let hot = naive.awaits[0].expect("the first owner waits for the hot lock");
    group.bench_function("naive-dfs", |bencher| {
        bencher.iter(|| assert!(!naive.closes_cycle(black_box(HOT), hot)));
    });
    group.finish();
}

criterion_group!(benches, uncontended, many_waiters, long_chain, hot_lock);
criterion_main!(benches);
