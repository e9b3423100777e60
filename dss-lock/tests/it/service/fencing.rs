//! Holders that are paused, cut off and run on slow clocks, over a cluster that loses leaders and
//! members: who believes in a lock, and what a resource accepts.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dss_lock::{FencingToken, LockGuard, LockService};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::client::{Link, open};
use super::cluster::{Cluster, Services, id, millis};
use super::witness::Witness;
use crate::script::lock;

/// What the lock protects. It looks at nothing but tokens.
#[derive(Default)]
struct Resource {
    newest: Option<FencingToken>,
    writes: Vec<FencingToken>,
    refused: usize,
}

impl Resource {
    fn write(&mut self, token: FencingToken) -> bool {
        let accepted = self.newest <= Some(token);
        if accepted {
            self.newest = Some(token);
            self.writes.push(token);
        } else {
            self.refused += 1;
        }
        accepted
    }
}

/// What all clients together have seen.
#[derive(Default)]
struct Seen {
    resource: Resource,
    /// The guards that are alive, with the newest token that is known to have been granted.
    guards: Vec<LockGuard>,
    newest: Option<FencingToken>,
    grants: usize,
    /// How often two believed in their lock at once, and how often one was told in time.
    overlaps: usize,
    told: usize,
    /// How often two replicas stood at the same command, and were the same.
    agreed: usize,
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Takes the lock, sleeps on it, sometimes for longer than its session lives and cut off, and
/// writes whatever it may think by then.
async fn contend(
    link: Arc<Link>,
    name: String,
    services: Services,
    seen: Arc<Mutex<Seen>>,
    seed: u64,
) {
    let mut random = Random(seed);
    for life in 0.. {
        let session = open(&link, &format!("{name} {life}")).await;
        while session.lost_reason().is_none() {
            let asked = session.lock(lock("l")).timeout(Duration::from_secs(20)).acquire().await;
            let Ok(guard) = asked else { continue };
            let token = guard.token();
            {
                let mut seen = seen.lock().unwrap();
                assert!(seen.newest < Some(token), "{token} after {:?}", seen.newest);
                seen.newest = Some(token);
                seen.grants += 1;
                let believers = seen.guards.iter().filter(|guard| guard.check().is_ok()).count();
                seen.overlaps += believers;
                seen.guards.push(guard.clone());
            }
            let pause = millis(random.below(1_500));
            if random.below(4) == 0 {
                link.cut.store(true, Ordering::Relaxed);
                sleep(pause * 8).await;
                link.cut.store(false, Ordering::Relaxed);
            } else {
                sleep(pause).await;
            }
            write(&guard, &services, &seen).await;
            seen.lock().unwrap().guards.retain(|other| other.token() != token);
            drop(guard);
        }
    }
}

/// Writes, and asks a server to vouch for the token as a fenced write to the cache would.
async fn write(guard: &LockGuard, services: &Services, seen: &Mutex<Seen>) {
    let token = guard.token();
    let newest = {
        let mut seen = seen.lock().unwrap();
        let believed = guard.check().is_ok();
        seen.told += usize::from(!believed);
        let accepted = seen.resource.write(token);
        let stale = seen.resource.writes.iter().any(|written| *written > token);
        assert!(!(accepted && stale), "{token} was accepted after a newer one");
        seen.newest
    };
    let services: Vec<LockService> = services.lock().unwrap().values().cloned().collect();
    for service in services {
        let vouched = timeout(millis(800), service.validate(lock("l"), token)).await;
        if vouched == Ok(Ok(true)) {
            assert!(newest == Some(token), "{token} was vouched for after {newest:?} was granted");
        }
    }
}

async fn run(seed: u64, slow_permille: u32) -> Seen {
    // Snapshots are taken often, so that whoever comes back has mostly to begin with one.
    let mut cluster = Cluster::start_with(true, 30).await;
    let mut witness = Witness::default();
    let seen = Arc::new(Mutex::new(Seen::default()));
    let mut clients = JoinSet::new();
    for client in 0..5 {
        let link = Link::new(&cluster);
        link.slow_permille.store(slow_permille, Ordering::Relaxed);
        let (name, services) = (format!("client {client}"), Arc::clone(&cluster.services));
        clients.spawn(contend(link, name, services, Arc::clone(&seen), seed * 100 + client));
    }
    let mut random = Random(seed);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(120) {
        witness.watch(&cluster, millis(2_000 + random.below(6_000))).await;
        let leader = cluster.leader().await;
        match random.below(3) {
            0 => {
                cluster.network.isolate(leader);
                witness.watch(&cluster, millis(random.below(5_000))).await;
                cluster.network.heal();
            }
            1 => drop(cluster.groups[&leader].transfer_leadership(None).await),
            _ => {
                let victim = id(1 + random.below(3));
                cluster.crash(victim);
                witness.watch(&cluster, millis(random.below(4_000))).await;
                cluster.start_node(victim).await;
            }
        }
        if let Some(Err(panic)) = clients.try_join_next() {
            std::panic::resume_unwind(panic.into_panic());
        }
    }
    clients.abort_all();
    while let Some(ended) = clients.join_next().await {
        if let Err(error) = ended
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
    let mut seen = std::mem::take(&mut *seen.lock().unwrap());
    seen.agreed = witness.agreed;
    seen
}

fn seeds(default: std::ops::Range<u64>) -> std::ops::Range<u64> {
    let seed = std::env::var("DSS_SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
    seed.map_or(default, |seed| seed..seed + 1)
}

#[tokio::test(start_paused = true)]
async fn two_never_believe_in_one_lock_while_clocks_keep_their_bound() {
    let (mut grants, mut told, mut refused, mut agreed) = (0, 0, 0, 0);
    for seed in seeds(0..6) {
        println!("DSS_SEED={seed}");
        // As slow as a session reckons with by default.
        let seen = run(seed, 10).await;
        assert_eq!(seen.overlaps, 0, "two believed in the lock, DSS_SEED={seed}");
        grants += seen.grants;
        told += seen.told;
        refused += seen.resource.refused;
        agreed += seen.agreed;
    }
    println!("{agreed} times two replicas were at one command");
    assert!(agreed > 1_000, "{agreed}");
    println!("{grants} grants, {told} told of their loss in time, {refused} stale writes refused");
    assert!(grants > 200 && told > 10 && refused > 0, "{grants}, {told}, {refused}");
}

#[tokio::test(start_paused = true)]
async fn a_stale_token_never_succeeds_however_slow_a_clock_is() {
    let (mut overlaps, mut refused) = (0, 0);
    for seed in seeds(0..4) {
        println!("DSS_SEED={seed}");
        let seen = run(seed, 600).await;
        overlaps += seen.overlaps;
        refused += seen.resource.refused;
    }
    println!("{overlaps} overlaps, {refused} stale writes refused");
    // Otherwise the tokens had nothing to do.
    assert!(overlaps > 0 && refused > 0, "{overlaps} overlaps, {refused} refused");
}
