//! Which shard keeps which topic.

use std::collections::BTreeSet;

use dss_ring::{HashRing, Weight};
use serde::{Deserialize, Serialize};

use crate::limits::{NAME_BYTES_MAX, SHARDS_MAX};
use crate::name::TopicName;
use crate::refusal::Refusal;

/// The shards that topics are spread over: a consistent hash ring of their names, with an epoch.
///
/// Each change makes a placement of the next epoch. Of two placements the one with the greater
/// epoch holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Parts", into = "Parts")]
pub struct Placement {
    epoch: u64,
    ring: HashRing<String>,
}

/// A placement as it is written down: the points of the ring follow from the names.
#[derive(Serialize, Deserialize)]
struct Parts {
    epoch: u64,
    shards: BTreeSet<String>,
}

impl Placement {
    /// The placement of this epoch over these shards.
    ///
    /// # Errors
    ///
    /// [`Refusal::Invalid`] where there are more than [`SHARDS_MAX`] of them, or a name is empty
    /// or longer than [`NAME_BYTES_MAX`].
    pub fn new(epoch: u64, shards: BTreeSet<String>) -> Result<Self, Refusal> {
        if shards.len() > SHARDS_MAX {
            return Err(Refusal::invalid("shards", "must not be more than 256"));
        }
        if shards.iter().any(|shard| shard.is_empty() || shard.len() > NAME_BYTES_MAX) {
            return Err(Refusal::invalid("shards", "must have names of 1 to 512 bytes"));
        }
        let nodes = shards.into_iter().map(|shard| (shard, Weight::ONE));
        let ring = HashRing::new(nodes).expect("the names are distinct and far from too many");
        Ok(Self { epoch, ring: ring.with_epoch(epoch) })
    }

    /// How many changes led to it.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The shard that is to keep this topic; `None` where there is no shard.
    #[must_use]
    pub fn owner(&self, topic: &TopicName) -> Option<&str> {
        self.ring.owner(topic.as_str().as_bytes()).map(String::as_str)
    }

    /// The shards, by name.
    pub fn shards(&self) -> impl Iterator<Item = &str> {
        self.ring.nodes().map(|(shard, _)| shard.as_str())
    }

    /// The shards of which `shard` takes over a part where `next` follows this placement.
    fn sources(&self, next: &Self, shard: &str) -> BTreeSet<String> {
        let plan = self.ring.diff(&next.ring, 1);
        let gained = plan.handovers.iter().filter(|it| it.gaining.iter().any(|by| *by == shard));
        gained.flat_map(|handover| &handover.holders).map(|holder| (*holder).clone()).collect()
    }

    /// Whether no topic changes hands where one follows the other.
    pub(crate) fn spreads_like(&self, other: &Self) -> bool {
        self.ring == other.ring
    }

    fn is_owner(&self, shard: &str, topic: &TopicName) -> bool {
        self.owner(topic) == Some(shard)
    }
}

impl TryFrom<Parts> for Placement {
    type Error = Refusal;

    fn try_from(Parts { epoch, shards }: Parts) -> Result<Self, Refusal> {
        Self::new(epoch, shards)
    }
}

impl From<Placement> for Parts {
    fn from(placement: Placement) -> Self {
        let shards = placement.shards().map(str::to_owned).collect();
        Self { epoch: placement.epoch, shards }
    }
}

/// Whether a shard serves a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    /// It does.
    Here,
    /// Another one is to keep it, and what is here of it does not change any more.
    Elsewhere,
    /// It is to keep it, but what another one has of it may not be here yet.
    Arriving,
}

/// What a shard knows of placements, and how far its part of the latest change is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Standing {
    /// What the ring calls this shard.
    pub(crate) shard: String,
    pub(crate) previous: Placement,
    pub(crate) current: Placement,
    /// Shards that may have topics which this one is to keep from now on.
    pub(crate) sources: BTreeSet<String>,
    /// The topics that have come from one of them. They are known by name until all have come,
    /// whatever became of them since: none comes twice.
    pub(crate) arrived: BTreeSet<TopicName>,
}

impl Standing {
    /// Of a shard that keeps nothing until it is given its place.
    pub(crate) fn outside() -> Self {
        let nowhere = Placement::new(0, BTreeSet::new()).expect("no shard is not too many");
        Self {
            shard: String::new(),
            previous: nowhere.clone(),
            current: nowhere,
            sources: BTreeSet::new(),
            arrived: BTreeSet::new(),
        }
    }

    /// Of the shard of this name, once `current` follows `previous`.
    pub(crate) fn new(shard: String, previous: Placement, current: Placement) -> Self {
        let sources = previous.sources(&current, &shard);
        Self { shard, previous, current, sources, arrived: BTreeSet::new() }
    }

    pub(crate) fn ownership(&self, topic: &TopicName) -> Ownership {
        if !self.current.is_owner(&self.shard, topic) {
            return Ownership::Elsewhere;
        }
        if self.sources.is_empty() || self.arrived.contains(topic) {
            return Ownership::Here;
        }
        match self.previous.owner(topic) {
            Some(owner) if self.sources.contains(owner) => Ownership::Arriving,
            _ => Ownership::Here,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placement(epoch: u64, shards: &[&str]) -> Placement {
        Placement::new(epoch, shards.iter().map(|shard| (*shard).to_owned()).collect()).unwrap()
    }

    #[test]
    fn a_topic_is_served_by_one_shard_at_most() {
        let (old, new) = (placement(1, &["a", "b"]), placement(2, &["a", "b", "c"]));
        let shards = ["a", "b", "c"];
        let standings =
            shards.map(|shard| Standing::new(shard.to_owned(), old.clone(), new.clone()));
        assert_eq!(standings[2].sources.iter().collect::<Vec<_>>(), ["a", "b"]);
        assert!(standings[0].sources.is_empty() && standings[1].sources.is_empty());
        let mut moved = 0;
        for number in 0..300 {
            let topic = TopicName::new(format!("topic-{number}")).unwrap();
            let states = standings.each_ref().map(|it| it.ownership(&topic));
            let here = states.iter().filter(|state| **state == Ownership::Here).count();
            if new.owner(&topic) == old.owner(&topic) {
                assert_eq!(here, 1);
            } else {
                assert_eq!((here, states[2]), (0, Ownership::Arriving));
                moved += 1;
            }
        }
        assert!((50..150).contains(&moved), "{moved} of 300");
    }

    #[test]
    fn what_stays_is_served_while_other_topics_come() {
        let (old, new) = (placement(1, &["a", "b"]), placement(2, &["a"]));
        let standing = Standing::new("a".to_owned(), old.clone(), new);
        for number in 0..100 {
            let topic = TopicName::new(format!("topic-{number}")).unwrap();
            let stays = old.owner(&topic) == Some("a");
            let state = if stays { Ownership::Here } else { Ownership::Arriving };
            assert_eq!(standing.ownership(&topic), state, "{topic}");
        }
    }

    #[test]
    fn what_has_come_or_comes_from_nobody_is_served() {
        let (old, new) = (placement(1, &["a"]), placement(2, &["b"]));
        let mut standing = Standing::new("b".to_owned(), old, new);
        let topic = TopicName::new("t").unwrap();
        assert_eq!(standing.ownership(&topic), Ownership::Arriving);
        standing.arrived.insert(topic.clone());
        assert_eq!(standing.ownership(&topic), Ownership::Here);
        standing.arrived.clear();
        standing.sources.clear();
        assert_eq!(standing.ownership(&topic), Ownership::Here);
        assert_eq!(Standing::outside().ownership(&topic), Ownership::Elsewhere);
    }

    #[test]
    fn shards_are_few_and_have_names() {
        let many = (0..=SHARDS_MAX).map(|number| number.to_string()).collect();
        assert!(Placement::new(1, many).is_err());
        assert!(Placement::new(1, [String::new()].into()).is_err());
    }
}
