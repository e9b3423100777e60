//! What a leader knows of one other member.

use std::collections::VecDeque;

use crate::entry::{Configuration, Snapshot};
use crate::message::Round;
use crate::types::{LogIdentity, LogIndex, NodeId, Timestamp};

/// One other member, as its leader sees it (figure 2, volatile state on leaders).
///
/// Invariants: `matched < next`; `matched` never falls within a term.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Peer {
    pub(super) node: NodeId,
    /// Where it counts.
    pub(super) seat: Seat,
    /// The log that it has shown.
    pub(super) log: LogIdentity,
    /// When to forget it, where it is no member any more.
    pub(super) departs_at: Option<Timestamp>,
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
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Mode {
    /// Looking for the last common entry, one message at a time.
    Probe {
        /// Whether one is under way; a heartbeat repeats it without entries.
        waiting: bool,
    },
    /// Streaming: `next` runs ahead of `matched` by what is in flight.
    Replicate {
        /// What is not answered.
        in_flight: InFlight,
    },
    /// Being sent a snapshot.
    Snapshot {
        /// Which.
        offered: Snapshot,
        /// When to offer it again.
        resend_at: Timestamp,
    },
}

/// In which of the two sets of voters a member counts; in none, if it is a learner, or if it has
/// lost its log and with it what it promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Seat {
    pub(super) incoming: bool,
    pub(super) outgoing: bool,
}

impl Seat {
    pub(super) fn in_configuration(configuration: &Configuration, node: NodeId) -> Self {
        Self {
            incoming: configuration.voters.contains(&node),
            outgoing: configuration.outgoing.contains(&node),
        }
    }

    pub(super) fn is_voter(self) -> bool {
        self.incoming || self.outgoing
    }
}

/// The messages with entries that a member was sent and has not answered.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct InFlight {
    /// The last entry of each, and what its entries weigh.
    messages: VecDeque<(LogIndex, usize)>,
    weight: usize,
}

impl InFlight {
    fn push(&mut self, last: LogIndex, weight: usize) {
        self.messages.push_back((last, weight));
        self.weight += weight;
    }

    fn answered(&mut self, matched: LogIndex) {
        while let Some((last, weight)) = self.messages.front().copied()
            && last <= matched
        {
            self.messages.pop_front();
            self.weight -= weight;
        }
    }
}

impl Peer {
    pub(super) fn new(node: NodeId, next: LogIndex, now: Timestamp) -> Self {
        Self {
            node,
            seat: Seat::default(),
            log: LogIdentity::UNKNOWN,
            departs_at: None,
            matched: LogIndex::ZERO,
            next,
            mode: Mode::Probe { waiting: false },
            answered: Round::default(),
            heard: now,
            heartbeat_due: true,
            commit_told: LogIndex::ZERO,
        }
    }

    /// Takes its place in `configuration`.
    pub(super) fn sit(&mut self, configuration: &Configuration) {
        self.seat = if configuration.recognises(self.node, self.log) {
            Seat::in_configuration(configuration, self.node)
        } else {
            Seat::default()
        };
    }

    /// Forgets what it had, and begins anew in front of `next`.
    pub(super) fn forget(&mut self, next: LogIndex) {
        self.matched = LogIndex::ZERO;
        self.next = next;
        self.mode = Mode::Probe { waiting: false };
        self.answered = Round::default();
        self.commit_told = LogIndex::ZERO;
    }

    /// Whether it has answered anything in this term.
    pub(super) fn has_answered(&self) -> bool {
        self.answered > Round::default()
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
            Mode::Probe { .. } => self.mode = Mode::Replicate { in_flight: InFlight::default() },
            Mode::Replicate { in_flight } => in_flight.answered(matched),
            Mode::Snapshot { offered, .. } => {
                if self.matched >= offered.last.index {
                    self.mode = Mode::Replicate { in_flight: InFlight::default() };
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

    /// How much of entries may be sent now, where there are any; nothing where nothing may.
    pub(super) fn allowance(&self, messages_max: usize, bytes_max: usize) -> Option<usize> {
        match &self.mode {
            Mode::Probe { waiting } => (!waiting).then_some(bytes_max),
            Mode::Replicate { in_flight } => (in_flight.messages.len() < messages_max
                && in_flight.weight < bytes_max)
                .then(|| bytes_max - in_flight.weight),
            Mode::Snapshot { .. } => None,
        }
    }

    /// Takes note that entries up to `last` were sent, which weigh `weight`.
    pub(super) fn sent(&mut self, last: LogIndex, weight: usize) {
        match &mut self.mode {
            Mode::Probe { waiting } => *waiting = true,
            Mode::Replicate { in_flight } => {
                in_flight.push(last, weight);
                self.next = last.next();
            }
            Mode::Snapshot { .. } => {}
        }
    }
}
