//! Which owners there are: by session and name, in use or idle.

use crate::limits::IDLE_OWNERS_MAX;
use crate::names::{Owner, OwnerId};
use crate::session::{OwnerState, Session};
use crate::slab::Id;
use crate::table::{LockTable, mix};

impl LockTable {
    fn hash_of_owner(&self, session: Id<Session>, owner: &OwnerId) -> u64 {
        // Owners of one name in different sessions are told apart by the seed.
        let seed = self.seed ^ mix(u64::from(session.number()));
        owner.as_ref().hash(seed)
    }

    pub(crate) fn find_owner_of(
        &self,
        session: Id<Session>,
        owner: &OwnerId,
    ) -> Option<Id<OwnerState>> {
        let hash = self.hash_of_owner(session, owner);
        self.find_owner_entry(hash, session, owner)
    }

    fn find_owner_entry(
        &self,
        hash: u64,
        session: Id<Session>,
        owner: &OwnerId,
    ) -> Option<Id<OwnerState>> {
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
        if let Some(found) = self.find_owner_entry(hash, session, owner) {
            self.wake(found);
            return found;
        }
        let id = self.owners.insert_with(|| OwnerState::new(session, owner.clone(), hash));
        self.nodes.make_room(id);
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
    #[inline]
    pub(crate) fn settle(&mut self, owner: Id<OwnerState>) {
        let state = &self.owners[owner];
        if state.is_idle() && state.idle_since.is_none() {
            self.retire(owner);
        }
    }

    fn retire(&mut self, owner: Id<OwnerState>) {
        let state = &self.owners[owner];
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
        self.owner_index.remove(self.owners[owner].hash, owner);
        self.owners.remove(owner);
    }
}
