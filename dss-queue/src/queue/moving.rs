//! Topics move from shard to shard when the placement changes.
//!
//! ```text
//!   source                             target
//!   Place: topic is fenced             Place: topic is not served before it has come
//!   export (reads) ──────────────────► Import, part by part; the last one installs it
//!   Forget ◄────────────────────────── has taken it (a read)
//!                                      EndImports, once nothing of the source is missing
//! ```
//!
//! Each step is a command that does nothing a second time, and nothing in another epoch; whoever
//! drives them may stop anywhere, and another one goes on from what the shards say. What a fenced
//! topic holds does not change, so that its export is the same as often as it is read. It carries
//! the topic with its groups, leases and dedupe ids, and the shard's numbers and time, behind
//! which the target never falls: receipts are good at the target, and ids go on rising.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Queue;
use crate::command::{Event, Reply};
use crate::limits::IMPORT_PART_BYTES_MAX;
use crate::name::TopicName;
use crate::placement::{Ownership, Placement, Standing};
use crate::refusal::Refusal;
use crate::snapshot::{decode_export, encode_export};
use crate::time::UnixMillis;
use crate::topic::{Ids, Topic};

/// How far the part of a shard in a move is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Move {
    /// What the shard's numbers and time were when it took its place: what it fenced is older.
    ids: Ids,
    now: UnixMillis,
    /// What has come of topics that are not here in whole.
    parts: BTreeMap<TopicName, Vec<u8>>,
    /// The topics that have to go. Derived.
    #[serde(skip)]
    leaving: BTreeSet<TopicName>,
}

/// A topic on its way.
#[derive(Serialize, Deserialize)]
pub(crate) struct Export<T> {
    ids: Ids,
    now: UnixMillis,
    topic: T,
}

impl Queue {
    /// A queue that serves no topic before a [`Command::Place`](crate::Command::Place) gives it
    /// its place: for a shard that is added to others.
    #[must_use]
    pub fn outside() -> Self {
        Self { standing: Some(Box::new(Standing::outside())), ..Self::default() }
    }

    /// The placement that this shard goes by, and the one before; `None` before the first change.
    #[must_use]
    pub fn placements(&self) -> Option<(&Placement, &Placement)> {
        self.standing.as_ref().map(|standing| (&standing.previous, &standing.current))
    }

    /// The epoch of the placement that this shard goes by.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.standing.as_ref().map_or(0, |standing| standing.current.epoch())
    }

    /// Whether this shard serves the topic; one that was never placed serves all.
    #[must_use]
    pub fn ownership(&self, topic: &TopicName) -> Ownership {
        self.standing.as_ref().map_or(Ownership::Here, |standing| standing.ownership(topic))
    }

    /// Whether nothing has to come or go any more for the placement of this shard to be real.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.standing.as_ref().is_none_or(|standing| standing.sources.is_empty())
            && self.moving.leaving.is_empty()
    }

    /// The topics that have to go, with the shards that are to keep them.
    pub fn leaving(&self) -> impl Iterator<Item = (&TopicName, &str)> {
        let leaving = &self.moving.leaving;
        self.standing.iter().flat_map(move |standing| {
            leaving.iter().filter_map(|topic| Some((topic, standing.current.owner(topic)?)))
        })
    }

    /// The shards from which topics may come.
    pub fn sources(&self) -> impl Iterator<Item = &str> {
        self.standing.iter().flat_map(|standing| &standing.sources).map(String::as_str)
    }

    /// The topics that leave for `target`; `None` where this shard is not in that epoch, so that
    /// nobody knows yet.
    #[must_use]
    pub fn departing(&self, epoch: u64, target: &str) -> Option<Vec<TopicName>> {
        let goes = |(topic, owner): (&TopicName, &str)| (owner == target).then(|| topic.clone());
        (self.epoch() == epoch).then(|| self.leaving().filter_map(goes).collect())
    }

    /// Those of the topics of `source` that have not come.
    #[must_use]
    pub fn missing(&self, source: &str, topics: Vec<TopicName>) -> Vec<TopicName> {
        let epoch = self.epoch();
        topics.into_iter().filter(|topic| !self.has_taken(epoch, source, topic)).collect()
    }

    /// Whether what `source` had of the topic is here in this epoch, so that it may be forgotten
    /// there. In a later epoch it is: none begins before every topic has come.
    #[must_use]
    pub fn has_taken(&self, epoch: u64, source: &str, topic: &TopicName) -> bool {
        let Some(standing) = &self.standing else { return false };
        match standing.current.epoch() {
            current if current < epoch => false,
            current if current > epoch => true,
            _ => standing.arrived.contains(topic) || !standing.sources.contains(source),
        }
    }

    /// How many bytes of a topic's export are here, of one that is not here in whole.
    #[must_use]
    pub fn imported_bytes(&self, topic: &TopicName) -> u64 {
        self.moving.parts.get(topic).map_or(0, |part| part.len() as u64)
    }

    /// The topic as it leaves this shard, the same as often as it is asked for; `None` where it
    /// does not leave, or is not there.
    #[must_use]
    pub fn export(&self, topic: &TopicName) -> Option<Bytes> {
        if self.ownership(topic) != Ownership::Elsewhere {
            return None;
        }
        let Move { ids, now, .. } = &self.moving;
        let topic = self.topics.get(topic)?;
        Some(encode_export(&Export { ids: ids.clone(), now: *now, topic }))
    }

    pub(super) fn place(
        &mut self,
        shard: String,
        previous: Placement,
        current: Placement,
        events: &mut Vec<Event>,
    ) -> Result<Reply, Refusal> {
        let epoch = self.epoch();
        let again = self.standing.as_ref().is_some_and(|it| it.current == current);
        if again {
            return Ok(Reply::Done);
        }
        // A shard without a place serves whatever it is asked for. Before any topic changes hands
        // each one must know its own, or it would take what another one is about to hand over.
        let is_founded = self.standing.is_some() || current.spreads_like(&previous);
        let follows = is_founded && (epoch == 0 || current.epoch() == epoch + 1);
        if !follows || current.epoch() <= previous.epoch() || current.shards().next().is_none() {
            return Err(Refusal::Moved { epoch });
        }
        if !self.is_settled() {
            return Err(Refusal::Moved { epoch });
        }
        self.moving = Move { ids: self.ids.clone(), now: self.now, ..Move::default() };
        self.standing = Some(Box::new(Standing::new(shard, previous, current)));
        self.fence();
        events.push(Event::Placed);
        Ok(Reply::Done)
    }

    /// What goes does not change any more, not even by itself.
    pub(super) fn fence(&mut self) {
        let Some(standing) = &self.standing else { return };
        let goes = |topic: &&TopicName| standing.ownership(topic) == Ownership::Elsewhere;
        self.moving.leaving = self.topics.keys().filter(goes).cloned().collect();
        self.deadlines.retain(|(_, topic)| !self.moving.leaving.contains(topic));
    }

    pub(super) fn import(
        &mut self,
        epoch: u64,
        source: &str,
        topic: TopicName,
        offset: u64,
        bytes: &[u8],
        last: bool,
    ) -> Result<Reply, Refusal> {
        self.check_epoch(epoch)?;
        if bytes.len() > IMPORT_PART_BYTES_MAX {
            return Err(Refusal::TooLarge { what: "a part", bytes_max: IMPORT_PART_BYTES_MAX });
        }
        let is_missing = self.ownership(&topic) == Ownership::Arriving
            && self.standing.as_ref().is_some_and(|it| it.previous.owner(&topic) == Some(source));
        if !is_missing {
            return Ok(Reply::Imported { bytes: offset + bytes.len() as u64 });
        }
        let part = self.moving.parts.entry(topic.clone()).or_default();
        if offset != part.len() as u64 {
            return Ok(Reply::Imported { bytes: part.len() as u64 });
        }
        part.extend_from_slice(bytes);
        let length = part.len() as u64;
        if last {
            let whole = self.moving.parts.remove(&topic).unwrap_or_default();
            let arrival = decode_export(&whole).map_err(|_| Refusal::Malformed)?;
            self.install(topic, arrival)?;
        }
        Ok(Reply::Imported { bytes: length })
    }

    fn install(&mut self, name: TopicName, export: Export<Topic>) -> Result<(), Refusal> {
        let Export { ids, now, mut topic } = export;
        if !ids.are_in_reach() {
            return Err(Refusal::Malformed);
        }
        topic.rebuild(&ids).map_err(|_| Refusal::Malformed)?;
        self.ids.pass(&ids);
        self.now = self.now.max(now);
        // It comes whether or not there is room: refusing it would make nothing smaller.
        self.remove(&name);
        self.bytes += topic.bytes();
        self.deadlines.extend(topic.deadline().map(|at| (at, name.clone())));
        self.topics.insert(name.clone(), topic);
        if let Some(standing) = &mut self.standing {
            standing.arrived.insert(name);
        }
        Ok(())
    }

    pub(super) fn end_imports(&mut self, epoch: u64, source: &str) -> Result<Reply, Refusal> {
        self.check_epoch(epoch)?;
        if let Some(standing) = &mut self.standing {
            standing.sources.remove(source);
            if standing.sources.is_empty() {
                standing.arrived.clear();
                self.moving.parts.clear();
            }
        }
        Ok(Reply::Done)
    }

    pub(super) fn forget(
        &mut self,
        epoch: u64,
        topic: TopicName,
        events: &mut Vec<Event>,
    ) -> Result<Reply, Refusal> {
        self.check_epoch(epoch)?;
        if self.ownership(&topic) != Ownership::Elsewhere {
            return Err(Refusal::Moved { epoch });
        }
        self.moving.leaving.remove(&topic);
        if self.remove(&topic) {
            events.push(Event::Left { topic });
        }
        Ok(Reply::Done)
    }

    /// Whether a command for this topic may be done here.
    pub(super) fn check_ownership(&self, topic: &TopicName) -> Result<(), Refusal> {
        match self.ownership(topic) {
            Ownership::Here => Ok(()),
            Ownership::Elsewhere | Ownership::Arriving => {
                Err(Refusal::Moved { epoch: self.epoch() })
            }
        }
    }

    fn check_epoch(&self, epoch: u64) -> Result<(), Refusal> {
        let current = self.epoch();
        if current == epoch { Ok(()) } else { Err(Refusal::Moved { epoch: current }) }
    }
}
