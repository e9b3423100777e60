//! Why a command is refused.

/// Why the queue did not do what a command asks. Nothing of the command was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// There is no such topic, or it has no such group.
    #[error("there is no such topic or group")]
    NotFound,
    /// A value is out of its range.
    #[error("{field} {problem}")]
    Invalid {
        /// Which.
        field: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A payload, the headers of a message or a batch has too many bytes.
    #[error("{what} must not have more than {bytes_max} bytes")]
    TooLarge {
        /// Which.
        what: &'static str,
        /// How many there may be.
        bytes_max: usize,
    },
    /// The shard keeps [`STORED_BYTES_MAX`](crate::limits::STORED_BYTES_MAX): consumers must
    /// catch up first.
    #[error("the shard is full")]
    Full,
    /// The topic keeps as much as its settings allow, and they refuse more.
    #[error("the topic is full")]
    TopicFull,
    /// The shard has [`TOPICS_MAX`](crate::limits::TOPICS_MAX) topics.
    #[error("there are too many topics")]
    TooManyTopics,
    /// The topic has [`GROUPS_MAX`](crate::limits::GROUPS_MAX) groups.
    #[error("the topic has too many groups")]
    TooManyGroups,
    /// The group has [`IN_FLIGHT_MAX`](crate::limits::IN_FLIGHT_MAX) messages in flight:
    /// consumers must settle some first.
    #[error("the group has too many messages in flight")]
    TooManyInFlight,
    /// Somebody who got the lock later has published.
    #[error("the fencing token is stale: {newest} is the newest")]
    Fenced {
        /// The newest token under which was published.
        newest: u64,
    },
    /// The topic remembers [`FENCES_MAX`](crate::limits::FENCES_MAX) locks, all of which were used
    /// within [`FENCE_MEMORY`](crate::limits::FENCE_MEMORY).
    #[error("the topic is published to under too many locks")]
    TooManyFences,
    /// Another shard is to keep the topic, or what there is of it is not here yet; or the step of
    /// a move belongs to another epoch.
    #[error("another shard keeps the topic, or it is on its way here")]
    Moved {
        /// The epoch of the placement that the shard goes by.
        epoch: u64,
    },
    /// The bytes of the command are none.
    #[error("the command cannot be read")]
    Malformed,
}

impl Refusal {
    pub(crate) const fn invalid(field: &'static str, problem: &'static str) -> Self {
        Self::Invalid { field, problem }
    }
}
