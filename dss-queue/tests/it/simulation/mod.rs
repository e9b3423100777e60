//! Producers and consumers of a replicated shard whose nodes crash, lose what they had not synced,
//! are cut off, come and go, and whose answers are lost, all as a seed decides.
//!
//! Clients ask any node, and ask again where they hear nothing: so does the server's router for
//! them. The ledger reads the log as it is applied and holds it against what the queue promises.
//! `DSS_SEED=…` runs one seed again, `DSS_SEEDS=…` more of them.

mod ledger;
mod machine;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use dss_queue::{
    Command, MessageId, NewMessage, Receipt, Refusal, Reply, ShardId, TopicSettings, UnixMillis,
};
use dss_raft::testing::{Broken, Options, PlantedBug, Workload, check_seeds, seeds, simulate};

use crate::bench::{consumer, group, message, millis, topic};
use ledger::{Counts, Ledger};
use machine::{Flaw, Watched};

const GROUP: &str = "g";
/// How long a lease is, in milliseconds: some tens of commands.
const VISIBILITY: u64 = 1_000;
/// More attempts than any message has here.
const MAX: u32 = 100_000;
/// For how long a client publishes again what has no answer, in milliseconds: far less than dedupe
/// ids are remembered for, since the queue's time may be ahead of the client's.
const REPUBLISH_MAX: u64 = 60_000;
/// A client remembers as many receipts, so that some are long stale.
const RECEIPTS_MAX: usize = 24;

/// Producers and consumers.
struct Clients {
    ledger: Arc<Mutex<Ledger>>,
    answered: Arc<Mutex<BTreeSet<MessageId>>>,
    flaw: Option<Flaw>,
    now: u64,
    published: u64,
    /// By dedupe id.
    publishes: BTreeMap<String, Publish>,
    receipts: Vec<Receipt>,
    answers: u64,
}

struct Publish {
    message: NewMessage,
    first_at: u64,
    answer: Option<MessageId>,
}

impl Clients {
    fn new(flaw: Option<Flaw>) -> Self {
        Self {
            ledger: Arc::default(),
            answered: Arc::default(),
            flaw,
            now: 1_000_000,
            published: 0,
            publishes: BTreeMap::new(),
            receipts: Vec::new(),
            answers: 0,
        }
    }

    fn next(&mut self, random: u64) -> Command {
        let (topic, group) = (topic("orders"), group(GROUP));
        if !self.ledger.lock().unwrap().is_configured() {
            let settings = TopicSettings { max_attempts: MAX, ..TopicSettings::default() };
            return Command::Configure { topic, settings };
        }
        let detail = random >> 16;
        match random % 16 {
            0..=3 => {
                let messages = (0..=detail % 3).map(|_| self.fresh()).collect();
                Command::Publish { shard: ShardId::new(1), topic, messages }
            }
            4..=5 => {
                // Mostly what has no answer; sometimes what has one, of which nobody must know.
                let since = self.now - REPUBLISH_MAX;
                let recent = self.publishes.values().filter(|publish| publish.first_at > since);
                let again: Vec<_> = match detail % 4 {
                    0 => recent.collect(),
                    _ => recent.filter(|publish| publish.answer.is_none()).collect(),
                };
                let chosen = choose(&again, detail >> 2).map(|publish| publish.message.clone());
                let messages = vec![chosen.unwrap_or_else(|| self.fresh())];
                Command::Publish { shard: ShardId::new(1), topic, messages }
            }
            6..=9 => {
                let max = u32::try_from(1 + detail % 4).unwrap();
                let visibility = Some(millis(VISIBILITY));
                Command::Receive { topic, group, consumer: consumer(), max, visibility }
            }
            10..=12 => Command::Ack { topic, group, receipts: self.some_receipts(detail) },
            13 => {
                let delay = millis(detail % 500);
                Command::Nack { topic, group, receipts: self.some_receipts(detail), delay }
            }
            14 => {
                let (receipts, visibility) = (self.some_receipts(detail), millis(VISIBILITY));
                Command::Extend { topic, group, receipts, visibility }
            }
            _ if detail.is_multiple_of(2) => {
                Command::HandBack { topic, group, receipts: self.some_receipts(detail) }
            }
            _ => Command::Tick,
        }
    }

    fn fresh(&mut self) -> NewMessage {
        self.published += 1;
        let name = format!("m{}", self.published);
        let key = self.published.is_multiple_of(3).then(|| format!("k{}", self.published % 7));
        let fresh = NewMessage { key, dedupe_id: Some(name.clone()), ..message(&name) };
        let publish = Publish { message: fresh.clone(), first_at: self.now, answer: None };
        self.publishes.insert(name, publish);
        fresh
    }

    /// One or two; they stay known, so that each may be shown again.
    fn some_receipts(&self, random: u64) -> Vec<Receipt> {
        let newest = self.receipts.iter().rev().take(4).collect::<Vec<_>>();
        let any = self.receipts.iter().collect::<Vec<_>>();
        let from = if random.is_multiple_of(4) { any } else { newest };
        let mut some: BTreeSet<Receipt> = BTreeSet::new();
        some.extend(choose(&from, random >> 2).copied());
        some.extend(choose(&from, random >> 20).copied().filter(|_| random.is_multiple_of(8)));
        some.into_iter().collect()
    }
}

fn choose<'a, T>(from: &[&'a T], random: u64) -> Option<&'a T> {
    let position = random.checked_rem(from.len() as u64)?;
    from.get(usize::try_from(position).ok()?).copied()
}

impl Workload for Clients {
    type Machine = Watched;

    fn machine(&mut self) -> Watched {
        Watched::new(Arc::clone(&self.ledger), self.flaw)
    }

    fn command(&mut self, random: u64) -> Bytes {
        self.now += random >> 40 & 0x7f;
        // A leader's clock may be behind that of the one before.
        let behind = if random >> 48 & 7 == 0 { random >> 52 & 0xff } else { 0 };
        self.next(random).encode(UnixMillis::new(self.now - behind))
    }

    fn acknowledged(&mut self, entry: &Bytes, reply: Reply) -> Result<(), Broken> {
        if let Some(broken) = self.ledger.lock().unwrap().broken {
            return Err(Broken(broken));
        }
        self.answers += 1;
        if self.answers.is_multiple_of(7) {
            self.ledger.lock().unwrap().counts.unheard += 1;
            return Ok(());
        }
        let (_, command) = Command::decode(entry).expect("the clients' own encoding");
        match (command, reply) {
            (Command::Publish { messages, .. }, Reply::Published(ids)) => {
                for (message, id) in messages.iter().zip(ids) {
                    let dedupe_id = message.dedupe_id.as_deref().unwrap_or_default();
                    let publish = self.publishes.get_mut(dedupe_id).expect("it was published");
                    if *publish.answer.get_or_insert(id) != id {
                        return Err(Broken("a publish is answered twice, and differently"));
                    }
                    self.answered.lock().unwrap().insert(id);
                }
            }
            (Command::Receive { .. }, Reply::Received { deliveries, .. }) => {
                self.receipts.extend(deliveries.iter().map(|delivery| delivery.receipt));
                let surplus = self.receipts.len().saturating_sub(RECEIPTS_MAX);
                self.receipts.drain(..surplus);
            }
            (Command::Ack { receipts, .. }, Reply::Settled(settled)) => {
                let ledger = self.ledger.lock().unwrap();
                let done = receipts.iter().filter(|receipt| !settled.stale.contains(receipt));
                if !done.into_iter().all(|receipt| ledger.has_acknowledged(receipt.message())) {
                    return Err(Broken("an ack was answered that is nowhere"));
                }
            }
            // A group is there once it has received.
            (_, Reply::Refused(Refusal::NotFound)) => {}
            (_, Reply::Refused(_)) => return Err(Broken("a good command is refused")),
            _ => {}
        }
        Ok(())
    }

    fn read(&mut self, _: &Watched) -> Result<(), Broken> {
        self.ledger.lock().unwrap().broken.map_or(Ok(()), |broken| Err(Broken(broken)))
    }
}

/// Runs one seed to its end; what it saw, or what went wrong.
fn run(
    options: Options,
    flaw: Option<Flaw>,
) -> Result<(dss_raft::testing::Report, Counts), String> {
    let seed = options.seed;
    let clients = Clients::new(flaw);
    let (ledger, answered) = (Arc::clone(&clients.ledger), Arc::clone(&clients.answered));
    let report = simulate(options, clients)
        .map_err(|failure| format!("{failure}: {:?}", failure.violation))?;
    let mut ledger = ledger.lock().unwrap();
    let ended = ledger.broken.map_or(Ok(()), Err).and_then(|()| {
        let answered = answered.lock().unwrap();
        ledger.end(&answered)
    });
    ended.map_err(|broken| format!("seed {seed}: {broken}"))?;
    Ok((report, ledger.counts))
}

#[test]
fn nothing_is_lost_and_nothing_acknowledged_comes_back_whatever_fails() {
    let sum = Mutex::new(Counts::default());
    let seeds = seeds(150);
    let report = check_seeds(seeds.clone(), |seed| {
        let (report, counts) = run(Options::swarm(seed), None).unwrap_or_else(|it| panic!("{it}"));
        sum.lock().unwrap().add(&counts);
        Ok(report)
    })
    .unwrap();
    let counts = sum.into_inner().unwrap();
    println!(
        "{} seeds, {} crashes, {} partitions, {} elections: {counts:?}",
        seeds.end - seeds.start,
        report.crashes,
        report.partitions,
        report.elections
    );
    assert_eq!(counts.lost, 0);
    // A run in which little happened has proven little.
    if seeds.end - seeds.start >= 150 {
        assert!(report.crashes > 500 && report.partitions > 150, "{report:?}");
        assert!(counts.published > 5_000 && counts.duplicates > 5_000, "{counts:?}");
        assert!(
            counts.republished > 500 && counts.stale > 2_000 && counts.unheard > 1_000,
            "{counts:?}"
        );
    }
}

#[test]
fn a_planted_bug_is_found_in_one_of_the_first_seeds() {
    let flaws = [Flaw::AcksWithoutTheLease, Flaw::ForgetsThePlace, Flaw::ForgetsDedupeIds];
    for flaw in flaws {
        let found = (0..40).find_map(|seed| run(Options::swarm(seed), Some(flaw)).err());
        println!("{flaw:?}: {}", found.unwrap_or_else(|| panic!("{flaw:?} is not found")));
    }
    let bug = PlantedBug::AcknowledgeBeforeDurable;
    let found = (0..100).find_map(|seed| {
        let mut options = Options::swarm(seed).with_bug(bug);
        // Slow syncs, and crashes of everybody in the middle of them.
        options.sync_max = millis(200);
        options.crash_every = millis(500);
        options.depose_permille = 900;
        run(options, None).err()
    });
    println!("{bug:?}: {}", found.expect("what was answered before it was durable goes missing"));
}
