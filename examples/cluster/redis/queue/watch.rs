//! What goes on while nobody asks: looking after the servers, listening to the bell, draining.

use std::sync::{Arc, Weak};
use std::time::Duration;

use dss_queue::{ShardId, TopicName};
use futures_util::StreamExt;
use tokio::task::AbortHandle;

use super::copies::Copies;
use super::place::QueueNode;
use super::recover::Recovered;
use super::shared::Shared;

/// How often changes are counted, for the census, and hand-offs are looked for.
const ROUND: Duration = Duration::from_millis(500);
/// How long to wait before the bell is listened to again.
const BELL_PAUSE: Duration = Duration::from_millis(200);
/// How often topics are told to the nodes again, in rounds: who was down may have missed one.
const ROUNDS_BETWEEN_INTRODUCTIONS: u32 = 60;

/// How often all shadows are gone through, in rounds, beside whenever a server is opened.
const ROUNDS_BETWEEN_LISTS: u32 = 60;

/// Starts the tasks; they end with what they look after.
pub(super) fn start(shared: &Arc<Shared>) -> Vec<AbortHandle> {
    let mut tasks = Vec::new();
    for node in &shared.nodes {
        let looking = look_after(Arc::downgrade(shared), Arc::clone(node));
        tasks.push(tokio::spawn(looking).abort_handle());
        let listening = listen(Arc::downgrade(shared), Arc::clone(node));
        tasks.push(tokio::spawn(listening).abort_handle());
    }
    if shared.copies == Copies::Two {
        tasks.push(tokio::spawn(keep(Arc::downgrade(shared))).abort_handle());
    }
    tasks.push(tokio::spawn(drain(Arc::downgrade(shared))).abort_handle());
    tasks
}

/// Opens a node once it is there and has been looked at, and closes it when it is gone.
async fn look_after(shared: Weak<Shared>, node: Arc<QueueNode>) {
    let mut standing = node.redis.standing();
    let mut closing = node.mark.subscribe();
    let mut rounds = 0_u32;
    loop {
        let is_up = standing.borrow_and_update().is_ok();
        closing.borrow_and_update();
        {
            let Some(shared) = shared.upgrade() else { return };
            if !is_up {
                node.close();
            } else if node.is_open() {
                shared.keep_open(&node, rounds).await;
            } else {
                shared.open(&node).await;
            }
        }
        rounds = rounds.wrapping_add(1);
        tokio::select! {
            changed = standing.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(ROUND) => {}
        }
    }
}

/// Rings for whoever waits in this process when a script rings on the node.
async fn listen(shared: Weak<Shared>, node: Arc<QueueNode>) {
    loop {
        let channel = {
            let Some(shared) = shared.upgrade() else { return };
            format!("{}:bell", shared.caller.keys)
        };
        if let Ok(mut bell) = node.redis.subscribe(&channel).await {
            let Some(now) = shared.upgrade() else { return };
            // What rang before this was not heard.
            now.lines.ring_all();
            drop(now);
            let mut rings = bell.on_message();
            while let Some(ring) = rings.next().await {
                let Some(shared) = shared.upgrade() else { return };
                if let Ok(topic) = ring.get_payload::<String>() {
                    shared.lines.ring(&topic);
                }
            }
        }
        tokio::time::sleep(BELL_PAUSE).await;
    }
}

async fn keep(shared: Weak<Shared>) {
    for round in 0_u32.. {
        {
            let Some(shared) = shared.upgrade() else { return };
            shared.keep(round.is_multiple_of(ROUNDS_BETWEEN_LISTS)).await;
        }
        tokio::time::sleep(ROUND).await;
    }
}

async fn drain(shared: Weak<Shared>) {
    loop {
        {
            let Some(shared) = shared.upgrade() else { return };
            shared.drain().await;
        }
        tokio::time::sleep(ROUND).await;
    }
}

impl Shared {
    /// Looks at a node that answers, and uses it from then on.
    async fn open(&self, node: &Arc<QueueNode>) {
        let keys = &self.caller.keys;
        let opened = match self.copies {
            Copies::One => self.census.examine(keys, node, &self.nodes).await.map(Some),
            Copies::Two => self.recover(node).await.map(|recovered| match recovered {
                Recovered::Open { is_new } => Some(is_new),
                Recovered::NotYet => None,
            }),
        };
        match opened {
            Ok(None) => {}
            Ok(Some(is_new)) => {
                self.census.spread(keys, node, &self.nodes).await;
                self.exchange_topics(node, is_new).await;
                self.lines.ring_all();
            }
            Err(error) => {
                tracing::debug!("Redis server {} is not used yet: {error:?}", node.name());
            }
        }
    }

    async fn keep_open(&self, node: &Arc<QueueNode>, rounds: u32) {
        let keys = &self.caller.keys;
        match self.census.count(keys, node).await {
            Ok(true) => {
                self.census.spread(keys, node, &self.nodes).await;
                if rounds.is_multiple_of(ROUNDS_BETWEEN_INTRODUCTIONS) {
                    self.exchange_topics(node, false).await;
                }
            }
            // It was restarted so quickly that nobody saw it gone.
            Ok(false) => {
                node.close();
                self.open(node).await;
            }
            Err(_) => node.close(),
        }
    }

    /// Tells a node what the others know of their topics, and the others what it knows of its own;
    /// where it is as good as new, it is told of its own as well.
    pub(super) async fn exchange_topics(&self, node: &Arc<QueueNode>, is_new: bool) {
        let own = self.topics_on(node).await;
        for (topic, settings) in &own {
            if self.home(topic).node.shard == node.shard {
                self.introduce(topic, settings, node.shard).await;
            }
        }
        for other in self.nodes.iter().filter(|other| other.shard != node.shard) {
            for (topic, settings) in self.topics_on(other).await {
                let home = self.home(&topic).node.shard;
                if home == other.shard || (is_new && home == node.shard) {
                    self.write_settings(node, &topic, &settings).await;
                }
            }
        }
    }

    pub(super) async fn topics_on(&self, node: &QueueNode) -> Vec<(TopicName, String)> {
        if node.seen().is_none() {
            return Vec::new();
        }
        let mut command = redis::cmd("HGETALL");
        command.arg(format!("{}:topics", self.caller.keys));
        let topics = node.redis.run::<Vec<(String, String)>>(&command).await.unwrap_or_default();
        let named = |(name, settings)| Some((TopicName::new(name).ok()?, settings));
        topics.into_iter().filter_map(named).collect()
    }

    /// Tells all nodes of a topic but the one that knows.
    pub(super) async fn introduce(&self, topic: &TopicName, settings: &str, knows: ShardId) {
        let home = self.home(topic).node.shard;
        for node in self.nodes.iter().filter(|node| node.shard != knows) {
            // The home decides what its settings are.
            if node.shard != home {
                self.write_settings(node, topic, settings).await;
            }
        }
    }

    /// Tells every node but the home what the home was told.
    pub(super) async fn tell_settings(&self, topic: &TopicName, settings: &str) {
        self.introduce(topic, settings, self.home(topic).node.shard).await;
    }

    async fn write_settings(&self, node: &QueueNode, topic: &TopicName, settings: &str) {
        if node.seen().is_none() {
            return;
        }
        let mut command = redis::cmd("HSET");
        command.arg(format!("{}:topics", self.caller.keys)).arg(topic.as_str()).arg(settings);
        // Who does not hear it is told again when it is back.
        let _ = node.redis.run::<()>(&command).await;
    }
}
