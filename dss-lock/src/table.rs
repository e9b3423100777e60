//! The lock table: one step per command.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::command::Command;
use crate::deadlock::Search;
use crate::index::HashIndex;
use crate::limits::IDLE_OWNERS_MAX;
use crate::lock::{Hold, Lock, Place, Waiting};
use crate::names::{LockName, Owner, OwnerId, SessionId};
use crate::numbers::{ClusterTime, FencingToken};
use crate::reply::{DeadlockInfo, Event, Outcome, Reply};
use crate::session::{OwnerState, Session};
use crate::slab::{Id, List, Slab};

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
    /// Locks that are idle and as good as forgotten, the longest idle first.
    pub(crate) parked: List<Lock>,
    pub(crate) sessions: Slab<Session>,
    /// Those that live.
    pub(crate) session_index: HashIndex<Session>,
    pub(crate) owners: Slab<OwnerState>,
    pub(crate) owner_index: HashIndex<OwnerState>,
    pub(crate) holds: Slab<Hold>,
    /// By lock and owner.
    pub(crate) hold_index: HashIndex<Hold>,
    pub(crate) waits: Slab<Waiting>,
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
    Wait { arrived: u64, waiting: Id<Waiting> },
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
        let reply = match command {
            Command::OpenSession { session, ttl, lock_delay } => {
                self.open(&session, ttl, lock_delay, events)
            }
            Command::Renew { session } => {
                let found = self.find_session(&session);
                Reply::Renewed(found.map(|id| {
                    self.note_life(id, events);
                    self.view(id)
                }))
            }
            Command::CloseSession { session } => self.close(&session, events),
            Command::Expire { sessions } => self.expire(&sessions, events),
            Command::Acquire { attempt, request } => self.acquire(attempt, request, events),
            Command::AcquireAll { attempt, request } => self.acquire_all(attempt, request, events),
            Command::Cancel { attempt, locks, owner } => {
                self.cancel(attempt, &locks, &owner, events)
            }
            Command::Release(request) => self.release(&request, events),
            Command::Downgrade(request) => self.downgrade(&request, events),
            Command::ForceRelease { lock } => self.force_release(&lock, events),
            Command::Tick => Reply::Done,
        };
        if inherited {
            self.settle_estates(Vec::new(), events);
        }
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
                Timer::Wait { waiting, .. } => {
                    let locks = self.end_wait(waiting, Outcome::TimedOut, events);
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
        xxh3_64_with_seed(session.as_ref(), self.seed)
    }

    pub(crate) fn find_session(&self, session: &SessionId) -> Option<Id<Session>> {
        let hash = self.hash_of_session(session);
        self.session_index.find(hash, |id| self.sessions[id].name == *session)
    }

    fn hash_of_owner(&self, session: Id<Session>, owner: &OwnerId) -> u64 {
        // Owners of one name in different sessions are told apart by the seed.
        let seed = self.seed ^ mix(u64::from(session.number()));
        xxh3_64_with_seed(owner.as_ref(), seed)
    }

    pub(crate) fn find_owner_of(
        &self,
        session: Id<Session>,
        owner: &OwnerId,
    ) -> Option<Id<OwnerState>> {
        let hash = self.hash_of_owner(session, owner);
        self.owner_index.find(hash, |id| {
            let state = &self.owners[id];
            state.session == session && state.name == *owner
        })
    }

    pub(crate) fn find_owner(&self, owner: &Owner) -> Option<Id<OwnerState>> {
        self.find_owner_of(self.find_session(&owner.session)?, &owner.owner)
    }

    /// The owner of this name, which is made where there is none. Followed, once the command is
    /// done, by [`settle`](LockTable::settle).
    pub(crate) fn make_owner(&mut self, session: Id<Session>, owner: &OwnerId) -> Id<OwnerState> {
        let hash = self.hash_of_owner(session, owner);
        let found = self.owner_index.find(hash, |id| {
            let state = &self.owners[id];
            state.session == session && state.name == *owner
        });
        if let Some(found) = found {
            self.wake(found);
            return found;
        }
        let id = self.owners.insert(OwnerState::new(session, owner.clone(), hash));
        self.owner_index.insert(hash, id);
        let owners = &mut self.sessions[session].owners;
        owners.push_back(&mut self.owners, id, |owner| &mut owner.by_session);
        id
    }

    /// An owner is idle no more.
    fn wake(&mut self, owner: Id<OwnerState>) {
        let state = &mut self.owners[owner];
        if state.idle_since.take().is_some() {
            let idle = &mut self.sessions[state.session].idle;
            idle.remove(&mut self.owners, owner, |owner| &mut owner.by_idling);
        }
    }

    /// Forgets an owner of a living session if there is nothing to remember of it, and sees to it
    /// that not too many are remembered for their answers alone.
    pub(crate) fn settle(&mut self, owner: Id<OwnerState>) {
        let state = &self.owners[owner];
        if !state.is_idle() || state.idle_since.is_some() {
            return;
        }
        let session = state.session;
        if self.sessions[session].ended.is_some() {
            // It goes with its session, as soon as that holds nothing any more.
            return;
        }
        if state.records.is_empty() {
            self.forget_owner(owner);
            return;
        }
        self.set_idle(owner, self.index);
        let idle = self.sessions[session].idle;
        if idle.len > IDLE_OWNERS_MAX
            && let Some(longest) = idle.first
        {
            self.wake(longest);
            self.forget_owner(longest);
        }
    }

    /// Marks an idle owner as idle since `index`.
    pub(crate) fn set_idle(&mut self, owner: Id<OwnerState>, index: u64) {
        let state = &mut self.owners[owner];
        state.idle_since = Some(index);
        let state = &self.owners[owner];
        let idle = &mut self.sessions[state.session].idle;
        let mut before = idle.last;
        // Those that one command made idle are in the order of their names.
        while let Some(id) = before
            && let other = &self.owners[id]
            && (other.idle_since, &other.name) > (state.idle_since, &state.name)
        {
            before = other.by_idling.before;
        }
        idle.insert_behind(&mut self.owners, before, owner, |owner| &mut owner.by_idling);
    }

    pub(crate) fn forget_owner(&mut self, owner: Id<OwnerState>) {
        let session = self.owners[owner].session;
        let owners = &mut self.sessions[session].owners;
        owners.remove(&mut self.owners, owner, |owner| &mut owner.by_session);
        let state = self.owners.remove(owner);
        self.owner_index.remove(state.hash, owner);
    }

    pub(crate) fn find_hold(&self, lock: Id<Lock>, owner: Id<OwnerState>) -> Option<Id<Hold>> {
        self.hold_index.find(hash_of_hold(lock, owner), |id| {
            let hold = &self.holds[id];
            hold.lock == lock && hold.owner == owner
        })
    }

    pub(crate) fn name_of(&self, owner: Id<OwnerState>) -> Owner {
        let state = &self.owners[owner];
        Owner { session: self.session_name(owner).clone(), owner: state.name.clone() }
    }

    pub(crate) fn session_name(&self, owner: Id<OwnerState>) -> &SessionId {
        &self.sessions[self.owners[owner].session].name
    }
}

pub(crate) fn hash_of_hold(lock: Id<Lock>, owner: Id<OwnerState>) -> u64 {
    mix(u64::from(lock.number()) << 32 | u64::from(owner.number()))
}

/// Spreads small numbers over all bits (the finaliser of splitmix64).
fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
