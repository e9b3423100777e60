//! What nodes say to each other.

use bytes::Bytes;

use crate::config::Priority;
use crate::entry::{Entries, Snapshot};
use crate::types::{GroupId, LogId, LogIdentity, LogIndex, ReadId, Term};

/// What a [`Transport`](crate::Transport) carries from node to node.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Envelope {
    /// A message of one group.
    Message {
        /// The group on both sides.
        group: GroupId,
        /// The message.
        message: Message,
    },
    /// Messages of several groups that fell together: their heartbeats, and the answers to them.
    Messages(Vec<(GroupId, Message)>),
    /// A part of a snapshot is asked for.
    SnapshotRequest(SnapshotRequest),
    /// The answer.
    SnapshotPart(SnapshotPart),
}

/// Asks for the bytes of a snapshot from `offset` on. Who has it answers with one part; who wants
/// it asks for as many as it can take, and again where no answer comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotRequest {
    /// The group on both sides.
    pub group: GroupId,
    /// The descriptor under which it was offered.
    pub descriptor: Bytes,
    /// How many bytes of it come before the part that is asked for.
    pub offset: u64,
}

/// A part of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotPart {
    /// The group on both sides.
    pub group: GroupId,
    /// The descriptor under which it was offered.
    pub descriptor: Bytes,
    /// How many bytes of it come before this part.
    pub offset: u64,
    /// The bytes; `None` where there is no such snapshot (any more).
    pub content: Option<PartContent>,
}

/// The bytes of a [`SnapshotPart`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartContent {
    /// The bytes.
    pub bytes: Bytes,
    /// Whether the snapshot ends with them.
    pub is_last: bool,
    /// Their CRC-32C, from the disk of who sends them to the disk of who receives them.
    pub checksum: u32,
}

/// A message of one group. Every one carries the sender's term (section 5.1); any of them may be
/// lost, doubled, delayed or overtaken.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Message {
    /// The sender's term; of a pre-vote request, the term it would campaign in.
    pub term: Term,
    /// The sender's log: a member that has lost its own is noticed by it.
    pub log: LogIdentity,
    /// What it says.
    pub body: MessageBody,
}

/// A number for each round of messages a leader sends, rising within its term.
///
/// A read is confirmed by answers to a round begun after it (section 8 and dissertation 6.4);
/// the number is the core's own, so a repeated or late answer confirms nothing newer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Round(pub(crate) u64);

impl Round {
    /// The round with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The bare number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// What a [`Message`] says.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum MessageBody {
    /// Would you vote for me? Changes nothing at the receiver (dissertation 9.6).
    PreVoteRequest {
        /// The candidate's last entry.
        last: LogId,
        /// The candidate's priority: of two equal logs, the one of higher priority should lead.
        priority: Priority,
    },
    /// The answer; granted answers carry the term asked about, refusals the receiver's own.
    PreVoteResponse {
        /// Whether it would.
        granted: bool,
    },
    /// Vote for me (section 5.2).
    VoteRequest {
        /// The candidate's last entry (section 5.4.1).
        last: LogId,
        /// The leader asked for this campaign, so stickiness to it does not apply
        /// (dissertation 3.10).
        by_transfer: bool,
    },
    /// The answer.
    VoteResponse {
        /// Whether the vote is the candidate's.
        granted: bool,
    },
    /// Entries after `previous`; without entries a heartbeat (section 5.3).
    Append {
        /// The entry before the first one sent.
        previous: LogId,
        /// Entries to store.
        entries: Entries,
        /// The leader's commit index.
        commit: LogIndex,
        /// The leader's round in which this was sent.
        round: Round,
    },
    /// Everything up to `index` is committed. Sent, where there is nothing else to send, to a member
    /// that has acknowledged all of that. Nobody waits for an answer, so there is none.
    Committed {
        /// The leader's commit index.
        index: LogIndex,
    },
    /// The log matches the leader's up to `matched`, durably.
    AppendAccepted {
        /// The last entry known to match and to be durable.
        matched: LogIndex,
        /// The round that is answered.
        round: Round,
    },
    /// The log does not contain `previous`.
    AppendRejected {
        /// The `previous` that was refused: answers to older probes are recognised by it.
        previous: LogIndex,
        /// The last entry that could match: the end of a log that is too short, else the entry
        /// before the first one of the conflicting term, with its term.
        hint: LogId,
        /// The round that is answered.
        round: Round,
    },
    /// Replace log and state machine (figure 13). It offers the snapshot; the bytes are fetched
    /// beside the core, and the core of the receiver is given the offer once it has them.
    InstallSnapshot {
        /// What is offered, named by the descriptor of whoever holds the bytes.
        snapshot: Box<Snapshot>,
        /// The leader's round in which this was sent.
        round: Round,
    },
    /// From which index on is a read linearizable? Sent by a follower to the leader.
    ReadIndexRequest {
        /// The follower's name for the read.
        read: ReadId,
    },
    /// The answer, sent once the leader has confirmed that it leads.
    ReadIndexResponse {
        /// The follower's name for the read.
        read: ReadId,
        /// Serve the read once this index is applied; `None` where the receiver does not lead.
        index: Option<LogIndex>,
    },
    /// Campaign at once (dissertation 3.10).
    TimeoutNow,
}
