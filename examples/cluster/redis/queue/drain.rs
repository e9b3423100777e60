//! Bringing home what was handed off.
//!
//! Any number of processes may drain the same hand-off at the same time: a batch is the same for
//! all of them until it is finished, the home takes it once, and finishing it twice does nothing.
//! Where two copies are kept, a second server has what the home took before a batch is finished;
//! until then, the hand-off's own shadow has it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dss_queue::{ShardId, TopicName};

use super::copies::Copies;
use super::place::{CallError, Place, QueueNode};
use super::shared::{Found, Shared};

/// Batches of one hand-off before the next one has its turn.
const BATCHES_MAX: usize = 100;

/// What the first two steps of a drain came to.
pub(super) enum Carried {
    /// The home has this batch, and the hand-off may forget it.
    Batch(String),
    /// Nothing is left.
    Nothing,
    /// Something was changed meanwhile: look again.
    NotNow,
}

impl Shared {
    /// Looks for hand-offs on all open nodes, and drains those whose home is open.
    pub(super) async fn drain(&self) {
        let mut seen = BTreeMap::<TopicName, BTreeSet<ShardId>>::new();
        let mut asked = BTreeSet::new();
        for node in self.nodes.iter().filter(|node| node.is_open()) {
            let mut command = redis::cmd("SMEMBERS");
            command.arg(format!("{}:handoffs", self.caller.keys));
            let Ok(names) = node.redis.run::<Vec<String>>(&command).await else { continue };
            asked.insert(node.shard);
            for name in names {
                let Some((topic, home)) = parse(&name) else { continue };
                self.note_handoff(&topic, node.shard);
                if !self.drain_one(node, &topic, home).await {
                    seen.entry(topic).or_default().insert(node.shard);
                }
            }
        }
        // One that was begun meanwhile is found the next time.
        let mut handoffs = self.handoffs();
        for (topic, nodes) in handoffs.iter_mut() {
            let seen = seen.get(topic);
            nodes.retain(|node| {
                !asked.contains(node) || seen.is_some_and(|seen| seen.contains(node))
            });
        }
        handoffs.retain(|_, nodes| !nodes.is_empty());
    }

    /// Whether nothing is left of the hand-off.
    async fn drain_one(&self, node: &Arc<QueueNode>, topic: &TopicName, home: ShardId) -> bool {
        let source = Place { node: Arc::clone(node), topic: topic.clone(), home: Some(home) };
        // Where the ring has changed, what was kept for an old home belongs to the new one.
        let target = self.home(topic);
        if !target.node.is_open() {
            return false;
        }
        for _ in 0..BATCHES_MAX {
            let moved = match self.carry(&source, &target).await {
                Ok(Carried::Batch(batch)) => self.finish(&source, batch).await,
                Ok(Carried::Nothing) => return true,
                Ok(Carried::NotNow) => return false,
                Err(error) => Err(error),
            };
            if let Err(error) = moved {
                tracing::debug!("draining {source:?} is interrupted: {error:?}");
                return false;
            }
        }
        false
    }

    /// Has the home take in a batch; repeated, the same one once.
    pub(super) async fn carry(&self, source: &Place, target: &Place) -> Result<Carried, CallError> {
        let scripts = &self.caller.scripts;
        let mut command = redis::cmd("HGET");
        command.arg(format!("{}:node", self.caller.keys)).arg("deletions");
        let deletions = target.node.redis.run::<Option<String>>(&command).await;
        let deletions = deletions.map_err(|failure| CallError::of(&failure))?;
        let none: [&str; 0] = [];
        let mut fields = match self.ask(source, &scripts.take, none).await? {
            Found::Answer(fields) => fields,
            Found::Other(word) if word == "GONE" => return Ok(Carried::Nothing),
            _ => return Ok(Carried::NotNow),
        };
        let batch = fields.text()?;
        let arguments = [
            super::place::shard_text(source.node.shard).into_bytes(),
            batch.clone().into_bytes(),
            deletions.unwrap_or_else(|| "0".to_owned()).into_bytes(),
        ];
        let packets = fields.list()?.each(|packet| packet.bytes())?;
        let slices = arguments.iter().chain(&packets).map(Vec::as_slice);
        let (Found::Answer(mut fields), mark) =
            self.ask_marked(target, &scripts.adopt, slices).await?
        else {
            // A topic was deleted: it may have been this one.
            return Ok(Carried::NotNow);
        };
        if self.copies == Copies::Two {
            let places = fields.list()?.each(|place| place.text())?;
            self.copy_adopted(target, mark, &places, &packets).await?;
        }
        Ok(Carried::Batch(batch))
    }

    /// Has the hand-off forget a batch that the home has.
    async fn finish(&self, source: &Place, batch: String) -> Result<(), CallError> {
        self.ask(source, &self.caller.scripts.finish, [batch]).await.map(drop)
    }
}

/// `<home> <topic>`.
fn parse(name: &str) -> Option<(TopicName, ShardId)> {
    let (home, topic) = name.split_once(' ')?;
    let home = u32::from_str_radix(home, 16).ok()?;
    Some((TopicName::new(topic).ok()?, ShardId::new(home)))
}
