//! Copies of messages on a second server.
//!
//! What a place keeps is copied to a *shadow* on another server: its messages as they are published
//! or brought home, and now and then what its groups have done. A shadow serves nobody. It is named
//! after the mark that the place's server had, so that what is copied after that server was begun
//! anew is never taken for what it had before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, MutexGuard, PoisonError};

use bytes::Bytes;
use dss_queue::{BrokerError, MessageId, NewMessage, ShardId, TopicName};
use redis::{Script, ToRedisArgs};

use super::answer::Fields;
use super::place::{Answer, CallError, ELSEWHERE, Place, Preamble, QueueNode, shard_text};
use super::settings::millis;
use super::shared::Shared;

/// How many servers have a message that was acknowledged to its producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Copies {
    /// The one that keeps it.
    One,
    /// That one, and another one that keeps a shadow.
    Two,
}

impl Copies {
    /// As many as so many servers keep where nothing is said: two where a second one is there while
    /// one is down.
    pub(crate) fn of_servers(count: usize) -> Self {
        if count >= 3 { Self::Two } else { Self::One }
    }

    /// So many, if there are as many servers; else what is wrong.
    pub(crate) fn new(copies: u64, servers: usize) -> Result<Self, String> {
        let copies = match copies {
            1 => Self::One,
            2 => Self::Two,
            _ => return Err("must be 1 or 2".to_owned()),
        };
        copies.check(servers)?;
        Ok(copies)
    }

    /// Whether there are servers enough; else what is wrong.
    pub(crate) fn check(self, servers: usize) -> Result<(), String> {
        let copies = self.count();
        if copies <= servers {
            return Ok(());
        }
        Err(format!("{copies} copies need as many Redis servers, and there are {servers}"))
    }

    /// How many.
    pub(crate) fn count(self) -> usize {
        match self {
            Self::One => 1,
            Self::Two => 2,
        }
    }
}

/// What a server keeps of a place that another one has.
#[derive(Clone)]
pub(super) struct Shadow {
    pub(super) node: Arc<QueueNode>,
    pub(super) of: Place,
    /// What the place's server was known by.
    pub(super) mark: String,
}

/// Names a place: its server, its home where it is a hand-off, and the topic.
pub(super) type PlaceName = (ShardId, Option<ShardId>, TopicName);

/// Which places were worked at, and where their shadows are.
#[derive(Default)]
pub(super) struct Notes {
    /// Since their shadows were told last.
    pub(super) touched: BTreeSet<PlaceName>,
    pub(super) holders: BTreeMap<PlaceName, BTreeSet<ShardId>>,
    /// All shadows are to be gone through: a server was opened that may keep some.
    pub(super) is_list_due: bool,
}

/// A member of a server's list of shadows.
pub(super) struct Listed {
    pub(super) keeper: ShardId,
    pub(super) mark: String,
    pub(super) home: Option<ShardId>,
    pub(super) topic: TopicName,
}

impl Listed {
    /// Reads `<shard> <mark> <home or -> <topic>`.
    pub(super) fn parse(member: &str) -> Option<Self> {
        let mut parts = member.splitn(4, ' ');
        let shard = |text: &str| Some(ShardId::new(u32::from_str_radix(text, 16).ok()?));
        let keeper = shard(parts.next()?)?;
        let mark = parts.next()?.to_owned();
        let home = match parts.next()? {
            "-" => None,
            home => Some(shard(home)?),
        };
        Some(Self { keeper, mark, home, topic: TopicName::new(parts.next()?).ok()? })
    }
}

/// The generation in a mark; 0 where there is none.
pub(super) fn generation(mark: &str) -> u64 {
    mark.split_once('-').and_then(|(number, _)| number.parse().ok()).unwrap_or(0)
}

impl Place {
    pub(super) fn name(&self) -> PlaceName {
        (self.node.shard, self.home, self.topic.clone())
    }
}

impl Shadow {
    /// How the list of shadows writes it.
    pub(super) fn member(&self) -> String {
        let home = self.of.home.map_or_else(|| "-".to_owned(), shard_text);
        format!("{} {} {home} {}", shard_text(self.of.node.shard), self.mark, self.of.topic)
    }
}

impl Shared {
    pub(super) fn notes(&self) -> MutexGuard<'_, Notes> {
        // Nothing that is done under this lock can be left half done.
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What all keys of a shadow begin with.
    pub(super) fn prefix(&self, shadow: &Shadow) -> String {
        let instance = self.caller.instance(&shadow.of);
        format!("{instance}~{}~{}", shard_text(shadow.of.node.shard), shadow.mark)
    }

    /// The other servers, in the order in which they are to keep shadows.
    pub(super) fn others(&self, place: &Place) -> Vec<Arc<QueueNode>> {
        let places = self.places(&place.topic).into_iter().map(|other| other.node);
        places.filter(|node| node.shard != place.node.shard).collect()
    }

    /// Asks for something of a shadow.
    pub(super) async fn ask_shadow(
        &self,
        shadow: &Shadow,
        script: &Script,
        arguments: Vec<Bytes>,
    ) -> Result<Fields, CallError> {
        let mut all = vec![
            Argument(shard_text(shadow.of.node.shard).into()),
            Argument(shadow.mark.clone().into()),
            Argument(shadow.of.home.map_or_else(String::new, shard_text).into()),
        ];
        all.extend(arguments.into_iter().map(Argument));
        let preamble = Preamble {
            instance: self.prefix(shadow),
            topic: shadow.of.topic.as_str(),
            home: ELSEWHERE.to_owned(),
        };
        let Answer { word, fields, .. } =
            self.caller.call_closed(&shadow.node, preamble, script, all).await?;
        match word.as_str() {
            "OK" => Ok(fields),
            // The place was begun anew, perhaps without what is to be copied.
            _ => Err(CallError::Unknown),
        }
    }

    /// Copies what was just published to a second server: only then is it promised.
    pub(super) async fn copy_published(
        &self,
        place: &Place,
        mark: String,
        messages: &[NewMessage],
        ids: &[MessageId],
        mut fields: Fields,
    ) -> Result<(), BrokerError> {
        if self.copies == Copies::One {
            return Ok(());
        }
        let at = fields.number()?;
        let known = fields.list()?.each(|it| it.text())?;
        let known: BTreeMap<usize, &str> = known
            .chunks_exact(2)
            .filter_map(|pair| Some((pair[0].parse().ok()?, pair[1].as_str())))
            .collect();
        let mut arguments = vec![Bytes::from(at.to_string())];
        for (number, (message, id)) in messages.iter().zip(ids).enumerate() {
            let sequence = match known.get(&number) {
                // It was done with since: nothing is left to be lost.
                Some(&"") => continue,
                Some(sequence) => (*sequence).to_owned(),
                None => id.sequence().to_string(),
            };
            arguments.extend(argument_list(message, &sequence, *id)?);
        }
        if arguments.len() == 1 {
            return Ok(());
        }
        self.copy(place, mark, &self.caller.scripts.copy, arguments).await.map_err(|error| {
            tracing::debug!("no second server keeps what was published at {place:?}: {error:?}");
            BrokerError::OutcomeUnknown
        })
    }

    /// Forgets what is kept of a deleted topic. What is missed here is forgotten once its place has
    /// been asked for an account.
    pub(super) async fn erase_shadows(&self, topic: &TopicName) {
        if self.copies == Copies::One {
            return;
        }
        for node in &self.nodes {
            let preamble = Preamble {
                instance: self.caller.keys.clone(),
                topic: topic.as_str(),
                home: ELSEWHERE.to_owned(),
            };
            let none: [&str; 0] = [];
            let script = &self.caller.scripts.erase;
            let _ = self.caller.call_closed(node, preamble, script, none).await;
        }
    }

    /// Has the first server that can keep something for the shadow of a place.
    pub(super) async fn copy(
        &self,
        place: &Place,
        mark: String,
        script: &Script,
        arguments: Vec<Bytes>,
    ) -> Result<(), CallError> {
        let mut shadow = Shadow { node: Arc::clone(&place.node), of: place.clone(), mark };
        let mut failure = CallError::NotDone;
        for node in self.others(place) {
            shadow.node = node;
            match self.ask_shadow(&shadow, script, arguments.clone()).await {
                Ok(_) => {
                    let mut notes = self.notes();
                    notes.holders.entry(place.name()).or_default().insert(shadow.node.shard);
                    notes.touched.insert(place.name());
                    return Ok(());
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }
}

/// One argument, without a copy.
struct Argument(Bytes);

impl ToRedisArgs for Argument {
    fn write_redis_args<W: ?Sized + redis::RedisWrite>(&self, out: &mut W) {
        out.write_arg(&self.0);
    }
}

fn argument_list(
    message: &NewMessage,
    sequence: &str,
    id: MessageId,
) -> Result<[Bytes; 7], BrokerError> {
    let or_empty = |text: &Option<String>| text.clone().map_or_else(Bytes::new, Bytes::from);
    Ok([
        Bytes::from(sequence.to_owned()),
        Bytes::from(id.to_string()),
        message.payload.clone(),
        or_empty(&message.key),
        Bytes::from(super::broker::headers_of(message)?),
        Bytes::from(millis(message.delay).to_string()),
        or_empty(&message.dedupe_id),
    ])
}
