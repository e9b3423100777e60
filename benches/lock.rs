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

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dss_lock::{
    AcquireRequest, AttemptId, ClusterTime, Command, Event, LockName, LockTable, Mode, Outcome,
    Owner, OwnerId, ReleaseRequest, Reply, SessionId, Wait,
};

const WAITERS: usize = 100_000;
const CHAIN: usize = 100_000;
const HOT: usize = 3_000;

/// A table with a position in the log, as a state machine drives it.
#[derive(Clone, Default)]
struct Bench {
    table: LockTable,
    index: u64,
    events: Vec<Event>,
}

impl Bench {
    fn apply(&mut self, command: Command) -> Reply {
        self.index += 1;
        self.events.clear();
        self.table.apply_into(self.index, ClusterTime::ZERO, command, &mut self.events)
    }

    fn take(&mut self, owner: &Owner, lock: &LockName) {
        let reply = self.apply(acquire(owner, lock, Wait::Try));
        assert!(matches!(reply, Reply::Ended(Outcome::Granted(_))), "{reply:?}");
    }

    fn wait(&mut self, owner: &Owner, lock: &LockName) {
        assert_eq!(self.apply(acquire(owner, lock, Wait::Forever)), Reply::Waiting);
    }
}

fn acquire(owner: &Owner, lock: &LockName, wait: Wait) -> Command {
    let request = AcquireRequest {
        lock: lock.clone(),
        session: owner.session.clone(),
        owner: owner.owner.clone(),
        mode: Mode::Exclusive,
        wait,
        ttl: None,
        request_id: None,
        reentrant: false,
    };
    Command::Acquire { attempt: AttemptId::default(), request }
}

fn release(owner: &Owner, lock: &LockName) -> Command {
    let Owner { session, owner } = owner.clone();
    Command::Release(ReleaseRequest { lock: lock.clone(), session, owner, token: None })
}

fn cancel(owner: &Owner, lock: &LockName) -> Command {
    let attempt = AttemptId::default();
    Command::Cancel { attempt, locks: vec![lock.clone()], owner: owner.clone() }
}

/// Owners of sessions with a hundred each.
fn owners(count: usize) -> Vec<Owner> {
    let owner = |number: usize| Owner {
        session: SessionId::new(format!("worker-{}", number / 100)).expect("a good name"),
        owner: OwnerId::new(format!("task-{}", number % 100)).expect("a good name"),
    };
    (0..count).map(owner).collect()
}

fn locks(count: usize) -> Vec<LockName> {
    let lock = |number| LockName::new(format!("orders/{number}")).expect("a good name");
    (0..count).map(lock).collect()
}

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

/// The wait-for graph of a table, with numbers for names.
struct Naive {
    /// Of each lock, who holds it and who waits for it, the next one first.
    locks: Vec<(Vec<usize>, Vec<usize>)>,
    /// Of each owner, the lock that it waits for.
    awaits: Vec<Option<usize>>,
}

impl Naive {
    fn of(table: &LockTable, owners: &[Owner]) -> Self {
        let numbers: BTreeMap<_, _> = owners.iter().zip(0..).collect();
        let mut naive = Self { locks: Vec::new(), awaits: vec![None; owners.len()] };
        let mut after = None;
        loop {
            let page = table.locks("", after.as_deref(), usize::MAX);
            for info in page.locks {
                let number = |session: SessionId, owner| numbers[&Owner { session, owner }];
                let holders = info.holders.into_iter();
                let holders = holders.map(|holder| number(holder.session, holder.owner));
                let queue = info.queue.into_iter();
                let queue: Vec<_> = queue.map(|w| number(w.session, w.owner)).collect();
                for owner in &queue {
                    naive.awaits[*owner] = Some(naive.locks.len());
                }
                naive.locks.push((holders.collect(), queue));
            }
            after = page.next;
            if after.is_none() {
                return naive;
            }
        }
    }

    /// Whether `requester`, behind everybody in the queue of `lock`, waits for itself. All
    /// requests are exclusive.
    fn closes_cycle(&self, requester: usize, lock: usize) -> bool {
        let mut visited = vec![false; self.awaits.len()];
        let (holders, queue) = &self.locks[lock];
        let mut stack: Vec<usize> = holders.iter().chain(queue).copied().collect();
        while let Some(owner) = stack.pop() {
            if owner == requester {
                return true;
            }
            if !std::mem::replace(&mut visited[owner], true)
                && let Some(lock) = self.awaits[owner]
            {
                let (holders, queue) = &self.locks[lock];
                let ahead = queue.iter().take_while(|other| **other != owner);
                stack.extend(holders.iter().chain(ahead));
            }
        }
        false
    }
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
