//! Shards, what is under way to them, and time.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use dss_queue::{
    Command, GroupInfo, Placement, Queue, Receipt, Refusal, Reply, ShardId, TopicSettings,
    UnixMillis,
};

use super::Flaw;
use super::clients::Client;
use super::ledger::{Counts, Ledger};
use super::mover::next_step;
use crate::bench::{consumer, group, millis, topic};

pub(super) const TOPICS: [&str; 6] = ["orders", "mails", "jobs", "events", "audits", "bills"];
pub(super) const GROUPS: [&str; 2] = ["g", "h"];
/// How long a lease is, in milliseconds.
pub(super) const VISIBILITY: u64 = 700;
/// The first is the one that decides about placements; three are there from the start.
const SHARDS: [&str; 5] = ["a", "b", "c", "d", "e"];
const FOUNDERS: usize = 3;
const CLIENTS: usize = 5;
/// Virtual milliseconds under faults.
const DURATION: u64 = 10_000;

/// SplitMix64.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }

    pub(super) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap()
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

struct Shard {
    queue: Queue,
    /// Its clock runs ahead of the others'.
    ahead: u64,
    /// It answers nobody, and hears nothing, until then.
    away_until: u64,
    snapshot: Bytes,
    /// What was done since the snapshot.
    log: Vec<Bytes>,
}

/// On its way.
enum Letter {
    /// To a shard; from a client, or from what moves topics.
    Command { from: Option<usize>, shard: usize, command: Command },
    /// To a client.
    Reply { to: usize, command: Command, reply: Reply },
}

pub(super) struct World {
    random: Random,
    flaw: Option<Flaw>,
    now: u64,
    shards: Vec<Shard>,
    clients: Vec<Client>,
    ledger: Ledger,
    /// By arrival.
    letters: BTreeMap<(u64, u64), Letter>,
    sent: u64,
}

type Checked = Result<(), &'static str>;

fn placement(epoch: u64, shards: impl IntoIterator<Item = usize>) -> Placement {
    let names = shards.into_iter().map(|shard| SHARDS[shard].to_owned()).collect();
    Placement::new(epoch, names).expect("good names")
}

fn number(shard: &str) -> Option<usize> {
    SHARDS.iter().position(|name| *name == shard)
}

impl World {
    pub(super) fn new(seed: u64, flaw: Option<Flaw>) -> Self {
        let mut random = Random(seed);
        let shards = (0..SHARDS.len()).map(|number| {
            let queue = if number < FOUNDERS { Queue::new() } else { Queue::outside() };
            let snapshot = queue.snapshot();
            Shard { queue, ahead: random.below(50), away_until: 0, snapshot, log: Vec::new() }
        });
        let mut world = Self {
            shards: shards.collect(),
            random,
            flaw,
            now: 1_000_000,
            clients: Vec::new(),
            ledger: Ledger::default(),
            letters: BTreeMap::new(),
            sent: 0,
        };
        let founders = placement(0, 0..FOUNDERS);
        let clients = (0..CLIENTS).map(|number| Client::new(number, founders.clone()));
        world.clients = clients.collect();
        for name in TOPICS {
            let settings = TopicSettings { max_attempts: 1_000_000, ..TopicSettings::default() };
            let owner = founders.owner(&topic(name)).and_then(number).expect("a founder");
            let command = Command::Configure { topic: topic(name), settings };
            world.apply(owner, &command).expect("nothing was promised");
            // A group that comes late does not see what the others are done with.
            for group_name in GROUPS {
                let (topic, group) = (topic(name), group(group_name));
                let receive = Command::Receive {
                    topic,
                    group,
                    consumer: consumer(),
                    max: 1,
                    visibility: None,
                };
                world.apply(owner, &receive).expect("nothing was promised");
            }
        }
        world
    }

    pub(super) fn run(mut self) -> Result<Counts, &'static str> {
        let end = self.now + DURATION;
        let mut next_placement = self.now + 500;
        while self.now < end {
            self.now += 1;
            if self.now >= next_placement {
                next_placement += 1_000;
                self.ask_for_placement();
            }
            self.trouble();
            for client in 0..CLIENTS {
                if self.random.one_in(12) {
                    self.let_ask(client);
                }
            }
            for shard in 0..SHARDS.len() {
                // Two of them for each.
                for _ in 0..2 {
                    if self.random.one_in(25) {
                        self.let_move(shard, 1_500);
                    }
                }
            }
            self.deliver()?;
        }
        self.end()
    }

    /// Somebody wants other shards.
    fn ask_for_placement(&mut self) {
        let root = &self.shards[0].queue;
        let epoch = root.epoch();
        let is_settled =
            |it: &Shard| (it.queue.epoch() == epoch || epoch == 0) && it.queue.is_settled();
        if !self.shards.iter().all(is_settled) {
            return;
        }
        let previous = root
            .placements()
            .map_or_else(|| placement(0, 0..FOUNDERS), |(_, current)| current.clone());
        let mut chosen: BTreeSet<usize> =
            (0..SHARDS.len()).filter(|_| self.random.one_in(2)).collect();
        chosen.insert(self.random.index(SHARDS.len()));
        if epoch == 0 {
            // First the founders get their places.
            chosen = (0..FOUNDERS).collect();
        }
        let current = placement(epoch + 1, chosen);
        let place = Command::Place { shard: SHARDS[0].to_owned(), previous, current };
        self.send(None, 0, &place, 100);
        self.ledger.counts.placements += 1;
    }

    fn trouble(&mut self) {
        if self.random.one_in(400) {
            let shard = self.random.index(SHARDS.len());
            self.shards[shard].away_until = self.now + self.random.below(900);
            if self.random.one_in(2) {
                self.crash(shard);
            }
        }
    }

    /// What was done is on disk; the rest is not.
    fn crash(&mut self, number: usize) {
        self.ledger.counts.crashes += 1;
        let takes_snapshot = self.random.one_in(2);
        let shard = &mut self.shards[number];
        let mut queue = Queue::restore(&shard.snapshot).expect("its own snapshot");
        for entry in &shard.log {
            let (now, command) = Command::decode(entry).expect("its own entry");
            queue.apply(now, command);
        }
        assert!(queue == shard.queue, "the log leads to where it led before");
        shard.queue = queue;
        if takes_snapshot {
            shard.snapshot = shard.queue.snapshot();
            shard.log.clear();
        }
    }

    fn let_ask(&mut self, client: usize) {
        let asked = self.clients[client].ask(self.now, &mut self.random);
        if let Some((shard, command)) =
            asked.and_then(|(it, command)| Some((number(&it)?, command)))
        {
            self.send(Some(client), shard, &command, 60);
        }
    }

    fn let_move(&mut self, shard: usize, late_max: u64) {
        let (now, shards) = (self.now, &self.shards);
        let root = &shards[0].queue;
        let see = |name: &str| {
            let shard = &shards[number(name)?];
            (shard.away_until <= now).then_some(&shard.queue)
        };
        let random = self.random.below(u64::MAX);
        if let Some(step) = next_step(SHARDS[shard], root, &see, self.flaw, random) {
            let late = if self.random.one_in(6) { late_max } else { 30 };
            self.send(None, shard, &step, late);
        }
    }

    /// Now and then it is lost on its way, or there twice.
    fn send(&mut self, from: Option<usize>, shard: usize, command: &Command, late_max: u64) {
        for lost in [self.random.one_in(15), !self.random.one_in(15)] {
            if !lost {
                let at = self.now + 1 + self.random.below(late_max);
                let command = command.clone();
                self.post(at, Letter::Command { from, shard, command });
            }
        }
    }

    fn post(&mut self, at: u64, letter: Letter) {
        self.sent += 1;
        self.letters.insert((at, self.sent), letter);
    }

    fn deliver(&mut self) -> Checked {
        while let Some(first) = self.letters.first_entry() {
            if first.key().0 > self.now {
                break;
            }
            match first.remove() {
                Letter::Command { from, shard, command } => {
                    if self.shards[shard].away_until > self.now {
                        continue;
                    }
                    let reply = self.apply(shard, &command)?;
                    let Some(to) = from else { continue };
                    if !self.random.one_in(12) {
                        let at = self.now + 1 + self.random.below(20);
                        self.post(at, Letter::Reply { to, command, reply });
                    }
                }
                Letter::Reply { to, command, reply } => {
                    let any = self.random.index(SHARDS.len());
                    let known = self.shards[any].queue.placements();
                    let known = known.map_or_else(|| placement(0, []), |(_, it)| it.clone());
                    self.clients[to].hear(&command, reply, &known);
                }
            }
        }
        Ok(())
    }

    /// A shard does what it is asked, and cannot lose it any more.
    fn apply(&mut self, number: usize, command: &Command) -> Result<Reply, &'static str> {
        let mut command = command.clone();
        if let Command::Publish { shard, .. } = &mut command {
            *shard = ShardId::new(u32::try_from(number).unwrap());
        }
        let shard = &mut self.shards[number];
        let entry = command.encode(UnixMillis::new(self.now + shard.ahead));
        let (now, command) = Command::decode(&entry).map_err(|_| "an entry cannot be read")?;
        let before = shard.queue.topics().count();
        let (reply, _) = shard.queue.apply(now, command.clone());
        shard.log.push(entry);
        if let Command::Import { topic, last: true, .. } = &command
            && shard.queue.topics().count() > before
        {
            self.ledger.counts.moved += 1;
            if self.flaw == Some(Flaw::DrainsWithoutTheCursor) {
                for name in GROUPS {
                    let forget = Command::DeleteGroup { topic: topic.clone(), group: group(name) };
                    shard.log.push(forget.encode(now));
                    shard.queue.apply(now, forget);
                }
            }
        }
        match &reply {
            Reply::Refused(Refusal::Moved { .. }) => self.ledger.counts.refused += 1,
            // A topic has no groups before they have received.
            Reply::Refused(Refusal::NotFound) => {}
            Reply::Refused(_) => return Err("a good command is refused"),
            _ => {}
        }
        let now = shard.queue.now().get();
        self.ledger.done(number, now, &command, &reply)?;
        Ok(reply)
    }

    /// Nothing fails any more: topics come to rest, and consumers to the end of them.
    fn end(mut self) -> Result<Counts, &'static str> {
        for shard in &mut self.shards {
            shard.away_until = 0;
        }
        let rest = self.now + 60_000;
        loop {
            self.now += 1;
            self.deliver()?;
            for shard in 0..SHARDS.len() {
                self.let_move(shard, 30);
            }
            let epoch = self.shards[0].queue.epoch();
            let is_done = |it: &Shard| it.queue.epoch() == epoch && it.queue.is_settled();
            if self.letters.is_empty() && self.shards.iter().all(is_done) {
                break;
            }
            if self.now > rest {
                return Err("a move does not end");
            }
        }
        for name in TOPICS {
            for group in GROUPS {
                self.drain(name, group)?;
            }
        }
        self.count()
    }

    fn drain(&mut self, name: &str, group_name: &str) -> Checked {
        let (topic, group) = (topic(name), group(group_name));
        let keeps = |it: &Shard| it.queue.topics().any(|kept| *kept == topic);
        let keepers: Vec<_> = (0..SHARDS.len()).filter(|it| keeps(&self.shards[*it])).collect();
        let [keeper] = keepers[..] else { return Err("a topic is nowhere, or in two places") };
        loop {
            self.now += 2 * VISIBILITY;
            let (topic, group, visibility) = (topic.clone(), group.clone(), millis(VISIBILITY));
            let receive = Command::Receive {
                topic: topic.clone(),
                group: group.clone(),
                consumer: consumer(),
                max: 1_000,
                visibility: Some(visibility),
            };
            let Reply::Received { deliveries, .. } = self.apply(keeper, &receive)? else {
                return Err("a topic is not served where it is");
            };
            if deliveries.is_empty() {
                break;
            }
            let receipts: Vec<Receipt> = deliveries.iter().map(|it| it.receipt).collect();
            self.apply(keeper, &Command::Ack { topic, group, receipts })?;
        }
        let left = self.shards[keeper].queue.topic(&topic);
        let left = left.and_then(|topic| topic.groups.get(&group).copied());
        if left == Some(GroupInfo::default()) { Ok(()) } else { Err("the counters do not end") }
    }

    fn count(mut self) -> Result<Counts, &'static str> {
        let answered: BTreeSet<_> =
            self.clients.iter().flat_map(|client| &client.answered).cloned().collect();
        let lost = |(_, message): &&(_, _)| {
            !GROUPS.iter().all(|name| self.ledger.has_acknowledged(&group(name), *message))
        };
        let lost = answered.iter().filter(lost).count() as u64;
        self.ledger.counts.published = answered.len() as u64;
        self.ledger.counts.lost = lost;
        if lost > 0 { Err("a message is lost") } else { Ok(self.ledger.counts) }
    }
}
