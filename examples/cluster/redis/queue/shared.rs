//! What the broker's methods and tasks share.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dss_queue::{BrokerError, ShardId, TopicName};
use redis::Script;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::census::{Census, Loss};
use super::copies::{Copies, Notes};
use super::lines::Lines;
use super::place::{Answer, CallError, Caller, Place, QueueNode};
use crate::redis::RedisNodes;

/// The epoch of the ring. It stays the first one until servers can be added to a running cluster;
/// a server that was sealed for a later one refuses publishes already.
pub(super) const EPOCH: u64 = 1;

pub(super) struct Shared {
    pub(super) caller: Caller,
    servers: RedisNodes,
    pub(super) nodes: Vec<Arc<QueueNode>>,
    pub(super) census: Census,
    pub(super) copies: Copies,
    pub(super) notes: Mutex<Notes>,
    /// Since when servers wait for others before they are used.
    waiting: Mutex<BTreeMap<ShardId, Instant>>,
    /// What servers have lost that are being restored.
    losses: Mutex<BTreeMap<ShardId, Loss>>,
    pub(super) lines: Lines,
    /// The hand-offs that were seen: which nodes keep one for a topic.
    handoffs: Mutex<BTreeMap<TopicName, BTreeSet<ShardId>>>,
    /// Where leases are taken and handed back, whatever becomes of who asked.
    pub(super) runtime: Handle,
}

impl Shared {
    pub(super) fn new(keys: String, servers: RedisNodes, copies: Copies) -> Self {
        let nodes: Vec<_> =
            servers.all().iter().map(|redis| Arc::new(QueueNode::new(Arc::clone(redis)))).collect();
        let shards: BTreeSet<_> = nodes.iter().map(|node| node.shard).collect();
        assert!(shards.len() == nodes.len(), "the ids of two Redis servers collide: rename one");
        Self {
            caller: Caller::new(keys),
            servers,
            nodes,
            census: Census::default(),
            copies,
            notes: Mutex::default(),
            waiting: Mutex::default(),
            losses: Mutex::default(),
            lines: Lines::default(),
            handoffs: Mutex::default(),
            runtime: Handle::current(),
        }
    }

    /// The topic's home.
    pub(super) fn home(&self, topic: &TopicName) -> Place {
        let owner = self.servers.owner(topic.as_str().as_bytes());
        let node = self.named(owner.name()).expect("there is a queue node for every server");
        Place { node: Arc::clone(node), topic: topic.clone(), home: None }
    }

    /// The places of a topic in the order of its preference list: its home, then hand-offs.
    pub(super) fn places(&self, topic: &TopicName) -> Vec<Place> {
        let mut places = Vec::with_capacity(self.nodes.len());
        let mut home = None;
        for name in self.servers.ring().preference_list(topic.as_str().as_bytes()) {
            let Some(node) = self.named(name) else { continue };
            places.push(Place { node: Arc::clone(node), topic: topic.clone(), home });
            home = home.or(Some(node.shard));
        }
        places
    }

    /// The home and those open hand-offs where something may be.
    pub(super) fn sources(&self, topic: &TopicName) -> Vec<Place> {
        let known = self.handoffs().get(topic).cloned().unwrap_or_default();
        let mut places = self.places(topic);
        let home_is_open = places.first().is_some_and(|home| home.node.is_open());
        places.retain(|place| {
            place.node.is_open()
                && (place.home.is_none() || !home_is_open || known.contains(&place.node.shard))
        });
        places
    }

    /// The node that gives ids of this shard.
    pub(super) fn node(&self, shard: ShardId) -> Option<&Arc<QueueNode>> {
        self.nodes.iter().find(|node| node.shard == shard)
    }

    pub(super) fn handoffs(&self) -> MutexGuard<'_, BTreeMap<TopicName, BTreeSet<ShardId>>> {
        // Nothing that is done under this lock can be left half done.
        self.handoffs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn waiting(&self) -> MutexGuard<'_, BTreeMap<ShardId, Instant>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn losses(&self) -> MutexGuard<'_, BTreeMap<ShardId, Loss>> {
        self.losses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A node has taken messages for a home.
    pub(super) fn note_handoff(&self, topic: &TopicName, node: ShardId) {
        self.handoffs().entry(topic.clone()).or_default().insert(node);
    }

    /// Asks for a transition that may find the topic or the group missing.
    pub(super) async fn ask<A: redis::ToRedisArgs>(
        &self,
        place: &Place,
        script: &Script,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Found, CallError> {
        self.ask_marked(place, script, arguments).await.map(|(found, _)| found)
    }

    /// The same, with what the server was known by.
    pub(super) async fn ask_marked<A: redis::ToRedisArgs>(
        &self,
        place: &Place,
        script: &Script,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<(Found, String), CallError> {
        let Answer { word, fields, mark } = self.caller.call(place, script, arguments).await?;
        if self.copies == Copies::Two {
            self.notes().touched.insert(place.name());
        }
        let found = match word.as_str() {
            "OK" => Found::Answer(fields),
            "NOTOPIC" => Found::NoTopic,
            "NOGROUP" => Found::NoGroup,
            _ => Found::Other(word),
        };
        Ok((found, mark))
    }

    /// Every place of a topic that may keep something; none of them while its home is closed.
    pub(super) fn everywhere(&self, topic: &TopicName) -> Result<Vec<Place>, BrokerError> {
        let mut places = self.places(topic);
        if !places.first().is_some_and(|home| home.node.is_open()) {
            return Err(BrokerError::Unavailable);
        }
        places.retain(|place| place.node.is_open());
        Ok(places)
    }

    fn named(&self, name: &str) -> Option<&Arc<QueueNode>> {
        self.nodes.iter().find(|node| node.name() == name)
    }
}

/// What a transition found.
pub(super) enum Found {
    Answer(super::answer::Fields),
    NoTopic,
    NoGroup,
    /// Another word, of those that this transition may say.
    Other(String),
}
