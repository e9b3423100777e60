//! What a leader knows of one other member.

use std::collections::VecDeque;

use crate::message::Round;
use crate::types::{LogId, LogIndex, NodeId, Timestamp};

/// One other member, as its leader sees it (figure 2, volatile state on leaders).
///
/// Invariants: `matched < next`; `matched` never falls within a term.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) node: NodeId,
    pub(super) voter: bool,
    /// The last entry known to match and to be durable there.
    pub(super) matched: LogIndex,
    /// The next entry to send.
    pub(super) next: LogIndex,
    pub(super) mode: Mode,
    /// The newest round that it answered.
    pub(super) answered: Round,
    /// When it was last heard of.
    pub(super) heard: Timestamp,
    /// Whether the next outputs must hold a message for it.
    pub(super) heartbeat_due: bool,
    /// The greatest commit index that it was told.
    pub(super) commit_told: LogIndex,
}

/// How entries are sent to a member.
///
/// ```text
///            accepted                     behind the log's base
///   Probe ─────────────▶ Replicate     Probe ────────────────▶ Snapshot
///     ▲                      │           ▲                        │
///     └────── rejected ──────┘           └─────── installed ──────┘ (and on to Replicate)
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mode {
    /// Looking for the last common entry, one message at a time.
    Probe {
        /// Whether one is under way; a heartbeat repeats it without entries.
        waiting: bool,
    },
    /// Streaming: `next` runs ahead of `matched` by what is in flight.
    Replicate {
        /// The last entry of each message that is not answered.
        in_flight: VecDeque<LogIndex>,
    },
    /// Being sent a snapshot.
    Snapshot {
        /// The last entry of it.
        last: LogId,
        /// When to send it again.
        resend_at: Timestamp,
    },
}

impl Peer {
    pub(super) fn new(node: NodeId, voter: bool, next: LogIndex, now: Timestamp) -> Self {
        Self {
            node,
            voter,
            matched: LogIndex::ZERO,
            next,
            mode: Mode::Probe { waiting: false },
            answered: Round::default(),
            heard: now,
            heartbeat_due: true,
            commit_told: LogIndex::ZERO,
        }
    }

    /// Takes note of an answer to `round`; answers to rounds that were never begun count as
    /// answers to the `newest`.
    pub(super) fn answers(&mut self, round: Round, newest: Round, now: Timestamp) {
        self.answered = self.answered.max(round.min(newest));
        self.heard = now;
    }

    /// The log there matches up to `matched`.
    pub(super) fn accepts(&mut self, matched: LogIndex) {
        self.matched = self.matched.max(matched);
        self.next = self.next.max(self.matched.next());
        match &mut self.mode {
            Mode::Probe { .. } => self.mode = Mode::Replicate { in_flight: VecDeque::new() },
            Mode::Replicate { in_flight } => {
                while in_flight.front().is_some_and(|last| *last <= matched) {
                    in_flight.pop_front();
                }
            }
            Mode::Snapshot { last, .. } => {
                if self.matched >= last.index {
                    self.mode = Mode::Replicate { in_flight: VecDeque::new() };
                }
            }
        }
    }

    /// The log there lacks `previous`, and matches this one at `possible_match` at the latest.
    ///
    /// Answers to what was sent before the last answer are recognised and ignored: `previous`
    /// is then known to match, or is not what is being probed.
    pub(super) fn rejects(&mut self, previous: LogIndex, possible_match: LogIndex) {
        let is_news = match &self.mode {
            Mode::Probe { .. } => previous.next() == self.next,
            Mode::Replicate { .. } => previous < self.next,
            Mode::Snapshot { .. } => false,
        };
        if is_news && previous > self.matched {
            let last_candidate = possible_match.min(previous.previous()).max(self.matched);
            self.next = last_candidate.next();
            self.mode = Mode::Probe { waiting: false };
        }
    }

    /// Whether entries may be sent, where there are any.
    pub(super) fn may_send(&self, in_flight_max: usize) -> bool {
        match &self.mode {
            Mode::Probe { waiting } => !waiting,
            Mode::Replicate { in_flight } => in_flight.len() < in_flight_max,
            Mode::Snapshot { .. } => false,
        }
    }

    /// Takes note that entries up to `last` were sent.
    pub(super) fn sent(&mut self, last: LogIndex) {
        match &mut self.mode {
            Mode::Probe { waiting } => *waiting = true,
            Mode::Replicate { in_flight } => {
                in_flight.push_back(last);
                self.next = last.next();
            }
            Mode::Snapshot { .. } => {}
        }
    }
}
