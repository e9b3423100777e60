//! The lock table: one step per command.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::command::Command;
use crate::deadlock::Search;
use crate::index::HashIndex;
use crate::lock::{Hold, Lock, Place};
use crate::names::{LockName, Owner, SessionId};
use crate::numbers::{ClusterTime, FencingToken};
use crate::reply::{DeadlockInfo, Event, Outcome, Reply};
use crate::session::{Node, OwnerState, Session};
use crate::slab::{Beside, Id, Slab};

/// All locks and sessions: a deterministic machine without clock or randomness.
///
/// The same commands at the same indexes bring every replica into the same state with the same
/// answers. Every command ends by granting whatever it has made grantable, so there is never a
/// lock that waits for somebody to take it.
///
/// - Commands: [`apply`](LockTable::apply), or [`apply_into`](LockTable::apply_into) where the
///   events of many go into one buffer.
/// - When time alone will end a wait: [`next_deadline`](LockTable::next_deadline). Sessions end
///   only by command, since their signs of life need not all be in the log.
/// - Getters: [`lock`](LockTable::lock), [`locks`](LockTable::locks),
///   [`session`](LockTable::session), [`wait_for`](LockTable::wait_for),
///   [`deadlocks`](LockTable::deadlocks), [`is_valid`](LockTable::is_valid),
///   [`find`](LockTable::find).
/// - All of it as bytes: [`snapshot`](LockTable::snapshot), [`restore`](LockTable::restore).
///
/// Two tables are equal where their snapshots are: where nobody could ever tell them apart.
#[derive(Debug, Clone, Default)]
pub struct LockTable {
    /// Of the command that is, or was last, applied.
    pub(crate) index: u64,
    pub(crate) now: ClusterTime,
    /// Of the newest grant of any lock. Never falls: it is what fencing hangs on.
    pub(crate) newest_token: FencingToken,
    pub(crate) locks: Slab<Lock>,
    pub(crate) lock_index: HashIndex<Lock>,
    pub(crate) by_name: BTreeMap<LockName, Id<Lock>>,
    /// All locks that are idle and as good as forgotten, and some that were, the longest ago first.
    pub(crate) parked: VecDeque<Id<Lock>>,
    pub(crate) sessions: Slab<Session>,
    /// Those that live.
    pub(crate) session_index: HashIndex<Session>,
    pub(crate) owners: Slab<OwnerState>,
    pub(crate) nodes: Beside<OwnerState, Node>,
    pub(crate) owner_index: HashIndex<OwnerState>,
    pub(crate) holds: Slab<Hold>,
    pub(crate) places: Slab<Place>,
    pub(crate) timers: BTreeSet<(ClusterTime, Timer)>,
    /// Sessions that have ended and still have to give up what they held, the first one first.
    pub(crate) estates: VecDeque<Id<Session>>,
    /// The newest cycles that were found, the oldest first.
    pub(crate) deadlocks: VecDeque<DeadlockInfo>,
    pub(crate) search: Search,
    /// Of the hashes of names. No part of the state: it shows nowhere.
    pub(crate) seed: u64,
}

/// What happens at a time. At one and the same time locks are set free, in the order of their
/// names, before waits end, in the order of their arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// The delay of a lock ends.
    Delay { lock: Id<Lock> },
    /// A wait times out.
    Wait { arrived: u64, owner: Id<OwnerState> },
}

impl PartialEq for LockTable {
    fn eq(&self, other: &Self) -> bool {
        self.stored() == other.stored()
    }
}

impl Eq for LockTable {}

impl LockTable {
    /// A table without locks.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies the command that stands at `index` of the log, at the time `now`.
    ///
    /// Indexes rise; they name what commands create. Time that runs backwards is taken to stand
    /// still. Waits that end by `now` have timed out before the command is looked at.
    ///
    /// # Panics
    ///
    /// Where `index` is not greater than that of the last command: to apply one twice would grant
    /// what was not asked for.
    pub fn apply(&mut self, index: u64, now: ClusterTime, command: Command) -> (Reply, Vec<Event>) {
        let mut events = Vec::new();
        let reply = self.apply_into(index, now, command, &mut events);
        (reply, events)
    }

    /// [`apply`](LockTable::apply), with the events added to `events`.
    ///
    /// # Panics
    ///
    /// As [`apply`](LockTable::apply) does.
    #[expect(clippy::needless_pass_by_value, reason = "a command is done once, and used up by it")]
    pub fn apply_into(
        &mut self,
        index: u64,
        now: ClusterTime,
        command: Command,
        events: &mut Vec<Event>,
    ) -> Reply {
        assert!(index > self.index, "command {index} after command {}", self.index);
        self.index = index;
        self.now = self.now.max(now);
        self.pass_time(events);
        let inherited = !self.estates.is_empty();
        let reply = match &command {
            Command::OpenSession { session, ttl, lock_delay } => {
                self.open(session, *ttl, *lock_delay, events)
            }
            Command::Renew { session } => {
                let found = self.find_session(session);
                Reply::Renewed(found.map(|id| {
                    self.note_life(id, events);
                    self.view(id)
                }))
            }
            Command::CloseSession { session } => self.close(session, events),
            Command::Expire { sessions } => self.expire(sessions, events),
            Command::Acquire { attempt, request } => self.acquire(*attempt, request, events),
            Command::AcquireAll { attempt, request } => self.acquire_all(*attempt, request, events),
            Command::Cancel { attempt, locks, owner } => {
                self.cancel(*attempt, locks, owner, events)
            }
            Command::Release(request) => self.release(request, events),
            Command::Downgrade(request) => self.downgrade(request, events),
            Command::ForceRelease { lock } => self.force_release(lock, events),
            Command::Tick => Reply::Done,
        };
        if inherited {
            self.settle_estates(Vec::new(), events);
        }
        self.clear_parked();
        reply
    }

    /// The index of the last command.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The time of the last command.
    #[must_use]
    pub fn now(&self) -> ClusterTime {
        self.now
    }

    /// The newest fencing token of all.
    #[must_use]
    pub fn newest_token(&self) -> FencingToken {
        self.newest_token
    }

    /// When there is next something to do: a wait times out, the delay of a lock ends, or, at
    /// once, a session that has ended goes on giving up what it held. From then on any command,
    /// [`Command::Tick`] for want of another, will do it.
    #[must_use]
    pub fn next_deadline(&self) -> Option<ClusterTime> {
        if !self.estates.is_empty() {
            return Some(self.now);
        }
        self.timers.first().map(|(deadline, _)| *deadline)
    }

    /// Does what the time has come for, the earliest first, so that whoever a time-out lets
    /// through is granted at that time and does not time out with it.
    fn pass_time(&mut self, events: &mut Vec<Event>) {
        while let Some((deadline, timer)) = self.timers.first().copied()
            && deadline <= self.now
        {
            match timer {
                Timer::Delay { .. } => self.end_delays(deadline, events),
                Timer::Wait { owner, .. } => {
                    let locks = self.end_wait(owner, Outcome::TimedOut, events);
                    self.settle(owner);
                    for lock in locks {
                        self.grant_waiting(lock, events);
                    }
                }
            }
        }
    }

    fn end_delays(&mut self, deadline: ClusterTime, events: &mut Vec<Event>) {
        let mut due = Vec::new();
        while let Some((other, Timer::Delay { lock })) = self.timers.first().copied()
            && other == deadline
        {
            self.timers.pop_first();
            self.locks[lock].delayed_until = None;
            due.push(lock);
        }
        due.sort_unstable_by(|a, b| self.locks[*a].name.cmp(&self.locks[*b].name));
        for lock in due {
            self.grant_waiting(lock, events);
        }
    }

    pub(crate) fn hash_of_session(&self, session: &SessionId) -> u64 {
        session.as_ref().hash(self.seed)
    }

    pub(crate) fn find_session(&self, session: &SessionId) -> Option<Id<Session>> {
        let hash = self.hash_of_session(session);
        self.session_index.find(hash, |id| self.sessions[id].name == *session)
    }

    /// What `owner`, whose session lives, holds of the lock.
    ///
    /// The cost is that of the lock's holders, or of what the owner holds, whichever are fewer.
    #[inline]
    pub(crate) fn find_hold(&self, lock: Id<Lock>, owner: Id<OwnerState>) -> Option<Id<Hold>> {
        let (holders, holds) = (&self.locks[lock].holders, &self.owners[owner].holds);
        let found = if holders.len <= holds.len {
            holders.iter(&self.holds, |hold| &hold.by_lock).find(|(_, hold)| hold.owner == owner)
        } else {
            holds.iter(&self.holds, |hold| &hold.by_owner).find(|(_, hold)| hold.lock == lock)
        };
        found.map(|(id, _)| id)
    }

    pub(crate) fn name_of(&self, owner: Id<OwnerState>) -> Owner {
        let state = &self.owners[owner];
        Owner { session: self.session_name(owner).clone(), owner: state.name.clone() }
    }

    #[inline]
    pub(crate) fn session_name(&self, owner: Id<OwnerState>) -> &SessionId {
        &self.sessions[self.owners[owner].session].name
    }
}

/// Spreads small numbers over all bits (the finaliser of splitmix64).
pub(crate) fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
