//! Knowing a Redis server again: whether it still has what it had.
//!
//! Every server carries a mark, given to it when it is first used, and counts what is changed on
//! it. The other servers and this process remember both. A server that comes back without its mark
//! has lost everything, one with fewer changes than are known some of it: both are said plainly,
//! for the queue cannot tell from the absence of a message that it was acknowledged. The server is
//! used again all the same, since it is as good as new, under a new mark; its topics are told to it
//! by the others. Where two copies are kept it is restored first.
//!
//! What was changed in the last moments before a server went down may not have been counted by
//! anybody else: a loss that small is noticed only where it takes the mark. Where two copies are
//! kept, the others also know the newest message that they have of it, and what lacks that is
//! noticed.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

use super::place::{CallError, QueueNode, Seen, shard_text};

/// What is known of a server: how often it began anew, a random number, and its changes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Memory {
    generation: u64,
    random: u64,
    writes: u64,
}

/// What is wrong with a server that is back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// It has nothing of what it had.
    Everything,
    /// It has an older state than it once had: these many changes are missing at least.
    Changes(u64),
}

/// What is to become of a server, where two copies are kept.
pub(super) enum Finding {
    /// It has what it had.
    Whole(Memory),
    /// Nobody has ever seen it, of those that could be asked: all where `is_sure`.
    New { is_sure: bool },
    /// Somebody has begun to restore it.
    Restoring(Memory),
    /// It has lost something, and is to be begun anew under another mark.
    Lost {
        loss: Loss,
        /// The mark that it has; empty where it has none.
        was: String,
        next: Memory,
        /// Whether what it has is an older state of what it was.
        is_prefix: bool,
    },
}

/// What a server says of itself.
struct Said {
    memory: Option<Memory>,
    /// The newest sequence that it gave.
    last: u64,
    is_restoring: bool,
}

/// What others say of it.
struct Known {
    memory: Option<Memory>,
    /// The newest sequence that it gave.
    last: u64,
    /// Whether everybody could be asked.
    by_all: bool,
}

/// What this process remembers, and what it found lost.
#[derive(Default)]
pub(super) struct Census {
    memories: Mutex<BTreeMap<String, Memory>>,
    losses: Mutex<Vec<(String, Loss)>>,
}

/// How many losses are remembered: the newest.
const LOSSES_MAX: usize = 100;

impl Memory {
    pub(super) fn mark(&self) -> String {
        format!("{}-{:016x}", self.generation, self.random)
    }

    fn parse(mark: &str, writes: u64) -> Option<Self> {
        let (generation, random) = mark.split_once('-')?;
        let generation = generation.parse().ok()?;
        Some(Self { generation, random: u64::from_str_radix(random, 16).ok()?, writes })
    }

    fn parse_line(line: &str) -> Option<Self> {
        let (mark, writes) = line.split_once(' ')?;
        Self::parse(mark, writes.parse().ok()?)
    }

    fn line(&self) -> String {
        format!("{} {}", self.mark(), self.writes)
    }
}

/// What became of a server, given what it says of itself and what is known of it.
fn judge(said: Option<&Memory>, known: Option<&Memory>) -> Option<Loss> {
    match (said, known) {
        (_, None) => None,
        (None, Some(_)) => Some(Loss::Everything),
        // Somebody else has found that it lost everything, and said so; still, it did.
        (Some(said), Some(known)) if said.generation > known.generation => Some(Loss::Everything),
        (Some(said), Some(known)) if said.mark() != known.mark() => Some(Loss::Everything),
        (Some(said), Some(known)) if said.writes < known.writes => {
            Some(Loss::Changes(known.writes - said.writes))
        }
        _ => None,
    }
}

impl Census {
    /// Looks at a server, marks it where it has no mark, and says what it lost. It is not open
    /// before that. Answers whether it is as good as new.
    pub(super) async fn examine(
        &self,
        keys: &str,
        node: &QueueNode,
        others: &[Arc<QueueNode>],
    ) -> Result<bool, CallError> {
        let connection = node.redis.connected().await.map_err(|it| CallError::of(&it))?;
        let said = ask(keys, node).await?.memory;
        let known = self.known(keys, node, others).await;
        let loss = judge(said.as_ref(), known.as_ref());
        if let Some(loss) = loss {
            self.report(node.name(), loss);
        }
        let is_new = said.is_none();
        let present = match said {
            Some(said) => said,
            None => mark_anew(keys, node, known.map_or(1, |known| known.generation + 1)).await?,
        };
        node.open(Seen { mark: present.mark(), connection });
        self.remember(node.name(), present);
        Ok(is_new || loss == Some(Loss::Everything))
    }

    /// Finds out what is to become of a server, where two copies are kept.
    pub(super) async fn find(
        &self,
        keys: &str,
        node: &QueueNode,
        others: &[Arc<QueueNode>],
    ) -> Result<Finding, CallError> {
        let said = ask(keys, node).await?;
        let known = self.known_with_copies(keys, node, others).await;
        Ok(find(said, known))
    }

    /// Marks a server that nobody has ever seen.
    pub(super) async fn mark_first(
        &self,
        keys: &str,
        node: &QueueNode,
    ) -> Result<Memory, CallError> {
        mark_anew(keys, node, 1).await
    }

    pub(super) fn remember(&self, name: &str, memory: Memory) {
        self.memories().insert(name.to_owned(), memory);
    }

    /// Somebody has seen the server under this mark.
    pub(super) fn learn(&self, name: &str, mark: &str) {
        let mut memories = self.memories();
        if let Some(memory) = Memory::parse(mark, 0).filter(|it| memories.get(name) < Some(it)) {
            memories.insert(name.to_owned(), memory);
        }
    }

    /// Tells the other servers what is known of this one.
    pub(super) async fn spread(&self, keys: &str, node: &QueueNode, others: &[Arc<QueueNode>]) {
        let line = self.memories().get(node.name()).map(Memory::line);
        let Some(line) = line else { return };
        for other in others.iter().filter(|other| other.shard != node.shard && other.is_open()) {
            let mut command = redis::cmd("HSET");
            command.arg(format!("{keys}:peers")).arg(node.name()).arg(&line);
            // Who does not hear it now is told again soon.
            let _ = other.redis.run::<()>(&command).await;
        }
    }

    /// Counts what was changed on an open server; false where it is not what it was.
    pub(super) async fn count(&self, keys: &str, node: &QueueNode) -> Result<bool, CallError> {
        let said = ask(keys, node).await?.memory;
        let mut memories = self.memories();
        let unchanged = judge(said.as_ref(), memories.get(node.name())).is_none();
        if let Some(said) = said.filter(|_| unchanged) {
            memories.insert(node.name().to_owned(), said);
        }
        Ok(unchanged)
    }

    /// What servers were found to have lost, oldest first.
    #[cfg(test)]
    pub(super) fn losses(&self) -> Vec<(String, Loss)> {
        self.losses.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn report(&self, name: &str, loss: Loss) {
        match loss {
            Loss::Everything => tracing::error!(
                "Redis server {name} came back without its data: messages that it kept are lost, \
                 whether they were acknowledged or not"
            ),
            Loss::Changes(count) => tracing::error!(
                "Redis server {name} came back with an older state, {count} or more changes are \
                 missing: messages may be lost, and acknowledged ones delivered again"
            ),
        }
        let mut losses = self.losses.lock().unwrap_or_else(PoisonError::into_inner);
        if losses.len() == LOSSES_MAX {
            losses.remove(0);
        }
        losses.push((name.to_owned(), loss));
    }

    /// The newest that anybody remembers of a server.
    async fn known(
        &self,
        keys: &str,
        node: &QueueNode,
        others: &[Arc<QueueNode>],
    ) -> Option<Memory> {
        let mut known = self.memories().get(node.name()).cloned();
        for other in others.iter().filter(|other| other.shard != node.shard) {
            let mut command = redis::cmd("HGET");
            command.arg(format!("{keys}:peers")).arg(node.name());
            let line = other.redis.run::<Option<String>>(&command).await.ok().flatten();
            known = known.max(line.as_deref().and_then(Memory::parse_line));
        }
        known
    }

    async fn known_with_copies(
        &self,
        keys: &str,
        node: &QueueNode,
        others: &[Arc<QueueNode>],
    ) -> Known {
        let own = self.memories().get(node.name()).cloned();
        let mut known = Known { memory: own, last: 0, by_all: true };
        let shard = shard_text(node.shard);
        for other in others.iter().filter(|other| other.shard != node.shard) {
            let peers = look_up(other, format!("{keys}:peers"), node.name()).await;
            let seal = look_up(other, format!("{keys}:seals"), &shard).await;
            let copied = look_up(other, format!("{keys}:copied"), &shard).await;
            known.by_all &= peers.is_some() && seal.is_some() && copied.is_some();
            let (peers, seal) = (peers.flatten(), seal.flatten());
            known.memory = known.memory.max(peers.as_deref().and_then(Memory::parse_line));
            let seal = seal.and_then(|mark| Memory::parse(&mark, 0));
            known.memory = known.memory.max(seal);
            let last = copied.flatten().and_then(|last| last.parse().ok());
            known.last = known.last.max(last.unwrap_or(0));
        }
        known
    }

    fn memories(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Memory>> {
        self.memories.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn find(said: Said, known: Known) -> Finding {
    let lags = said.last < known.last;
    let loss = match (&said.memory, &known.memory) {
        (Some(memory), _) if said.is_restoring => return Finding::Restoring(memory.clone()),
        (None, None) if known.last == 0 => return Finding::New { is_sure: known.by_all },
        // Somebody else has found that it lost something, and restored it.
        (Some(said), Some(known)) if said.generation > known.generation => None,
        (None, _) => Some(Loss::Everything),
        (said, known) => judge(said.as_ref(), known.as_ref()),
    };
    // What it gave is known better than what it changed.
    let loss = loss.or(lags.then_some(Loss::Changes(1)));
    match (loss, said.memory) {
        (None, Some(memory)) => Finding::Whole(memory),
        (loss, said) => {
            let generation = said.iter().chain(&known.memory).map(|it| it.generation).max();
            let next = Memory {
                generation: generation.unwrap_or(0) + 1,
                random: RandomState::new().hash_one(()),
                writes: 0,
            };
            let was = said.as_ref().map_or_else(String::new, Memory::mark);
            let is_prefix = known.memory.is_none_or(|known| known.mark() == was);
            Finding::Lost { loss: loss.unwrap_or(Loss::Everything), was, next, is_prefix }
        }
    }
}

/// A field of a hash; the outer `None` where the server cannot say.
async fn look_up(node: &QueueNode, hash: String, field: &str) -> Option<Option<String>> {
    let mut command = redis::cmd("HGET");
    command.arg(hash).arg(field);
    node.redis.run(&command).await.ok()
}

async fn ask(keys: &str, node: &QueueNode) -> Result<Said, CallError> {
    let mut command = redis::cmd("HMGET");
    command.arg(format!("{keys}:node")).arg(&["mark", "writes", "last", "restoring"]);
    type Answer = (Option<String>, Option<u64>, Option<u64>, Option<u64>);
    let answer = node.redis.run::<Answer>(&command).await;
    let (mark, writes, last, restoring) = answer.map_err(|failure| CallError::of(&failure))?;
    let memory = mark.and_then(|mark| Memory::parse(&mark, writes.unwrap_or(0)));
    Ok(Said { memory, last: last.unwrap_or(0), is_restoring: restoring.is_some() })
}

/// Marks a server, unless somebody else does so at the same time.
async fn mark_anew(keys: &str, node: &QueueNode, generation: u64) -> Result<Memory, CallError> {
    let memory = Memory { generation, random: RandomState::new().hash_one(()), writes: 0 };
    let mut command = redis::cmd("HSETNX");
    command.arg(format!("{keys}:node")).arg("mark").arg(memory.mark());
    node.redis.run::<()>(&command).await.map_err(|failure| CallError::of(&failure))?;
    ask(keys, node).await?.memory.ok_or(CallError::Refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(generation: u64, random: u64, writes: u64) -> Memory {
        Memory { generation, random, writes }
    }

    #[test]
    fn a_server_is_judged_by_what_others_remember_of_it() {
        let known = memory(2, 7, 100);
        for (said, loss) in [
            (None, Some(Loss::Everything)),
            (Some(memory(2, 7, 100)), None),
            (Some(memory(2, 7, 150)), None),
            (Some(memory(2, 7, 98)), Some(Loss::Changes(2))),
            (Some(memory(3, 1, 500)), Some(Loss::Everything)),
            (Some(memory(1, 7, 500)), Some(Loss::Everything)),
            (Some(memory(2, 8, 500)), Some(Loss::Everything)),
        ] {
            assert_eq!(judge(said.as_ref(), Some(&known)), loss, "{said:?}");
            assert_eq!(judge(said.as_ref(), None), None);
        }
        assert_eq!(Memory::parse_line(&known.line()), Some(known));
    }

    #[test]
    fn a_server_that_lacks_what_was_copied_from_it_is_begun_anew_in_a_later_generation() {
        let found = |said: Option<Memory>, last, known: Option<Memory>, copied| {
            let said = Said { memory: said, last, is_restoring: false };
            match find(said, Known { memory: known, last: copied, by_all: true }) {
                Finding::Whole(_) => "whole".to_owned(),
                Finding::New { is_sure } => format!("new {is_sure}"),
                Finding::Restoring(_) => "restoring".to_owned(),
                Finding::Lost { loss, next, is_prefix, .. } => {
                    format!("{loss:?} {} {is_prefix}", next.generation)
                }
            }
        };
        let mark = |writes| Some(memory(2, 7, writes));
        assert_eq!(found(mark(9), 50, mark(9), 50), "whole");
        assert_eq!(found(mark(9), 49, mark(9), 50), "Changes(1) 3 true");
        assert_eq!(found(mark(7), 50, mark(9), 50), "Changes(2) 3 true");
        assert_eq!(found(None, 0, mark(9), 50), "Everything 3 false");
        assert_eq!(found(None, 0, None, 50), "Everything 1 true");
        assert_eq!(found(None, 0, None, 0), "new true");
        assert_eq!(found(Some(memory(1, 5, 99)), 60, mark(9), 50), "Everything 3 false");
        assert_eq!(found(Some(memory(3, 1, 0)), 50, mark(9), 50), "whole", "others restored it");
        let said = Said { memory: mark(1), last: 0, is_restoring: true };
        let known = Known { memory: mark(9), last: 50, by_all: true };
        assert!(matches!(find(said, known), Finding::Restoring(_)));
    }
}
