//! Where a topic is kept, and how a transition is asked for there.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use dss_queue::{BrokerError, ShardId, TopicName};
use redis::{Script, ScriptInvocation, ToRedisArgs};
use tokio::sync::watch;

use super::answer::{Fields, Strange};
use super::scripts::Scripts;
use crate::redis::{RedisFailure, RedisNode};

/// A Redis server as the queue sees it.
pub(super) struct QueueNode {
    pub(super) redis: Arc<RedisNode>,
    /// The origin in the ids that are given there.
    pub(super) shard: ShardId,
    /// What it is marked with, while it is used. Every transition shows the mark, and a server that
    /// lost it, with everything else, does nothing.
    pub(super) mark: watch::Sender<Option<String>>,
    /// Since it was looked at: it can be asked for shadows that it keeps, and be restored.
    seen: Mutex<Option<Seen>>,
}

/// A server as it was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) mark: String,
    /// The connection over which it was looked at. On a later one it may be there with less than
    /// it had, and the same mark.
    pub(super) connection: u64,
}

impl QueueNode {
    pub(super) fn new(redis: Arc<RedisNode>) -> Self {
        let shard = shard_of(redis.name());
        Self { redis, shard, mark: watch::Sender::new(None), seen: Mutex::default() }
    }

    pub(super) fn name(&self) -> &str {
        self.redis.name()
    }

    /// Whether it can be asked for something.
    pub(super) fn is_open(&self) -> bool {
        self.mark.borrow().is_some()
    }

    /// What it was found to be, where it can be asked for shadows.
    pub(super) fn seen(&self) -> Option<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// It was looked at, and is not used yet.
    pub(super) fn see(&self, seen: Seen) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
    }

    /// From here on it is used, as what it was seen to be.
    pub(super) fn open(&self, seen: Seen) {
        let open = Some(seen.mark.clone());
        self.see(seen);
        self.mark.send_if_modified(|mark| {
            let changed = *mark != open;
            *mark = open;
            changed
        });
    }

    /// It is not used until somebody has looked at it.
    pub(super) fn close(&self) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.mark.send_if_modified(|mark| mark.take().is_some());
    }
}

/// FNV-1a, 32 bits: written down because ids that are kept somewhere depend on it.
fn shard_of(name: &str) -> ShardId {
    let step = |hash: u32, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    ShardId::new(name.bytes().fold(0x811c_9dc5, step))
}

/// A shard as ids write it.
pub(super) fn shard_text(shard: ShardId) -> String {
    format!("{:08x}", shard.get())
}

/// An instance of a topic: at its home, or a hand-off that another node keeps for the home.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) node: Arc<QueueNode>,
    pub(super) topic: TopicName,
    /// Whose it is, where it is a hand-off.
    pub(super) home: Option<ShardId>,
}

impl fmt::Debug for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} at {}", self.topic, self.node.name())?;
        match self.home {
            Some(home) => write!(formatter, " for {}", shard_text(home)),
            None => Ok(()),
        }
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CallError {
    /// Surely not done: another node may be asked.
    NotDone,
    /// It may have been done.
    Unknown,
    /// Refused by the server, or answered strangely; asking again would not help.
    Refused,
    /// Refused since it is full.
    Full,
}

impl From<CallError> for BrokerError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::NotDone | CallError::Refused => Self::Unavailable,
            CallError::Unknown => Self::OutcomeUnknown,
            CallError::Full => Self::Overloaded,
        }
    }
}

impl From<Strange> for CallError {
    fn from(_: Strange) -> Self {
        Self::Refused
    }
}

impl CallError {
    pub(super) fn of(failure: &RedisFailure) -> Self {
        match failure {
            RedisFailure::NotExecuted { .. } => Self::NotDone,
            RedisFailure::OutcomeUnknown { .. } => Self::Unknown,
            RedisFailure::Refused { reason, .. } if reason.contains("OOM") => Self::Full,
            RedisFailure::Refused { .. } => {
                tracing::error!("{failure}");
                Self::Refused
            }
        }
    }
}

/// An answer: a word, and what follows it.
pub(super) struct Answer {
    pub(super) word: String,
    pub(super) fields: Fields,
    /// What the server was known by.
    pub(super) mark: String,
}

/// What every transition is told before its own arguments.
pub(super) struct Preamble<'a> {
    /// What all keys of the instance begin with.
    pub(super) instance: String,
    pub(super) topic: &'a str,
    /// The home, where the instance is a hand-off; [`ELSEWHERE`] where it is none at all.
    pub(super) home: String,
}

/// In place of a home: what is asked about is no place of this server.
pub(super) const ELSEWHERE: &str = "~";

/// Asks for transitions.
pub(super) struct Caller {
    /// What every key of the queue begins with.
    pub(super) keys: String,
    pub(super) scripts: Scripts,
    /// The time in tests that set it; Redis's own where there is none.
    #[cfg(test)]
    pub(super) now: std::sync::Mutex<Option<u64>>,
}

impl Caller {
    pub(super) fn new(keys: String) -> Self {
        Self {
            keys,
            scripts: Scripts::new(),
            #[cfg(test)]
            now: std::sync::Mutex::default(),
        }
    }

    /// The stream, and what all other keys of the instance begin with.
    pub(super) fn instance(&self, place: &Place) -> String {
        let home = place.home.map_or_else(String::new, |home| format!("@{}", shard_text(home)));
        format!("{}:{{{}}}{home}", self.keys, place.topic)
    }

    fn preamble<'a>(&self, place: &'a Place) -> Preamble<'a> {
        Preamble {
            instance: self.instance(place),
            topic: place.topic.as_str(),
            home: place.home.map_or_else(String::new, shard_text),
        }
    }

    /// Asks for a transition; `arguments` are its own.
    pub(super) async fn call<A: ToRedisArgs>(
        &self,
        place: &Place,
        script: &Script,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Answer, CallError> {
        if !place.node.is_open() {
            return Err(CallError::NotDone);
        }
        self.call_closed(&place.node, self.preamble(place), script, arguments).await
    }

    /// The same at a place whose server is being restored.
    pub(super) async fn call_place<A: ToRedisArgs>(
        &self,
        place: &Place,
        script: &Script,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Answer, CallError> {
        self.call_closed(&place.node, self.preamble(place), script, arguments).await
    }

    /// Asks a server for something that it need not be open for.
    pub(super) async fn call_closed<A: ToRedisArgs>(
        &self,
        node: &QueueNode,
        preamble: Preamble<'_>,
        script: &Script,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Answer, CallError> {
        let Some(Seen { mark, connection }) = node.seen() else { return Err(CallError::NotDone) };
        let mut invocation = script.prepare_invoke();
        self.begin(&mut invocation, node, preamble, &mark);
        for argument in arguments {
            invocation.arg(argument);
        }
        let mut fields: Fields = match node.redis.script_on(connection, &invocation).await {
            Ok(fields) => fields,
            Err(failure) => {
                let error = CallError::of(&failure);
                if matches!(error, CallError::NotDone | CallError::Unknown) {
                    node.close();
                }
                return Err(error);
            }
        };
        let word = fields.text()?;
        if word == "STRANGER" {
            node.close();
            return Err(CallError::NotDone);
        }
        Ok(Answer { word, fields, mark })
    }

    fn begin(
        &self,
        invocation: &mut ScriptInvocation<'_>,
        node: &QueueNode,
        preamble: Preamble<'_>,
        mark: &str,
    ) {
        #[cfg(test)]
        let now = self.now.lock().unwrap().map_or_else(String::new, |now| now.to_string());
        #[cfg(not(test))]
        let now = "";
        invocation
            .key(preamble.instance)
            .key(&self.keys)
            .arg(now)
            .arg(shard_text(node.shard))
            .arg(preamble.topic)
            .arg(preamble.home)
            .arg(mark);
    }

    /// What a client that knows nothing of brokers says first.
    #[cfg(test)]
    pub(super) fn begin_at(
        &self,
        invocation: &mut ScriptInvocation<'_>,
        place: &Place,
        mark: &str,
    ) {
        self.begin(invocation, &place.node, self.preamble(place), mark);
    }
}
