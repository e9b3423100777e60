//! The client's side: numbers, and which of them are open.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::{SessionCommand, SessionId};

/// One client's session: it numbers commands, and tells the cluster which replies it has.
///
/// Several commands may be open at once. A session must not be shared by clients that do not know
/// of each other's numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    id: SessionId,
    next: u64,
    open: BTreeSet<u64>,
}

impl Session {
    /// The session that [`SessionReply::Registered`](super::SessionReply::Registered) named.
    #[must_use]
    pub fn new(id: SessionId) -> Self {
        Self { id, next: 1, open: BTreeSet::new() }
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// Numbers a command. Propose it, as often as it takes, until there is a reply; then
    /// [`end`](Session::end) it.
    pub fn begin(&mut self, command: Bytes) -> (u64, SessionCommand) {
        let number = self.next;
        self.next += 1;
        self.open.insert(number);
        let ended_below = self.open.first().copied().unwrap_or(number);
        let execute = SessionCommand::Execute { session: self.id, number, ended_below, command };
        (number, execute)
    }

    /// The reply to a command is there: the cluster need not keep it.
    pub fn end(&mut self, number: u64) {
        self.open.remove(&number);
    }
}
