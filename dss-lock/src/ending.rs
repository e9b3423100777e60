//! How sessions begin, show that they live, and end.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::command::Expiry;
use crate::limits::{RELEASES_PER_COMMAND, SESSIONS_MAX, TTL_DEFAULT};
use crate::lock::Lock;
use crate::names::SessionId;
use crate::reply::{Event, Limit, Outcome, Reply};
use crate::session::{OwnerState, Session};
use crate::slab::{Id, List};
use crate::table::{LockTable, Timer};

impl LockTable {
    pub(crate) fn open(
        &mut self,
        session: &SessionId,
        ttl: Duration,
        lock_delay: Option<Duration>,
        events: &mut Vec<Event>,
    ) -> Reply {
        Reply::Session(self.renew(session, Some(ttl), events).map(|id| {
            if let Some(delay) = lock_delay {
                self.sessions[id].set_lock_delay(delay);
            }
            self.view(id)
        }))
    }

    /// Notes a sign of life of `session`, and opens it where there is none.
    pub(crate) fn renew(
        &mut self,
        session: &SessionId,
        ttl: Option<Duration>,
        events: &mut Vec<Event>,
    ) -> Result<Id<Session>, Limit> {
        let hash = self.hash_of_session(session);
        let found = self.session_index.find(hash, |id| self.sessions[id].name == *session);
        let id = match found {
            Some(id) => id,
            None if self.sessions.len() >= SESSIONS_MAX => return Err(Limit::Sessions),
            None => {
                let new = || Session::new(session.clone(), hash, TTL_DEFAULT, self.index);
                let id = self.sessions.insert_with(new);
                self.session_index.insert(hash, id);
                id
            }
        };
        if let Some(ttl) = ttl {
            self.sessions[id].set_ttl(ttl);
        }
        self.note_life(id, events);
        Ok(id)
    }

    /// Notes a sign of life of a session that is there.
    pub(crate) fn note_life(&mut self, session: Id<Session>, events: &mut Vec<Event>) {
        let state = &mut self.sessions[session];
        state.renewal = self.index;
        events.push(Event::SessionRenewed {
            session: state.name.clone(),
            ttl: state.ttl,
            renewal: state.renewal,
        });
    }

    pub(crate) fn close(&mut self, session: &SessionId, events: &mut Vec<Event>) -> Reply {
        let found = self.find_session(session);
        if let Some(id) = found {
            // Whoever closes its session is done with what the locks protect.
            self.sessions[id].lock_delay = Duration::ZERO;
            self.end_sessions([id], events);
        }
        Reply::Closed(found.is_some())
    }

    pub(crate) fn expire(&mut self, expiries: &[Expiry], events: &mut Vec<Event>) -> Reply {
        let mut dead = BTreeSet::new();
        for expiry in expiries {
            if let Some(id) = self.find_session(&expiry.session)
                && self.sessions[id].renewal == expiry.renewal
            {
                dead.insert((expiry.session.clone(), id));
            }
        }
        self.end_sessions(dead.into_iter().map(|(_, id)| id), events);
        Reply::Done
    }

    /// Ends these sessions, all of their waits before anything is granted: what one gives up must
    /// not go to another that ends with it.
    ///
    /// From then on their tokens are void and their names free. What they hold is given up in
    /// portions, by this command and by those that follow.
    fn end_sessions(
        &mut self,
        sessions: impl IntoIterator<Item = Id<Session>>,
        events: &mut Vec<Event>,
    ) {
        let mut touched = Vec::new();
        for id in sessions {
            self.sessions[id].ended = Some(self.index);
            let mut next = self.sessions[id].owners.first;
            while let Some(owner) = next {
                next = self.owners[owner].by_session.behind;
                if self.owners[owner].waiting.is_some() {
                    touched.extend(self.end_wait(owner, Outcome::SessionExpired, events));
                }
            }
            let session = &self.sessions[id];
            events.push(Event::SessionEnded {
                session: session.name.clone(),
                renewal: session.renewal,
            });
            self.session_index.remove(session.hash, id);
            self.make_estate(id);
            self.estates.push_back(id);
        }
        self.settle_estates(touched, events);
    }

    /// Puts all that the owners of a session hold into one list, in the order of tokens.
    pub(crate) fn make_estate(&mut self, session: Id<Session>) {
        let mut holds = Vec::with_capacity(self.sessions[session].locks);
        let mut next = self.sessions[session].owners.first;
        while let Some(owner) = next {
            let state = &mut self.owners[owner];
            next = state.by_session.behind;
            let list = std::mem::take(&mut state.holds);
            let list = list.iter(&self.holds, |hold| &hold.by_owner);
            holds.extend(list.map(|(id, hold)| (hold.grant.token, id)));
        }
        holds.sort_unstable_by_key(|(token, _)| *token);
        let mut estate = List::default();
        for (_, hold) in holds {
            estate.push_back(&mut self.holds, hold, |hold| &mut hold.by_owner);
        }
        self.sessions[session].estate = estate;
    }

    /// Gives up the next portion of what ended sessions hold, and grants that and what was
    /// `touched` to whoever waits for it, in the order of names.
    pub(crate) fn settle_estates(&mut self, mut touched: Vec<Id<Lock>>, events: &mut Vec<Event>) {
        let mut left = RELEASES_PER_COMMAND;
        while let Some(session) = self.estates.front().copied() {
            while left > 0
                && let Some(hold) = self.sessions[session].estate.first
            {
                let (lock, owner) = (self.holds[hold].lock, self.holds[hold].owner);
                self.remove_hold(hold);
                self.delay(lock, owner);
                touched.push(lock);
                left -= 1;
            }
            if !self.sessions[session].estate.is_empty() {
                break;
            }
            self.estates.pop_front();
            self.forget_session(session);
        }
        touched.sort_unstable_by(|a, b| self.locks[*a].name.cmp(&self.locks[*b].name));
        touched.dedup();
        for lock in touched {
            self.grant_waiting(lock, events);
        }
    }

    fn forget_session(&mut self, session: Id<Session>) {
        while let Some(owner) = self.sessions[session].owners.first {
            self.forget_owner(owner);
        }
        self.sessions.remove(session);
    }

    /// Keeps a lock back that `owner` has lost without giving it up.
    pub(crate) fn delay(&mut self, lock: Id<Lock>, owner: Id<OwnerState>) {
        let delay = self.sessions[self.owners[owner].session].lock_delay;
        if delay.is_zero() {
            return;
        }
        let until = self.now.after(delay);
        let entry = &mut self.locks[lock];
        if let Some(earlier) = entry.delayed_until {
            if earlier >= until {
                return;
            }
            self.timers.remove(&(earlier, Timer::Delay { lock }));
        }
        entry.delayed_until = Some(until);
        self.timers.insert((until, Timer::Delay { lock }));
    }
}
